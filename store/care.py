"""Care of a store: rebuild or compact its catalog, delete runs, and see what it holds."""

import os
import shutil
from dataclasses import dataclass

from store import locks
from store.files import sync, writing
from store.store import Store
from store.sweep import DELETED


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a store holds, and what it takes."""

    path: str
    runs: int
    prompts: int
    tokens: int
    artifacts: int
    results: int
    bytes: int
    """Of all files, those of no run included."""
    catalog_bytes: int
    free: int
    """Bytes that the disk can still take."""


def info(store: Store) -> Info:
    """Count what a store holds."""
    (counts,) = store.sql("""
        SELECT (SELECT count(*) FROM run) AS runs, (SELECT count(*) FROM prompt) AS prompts,
               (SELECT count(*) FROM token) AS tokens, (SELECT count(*) FROM artifact) AS artifacts,
               (SELECT count(*) FROM result) AS results
    """).to_pylist()
    sizes = [path.stat().st_size for path in store.path.rglob("*") if path.is_file()]
    return Info(
        **counts,
        path=str(store.path),
        bytes=sum(sizes),
        catalog_bytes=store.catalog.file.stat().st_size,
        free=shutil.disk_usage(store.path).free,
    )


def reindex(store: Store) -> None:
    """Build the catalog anew from the published files; raises BusyError, UnwritableError."""
    store.catalog.rebuild()


def compact(store: Store) -> tuple[int, int]:
    """Give back the room in the catalog that deleted rows left; returns its bytes before and after.

    Raises UnwritableError when the store is read-only or the disk refuses.
    """
    store.writable()
    store.catalog.refresh()
    before = store.catalog.file.stat().st_size
    store.catalog.compact()
    return before, store.catalog.file.stat().st_size


def delete(store: Store, ref: str) -> int:
    """Delete a run and return the bytes that became free; who has it mapped may go on reading.

    Raises LookupError, BusyError while it is being written, and UnwritableError.
    """
    directory = store.writable("runs") / store.run(ref).uuid
    handle = locks.take(directory)
    try:
        freed = sum(path.stat().st_size for path in directory.iterdir())
        with writing(directory):
            # Gone for every reader at once; a sweep finishes what is killed after this line.
            gone = directory.rename(directory.with_name(directory.name + DELETED))
            sync(gone.parent)
            shutil.rmtree(gone)
    finally:
        os.close(handle)
    return freed
