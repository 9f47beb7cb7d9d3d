"""What was learned and what was measured, as immutable files: artifacts and result tables."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load

from store import locks, tensors
from store.errors import NewerFormatError
from store.files import (
    FileRecord,
    check_hash,
    damaged,
    publish,
    publish_json,
    publish_table,
    sync,
    writing,
)
from store.migrations import TABLES
from store.records import Artifact, as_json, checked_text, now, unique
from store.runs import checked, is_uuid, plain, to_artifact
from store.shards import FORMAT

ARTIFACT, ARRAYS = "artifact.json", "arrays.safetensors"

_KEY = b"workbench.result"
_NUMBER = re.compile(r"(([A-Z]*INT|INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)|NULL)){2}$")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,62}")


def save(directory: Path, artifact: Artifact, arrays: Mapping[str, np.ndarray]) -> None:
    """Publish an artifact: arrays first, then artifact.json, which makes it visible.

    Raises ValueError for an array that safetensors cannot hold, or a uuid that is taken.
    """
    little = {
        checked_text("the name of an array", key): np.ascontiguousarray(
            array, array.dtype.newbyteorder("<")
        ).reshape(array.shape)
        for key, array in arrays.items()
    }
    head = tensors.header(little, None, {"artifact": artifact.uuid})
    if (directory / ARTIFACT).exists():
        raise ValueError(f"artifact {artifact.uuid} exists: leave its uuid out to get a new one")
    with writing(directory):
        handle = _begin(directory)
        sync(directory.parent)
    try:
        file = publish(directory / ARRAYS, lambda out: tensors.write(out, head, little))
        shapes = {key: list(array.shape) for key, array in arrays.items()}
        publish_json(directory / ARTIFACT, {
            "format": FORMAT, **plain(artifact), "arrays": shapes, "file": asdict(file),
        })  # fmt: skip
    except BaseException:
        (directory / ARRAYS).unlink(missing_ok=True)
        directory.rmdir()
        raise
    finally:
        os.close(handle)


def _begin(directory: Path) -> int:
    """Hold the artifact's directory, which a killed process may have left half-made."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        return locks.make(directory)
    except FileExistsError:
        return locks.take(directory)


def read(directory: Path) -> tuple[Artifact, FileRecord]:
    """Read an artifact's record; raises NewerFormatError or DamagedError."""
    found = checked(directory / ARTIFACT)
    try:
        found.pop("arrays")
        file = FileRecord(**found.pop("file"))
        return to_artifact(found), file
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(directory / ARTIFACT, f"it is no artifact ({error})") from error


def read_arrays(directory: Path, file: FileRecord) -> dict[str, np.ndarray]:
    """Read an artifact's arrays in their order, checking every byte; raises DamagedError."""
    check_hash(directory, file)
    path = directory / file.name
    try:
        content = path.read_bytes()
        found = load(content)
    except SafetensorError as error:
        raise damaged(path, str(error)) from error
    # safetensors gives them in any order; the header has the one they were saved in.
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {key: found[key] for key in head if key in found}


def check_result(con: duckdb.DuckDBPyConnection, kind: str, rows: pa.Table) -> None:
    """Check that rows can join the earlier ones of their kind; raises ValueError."""
    if not _KIND.fullmatch(kind) or kind in TABLES or kind.startswith("activation_"):
        raise ValueError(
            f"results cannot be called {kind!r}: use small letters, digits and _, and none of "
            f"{', '.join(TABLES)}, activation_..."
        )
    if "result" in rows.column_names or not rows.num_columns:
        raise ValueError("a result table needs columns, none of them called result: rename it")
    if not con.execute("SELECT 1 FROM duckdb_views() WHERE view_name = ?", [kind]).fetchall():
        return
    con.register("incoming", _without_halves(rows))
    ours, theirs = _types(con, kind), _types(con, "incoming")
    con.unregister("incoming")
    for column in ours.keys() & theirs.keys():
        agree = ours[column] == theirs[column] or _NUMBER.match(ours[column] + theirs[column])
        if not agree and con.execute(f'SELECT count("{column}") FROM "{kind}"').fetchall()[0][0]:
            raise ValueError(
                f"these rows cannot join the earlier {kind} rows: {column} was {ours[column]} and "
                f"is {theirs[column]} now; convert it, or rename it"
            )


def _types(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return {row[0]: row[1] for row in con.execute(f'DESCRIBE "{table}"').fetchall()}


def save_result(directory: Path, kind: str, rows: pa.Table, about: Mapping[str, Any]) -> str:
    """Publish checked rows and return their uuid; raises ValueError for an empty `about`."""
    if not about:
        raise ValueError(f"{kind} rows say nothing about themselves: pass about={{'run': ...}}")
    uuid = unique()
    record = {
        "format": FORMAT, "uuid": uuid, "kind": kind, "created_at": now().isoformat(),
        "about": as_json("about", about),
    }  # fmt: skip
    table = _without_halves(rows).replace_schema_metadata({_KEY: json.dumps(record).encode()})
    with writing(directory):
        directory.mkdir(exist_ok=True)
        sync(directory.parent)
    publish_table(directory / f"{uuid}.parquet", table)
    return uuid


def results(directory: Path) -> Iterator[Path]:
    """List the published result files."""
    if directory.is_dir():
        yield from (path for path in sorted(directory.glob("*.parquet")) if is_uuid(path.stem))


def read_result(path: Path) -> dict[str, Any]:
    """Read what a result file says of itself; raises NewerFormatError or DamagedError."""
    try:
        found = json.loads((pq.read_schema(path).metadata or {})[_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise damaged(path, "it is no result file") from error
    if found["format"] > FORMAT:
        raise NewerFormatError(f"{path} was written by a later version: upgrade to read it")
    return found


def _without_halves(rows: pa.Table) -> pa.Table:
    """DuckDB has no half type, so such columns become float32, in lists too."""
    return rows.cast(pa.schema([field.with_type(_whole(field.type)) for field in rows.schema]))


def _whole(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_whole(kind.value_type), kind.list_size)
    return pa.list_(_whole(kind.value_type)) if pa.types.is_list(kind) else kind
