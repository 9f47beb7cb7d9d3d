"""Reading every byte again, against what was recorded when it was written."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from store import artifacts, runs
from store.errors import DamagedError, StoreError
from store.files import FileRecord, check_hash, damaged, read_table
from store.shards import COMMIT, commits, files, read_commit
from store.store import Store

_FINDINGS = pa.schema([("kind", pa.string()), ("uuid", pa.string()), ("problem", pa.string())])


def verify(directory: Path) -> int:
    """Check every file of a run and count their bytes; raises DamagedError at the first wrong one.

    The commit records of a sealed run are vouched for by its end.json; those of a run that has not
    ended by the checksums of their pages.
    """
    total = 0
    for size, problem in _files_of_run(directory):
        if problem is not None:
            raise problem
        total += size
    return total


def findings(store: Store, ref: str | None = None) -> tuple[int, pa.Table]:
    """Check the whole store, or one run: the bytes that are right, and a row for what is not.

    Columns kind (run, artifact or result), uuid and problem. Raises LookupError.
    """
    total, wrong = 0, []
    for kind, uuid, size, problem in _everything(store, ref):
        total += size
        if problem is not None:
            wrong.append({"kind": kind, "uuid": uuid, "problem": str(problem)})
    return total, pa.Table.from_pylist(wrong, _FINDINGS)


def _everything(store: Store, ref: str | None) -> Iterator[tuple[str, str, int, StoreError | None]]:
    root = store.path
    wanted = None if ref is None else store.run(ref).uuid
    for directory in sorted((root / "runs").glob("*")):
        if runs.is_uuid(directory.name) and wanted in (None, directory.name):
            for size, problem in _files_of_run(directory):
                yield "run", directory.name, size, problem
    if wanted is not None:
        return
    for directory in runs.directories(root / "artifacts", artifacts.ARTIFACT):
        yield "artifact", directory.name, *_artifact(directory)
    for path in artifacts.results(root / "results"):
        yield "result", path.stem, *_result(path)


def _files_of_run(directory: Path) -> Iterator[tuple[int, StoreError | None]]:
    """The size of every file that is right, and what is wrong with the others."""
    try:
        runs.read_opening(directory)
        ending = runs.read_ending(directory)
    except StoreError as error:
        yield 0, error
        return
    for file in ending.commits if ending else ():
        yield 0, _checked(directory, file)
    for number, path in enumerate(commits(directory)):
        if path.name != f"{number:05d}{COMMIT}":
            yield 0, damaged(directory / f"{number:05d}{COMMIT}", "it is missing")
            return
        yield from _files_of_shard(directory, path)


def _files_of_shard(directory: Path, path: Path) -> Iterator[tuple[int, StoreError | None]]:
    try:
        read_table(path)
        records = files(read_commit(path))
    except StoreError as error:
        yield 0, error
        return
    for file in records:
        problem = _checked(directory, file)
        yield 0 if problem else file.bytes, problem


def _checked(directory: Path, file: FileRecord) -> DamagedError | None:
    try:
        check_hash(directory, file)
    except DamagedError as error:
        return error
    return None


def _artifact(directory: Path) -> tuple[int, StoreError | None]:
    try:
        _, file = artifacts.read(directory)
        artifacts.read_arrays(directory, file)
    except StoreError as error:
        return 0, error
    return file.bytes, None


def _result(path: Path) -> tuple[int, StoreError | None]:
    try:
        artifacts.read_result(path)
        read_table(path)
    except StoreError as error:
        return 0, error
    return path.stat().st_size, None
