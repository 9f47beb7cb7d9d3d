"""What the catalog has, and what the published files say it lacks; names alone are looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from duckdb import DuckDBPyConnection

from store import artifacts, runs
from store.errors import StoreError
from store.shards import commits


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """What the catalog already has of a run."""

    run_id: int
    status: str
    shards: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the catalog already has."""

    runs: Mapping[str, KnownRun] = field(default_factory=dict)
    artifacts: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the catalog does not have yet, or no longer should."""

    changed: tuple[Path, ...]
    """Files and directories to enter."""
    gone: tuple[str, ...]
    """UUIDs of what was deleted."""

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


def known(con: DuckDBPyConnection, schema: str) -> Known:
    """Read what a catalog has."""
    rows = con.execute(f"""
        SELECT uuid, run_id, status, list(shard_id) FILTER (shard_id IS NOT NULL)
        FROM {schema}.run LEFT JOIN {schema}.shard USING (run_id) GROUP BY ALL
    """).fetchall()
    learned, measured = (
        frozenset(uuid for (uuid,) in con.execute(f"SELECT uuid FROM {schema}.{name}").fetchall())
        for name in ("artifact", "result")
    )
    entries = {
        uuid: KnownRun(run_id=run_id, status=status, shards=frozenset(shards or ()))
        for uuid, run_id, status, shards in rows
    }
    return Known(runs=entries, artifacts=learned, results=measured)


def find_work(root: Path, have: Known, refused: frozenset[Path] = frozenset()) -> Work:
    """Compare the files with the catalog, without opening any: names are enough.

    What was refused before, because it could not be read, is not tried again.
    """
    captured = list(runs.directories(root / "runs", runs.RUN))
    learned = list(runs.directories(root / "artifacts", artifacts.ARTIFACT))
    measured = list(artifacts.results(root / "results"))
    changed = [
        *(path for path in captured if _run_changed(path, have.runs.get(path.name))),
        *(path for path in learned if path.name not in have.artifacts),
        *(path for path in measured if path.stem not in have.results),
    ]
    there = {path.stem for path in (*captured, *learned, *measured)}
    gone = ({*have.runs} | have.artifacts | have.results) - there
    wanted = tuple(path for path in changed if path not in refused)
    return Work(changed=wanted, gone=tuple(sorted(gone)))


def _run_changed(directory: Path, have: KnownRun | None) -> bool:
    if have is None:
        return True
    if have.status == "sealed":
        return False
    if len(commits(directory)) > len(have.shards):
        return True
    # What failed may have been resumed since, which the name of end.json alone does not tell.
    ended = (directory / runs.END).exists()
    status = "open" if not ended else _ending_of(directory) if have.status == "failed" else "ended"
    return status != have.status


def _ending_of(directory: Path) -> str:
    try:
        ending = runs.read_ending(directory)
    except StoreError:
        return "damaged"
    return "open" if ending is None else ending.status
