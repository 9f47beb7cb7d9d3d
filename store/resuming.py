"""Going on with a run that was cut short: where its last published shard ends."""

import os
from pathlib import Path

from store import locks, runs
from store.errors import DamagedError
from store.files import record_of, sync, writing
from store.mapping import Recorded
from store.runs import Begun
from store.shards import COMMIT, Place, check_sizes, commits
from store.store import Store
from store.sweep import Sweep
from store.writer import Writer


def resume(store: Store, ref: str) -> Writer:
    """Open a writer that goes on behind the last published shard of a killed or failed run.

    `Writer.n_prompts` says how many prompts it has already. Raises ValueError for a run that was
    sealed, BusyError while another writes it, DamagedError, UnwritableError and LookupError.
    """
    directory = store.writable("runs") / store.run(ref).uuid
    handle = locks.take(directory)
    try:
        begun = _begin(store, directory, handle)
    except BaseException:
        os.close(handle)
        raise
    return Writer(directory, runs.read_opening(directory), begun)


def _begin(store: Store, directory: Path, handle: int) -> Begun:
    ending = runs.read_ending(directory)
    if ending is not None and ending.status == "sealed":
        raise ValueError(f"run {directory.name} is sealed: it is complete; capture a new one")
    with writing(directory):
        if ending is not None:
            (directory / runs.END).unlink()
            sync(directory)
        Sweep(store.path).run(directory)
    recorded = Recorded(directory)
    if len(recorded.shards) < len(commits(directory)):
        raise DamagedError(
            f"{directory} lacks {len(recorded.shards):05d}{COMMIT}, and later ones are there: "
            "restore it, or capture the run again"
        )
    for shard in recorded.shards:
        check_sizes(directory, shard)
    place = Place(run=directory.name)
    if recorded.shards:
        last = recorded.shards[-1]
        place = Place(
            run=directory.name,
            shard=last.shard + 1,
            row0=last.row0 + last.n,
            prompt0=last.prompt0 + last.n_prompts,
        )
    records = tuple(record_of(path) for path in commits(directory))
    return Begun(handle=handle, place=place, commits=records)
