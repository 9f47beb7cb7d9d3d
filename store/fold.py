"""From published files to rows of the catalog: how they are entered, and removed again."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection

from store import artifacts, runs
from store.changes import Known, Work, known
from store.errors import StoreError
from store.files import read_table
from store.records import as_json
from store.runs import Ending, Opening
from store.shards import COMMIT, Shard, commits, read_commit
from store.sites import Site

logger = logging.getLogger(__name__)

TOGETHER = 256
"""Shards entered at a time: far quicker than one by one, and their tokens fit in memory."""

RUN_TABLES = ("token", "prompt", "shard_stat", "shard_file", "shard", "site", "run")


def fold(con: DuckDBPyConnection, root: Path, work: Work) -> tuple[Path, ...]:
    """Enter the work, in one transaction; returns what could not be read, which is left out."""
    have, refused = known(con, "main"), []
    entries: dict[str, Callable[[DuckDBPyConnection, Path, Known], None]] = {
        "artifacts": _enter_artifact, "results": _enter_result,
    }  # fmt: skip
    con.execute("BEGIN")
    for uuid in work.gone:
        _remove(con, uuid, have)
    for path in sorted(work.changed, key=_age):
        home = path.relative_to(root).parts[0]
        try:
            entries.get(home, _enter_run)(con, path, have)
        except (StoreError, OSError) as error:
            logger.warning("left out of SQL: %s", error)
            refused.append(path)
    con.execute("COMMIT")
    return tuple(refused)


def _age(path: Path) -> tuple[str, str]:
    """Sort runs by when they began, so that a rebuilt catalog numbers them alike."""
    try:
        return runs.read_opening(path).run.created_at.isoformat(), path.name
    except (StoreError, OSError):
        return "", path.name


def _enter_run(con: DuckDBPyConnection, directory: Path, have: Known) -> None:
    opening, ending = runs.read_opening(directory), runs.read_ending(directory)
    entry = have.runs.get(directory.name)
    new = [
        path for path in commits(directory)
        if entry is None or int(path.name[: -len(COMMIT)]) not in entry.shards
    ]  # fmt: skip
    run_id = None if entry is None else entry.run_id
    for start in range(0, len(new), TOGETHER):
        shards = [read_commit(path) for path in new[start : start + TOGETHER]]
        tokens = pa.concat_tables([_numbered(directory, shard) for shard in shards])
        prompts = [read_table(directory / shard.prompts.name) for shard in shards]
        sums = [_sums(directory, shard) for shard in shards]
        run_id = _new_run(con, opening) if run_id is None else run_id
        _enter_shards(con, run_id, shards)
        _insert(con, "shard_stat", pa.concat_tables(sums), run_id)
        _insert(con, "token", tokens, run_id)
        _insert(con, "prompt", pa.concat_tables(prompts), run_id)
    run_id = _new_run(con, opening) if run_id is None else run_id
    _set_status(con, run_id, ending)


def _numbered(directory: Path, shard: Shard) -> pa.Table:
    rows = pa.array(np.arange(shard.row0, shard.row0 + shard.n))
    tokens = read_table(directory / f"{shard.shard:05d}{COMMIT}")
    return tokens.replace_schema_metadata(None).append_column("row", rows)


def _sums(directory: Path, shard: Shard) -> pa.Table:
    sums = read_table(directory / shard.stats.name)
    return sums.append_column("shard_id", pa.array([shard.shard] * len(sums), pa.int32()))


def _new_run(con: DuckDBPyConnection, opening: Opening) -> int:
    run = opening.run
    (run_id,) = con.execute("SELECT coalesce(max(run_id), 0) + 1 FROM run").fetchall()[0]
    row = {
        **asdict(run), "config": as_json("config", run.config), "status": "open",
        "created_at": _utc(run.created_at), **asdict(run.fingerprint),
    }  # fmt: skip
    row.pop("fingerprint")
    _insert(con, "run", _rows(row), run_id)
    for site_id, (site, d) in enumerate(opening.sites.items()):
        columns = {"site_id": site_id, "site": str(site), **asdict(site), "d": d}
        _insert(con, "site", _rows({**columns, "dtype": run.dtype}), run_id)
    return run_id


def _enter_shards(con: DuckDBPyConnection, run_id: int, shards: Sequence[Shard]) -> None:
    counts = ("row0", "n", "prompt0", "n_prompts", "bytes")
    rows = [
        {"shard_id": shard.shard, **{name: getattr(shard, name) for name in counts}}
        for shard in shards
    ]
    files = [
        {
            "shard_id": shard.shard, "d": series.d, "file": series.file.name,
            "bytes": series.file.bytes, "xxh3": series.file.xxh3, "data_off": series.data_off,
        }
        for shard in shards for series in shard.series
    ]  # fmt: skip
    _insert(con, "shard", _rows(*rows), run_id)
    _insert(con, "shard_file", _rows(*files), run_id)


def _set_status(con: DuckDBPyConnection, run_id: int, ending: Ending | None) -> None:
    """A run that failed may have been resumed, and is open again."""
    con.execute(
        "UPDATE run SET status = ?, error = ? WHERE run_id = ?",
        [ending.status, ending.error, run_id] if ending else ["open", None, run_id],
    )


def _enter_artifact(con: DuckDBPyConnection, directory: Path, _: Known) -> None:
    artifact, file = artifacts.read(directory)
    arrays = artifacts.read_arrays(directory, file)
    row = {
        **asdict(artifact), "settings": as_json("settings", artifact.settings),
        "created_at": _utc(artifact.created_at), **asdict(artifact.fingerprint),
    }  # fmt: skip
    row.pop("fingerprint")
    _insert(con, "artifact", _rows(row))
    for key, array in arrays.items():
        if array.ndim == 1 and array.size and np.issubdtype(array.dtype, np.floating):
            _insert(con, "direction", _rows({
                "artifact": artifact.uuid, "name": f"{artifact.name}/{key}", "key": key,
                "site": _site(key), "d": len(array), "vec": array.astype(np.float32).tolist(),
            }))  # fmt: skip


def _enter_result(con: DuckDBPyConnection, path: Path, _: Known) -> None:
    about = artifacts.read_result(path)
    rows = read_table(path).replace_schema_metadata(None)
    rows = rows.add_column(0, "result", pa.array([about["uuid"]] * len(rows), pa.string()))
    kind = about["kind"]
    there = con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [kind]).fetchall()
    con.register("incoming", rows)
    before = f'SELECT * FROM main."{kind}" UNION ALL BY NAME' if there else ""
    con.execute(f'CREATE OR REPLACE TABLE main."{kind}" AS {before} SELECT * FROM incoming')
    con.unregister("incoming")
    created = _utc(datetime.fromisoformat(about["created_at"]))
    record = {"uuid": about["uuid"], "kind": kind, "about": about["about"], "created_at": created}
    _insert(con, "result", _rows(record))


def _remove(con: DuckDBPyConnection, uuid: str, have: Known) -> None:
    if uuid in have.runs:
        for table in RUN_TABLES:
            con.execute(f"DELETE FROM {table} WHERE run_id = ?", [have.runs[uuid].run_id])
    if uuid in have.results:
        kind = con.execute("SELECT kind FROM result WHERE uuid = ?", [uuid]).fetchall()[0][0]
        con.execute(f'DELETE FROM main."{kind}" WHERE result = ?', [uuid])
        con.execute("DELETE FROM result WHERE uuid = ?", [uuid])
    if uuid in have.artifacts:
        con.execute("DELETE FROM direction WHERE artifact = ?", [uuid])
        con.execute("DELETE FROM artifact WHERE uuid = ?", [uuid])


def _insert(con: DuckDBPyConnection, table: str, rows: pa.Table, run_id: int | None = None) -> None:
    con.register("incoming", rows.replace_schema_metadata(None))
    extra = "" if run_id is None else f"{run_id} AS run_id, "
    con.execute(f"INSERT INTO {table} BY NAME SELECT {extra}* FROM incoming")
    con.unregister("incoming")


def _rows(*rows: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows])


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _site(key: str) -> str | None:
    try:
        return str(Site.parse(key))
    except ValueError:
        return None
