"""Minibatches of a run's rows, in order or shuffled; indices are shuffled, never the data.

A run that the machine cannot keep in memory is shuffled block by block, so that the disk is read
in long pieces: 256 neighbouring rows stay neighbours in the file, not in a batch.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from store.mapping import Recorded
from store.sites import Site

BLOCK = 256
"""Neighbouring rows that are read together in a block shuffle."""

WINDOW = 256
"""Blocks whose rows are mixed with each other: 65,536 rows."""

ORDERS = ("no", "rows", "blocks", "auto")


@dataclass(frozen=True, kw_only=True, eq=False)
class Minibatch:
    """Some rows of a run."""

    rows: Int64[np.ndarray, " k"]
    arrays: Mapping[Site, Shaped[np.ndarray, "k _"]]
    """In the stored dtype; bf16 as its bits in uint16."""


def batches(
    recorded: Recorded,
    sites: Sequence[Site | str],
    size: int,
    *,
    shuffle: str = "no",
    seed: int = 0,
) -> Iterator[Minibatch]:
    """Go once through all rows of some sites, `size` at a time; the last batch may be smaller.

    `shuffle` is no, rows (every order equally likely), blocks, or auto: rows where the run fits in
    half the machine's memory, otherwise blocks. Raises ValueError and LookupError.
    """
    wanted = [recorded.site(site) for site in sites]
    if not wanted or size < 1 or shuffle not in ORDERS:
        raise ValueError(
            f"batches need a site, a positive size and shuffle among {', '.join(ORDERS)}, not "
            f"{len(wanted)} sites, {size} and {shuffle!r}"
        )
    if shuffle == "auto":
        shuffle = "blocks" if _bytes(recorded) > memory() // 2 else "rows"
    return _batches(recorded, wanted, size, order(recorded.n_rows, shuffle, seed))


def order(n_rows: int, shuffle: str, seed: int) -> Iterator[Int64[np.ndarray, " row"]]:
    """Give the rows in the order they are wanted, in pieces."""
    rng = np.random.default_rng(seed)
    if shuffle == "no":
        for start in range(0, n_rows, BLOCK * WINDOW):
            yield np.arange(start, min(start + BLOCK * WINDOW, n_rows))
    elif shuffle == "rows":
        yield rng.permutation(n_rows)
    else:
        blocks = rng.permutation(-(-n_rows // BLOCK))
        for start in range(0, len(blocks), WINDOW):
            mixed = blocks[start : start + WINDOW, None] * BLOCK + np.arange(BLOCK)
            yield rng.permutation(mixed[mixed < n_rows])


def memory() -> int:
    """Return the bytes of memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _batches(
    recorded: Recorded,
    sites: Sequence[Site],
    size: int,
    pieces: Iterator[Int64[np.ndarray, " row"]],
) -> Iterator[Minibatch]:
    left = np.empty(0, np.int64)
    for piece in pieces:
        left = np.concatenate([left, piece])
        whole = len(left) - len(left) % size
        for start in range(0, whole, size):
            yield _batch(recorded, sites, left[start : start + size])
        left = left[whole:]
    if len(left):
        yield _batch(recorded, sites, left)


def _batch(recorded: Recorded, sites: Sequence[Site], rows: Int64[np.ndarray, " k"]) -> Minibatch:
    return Minibatch(rows=rows, arrays={site: recorded.gather(site, rows) for site in sites})


def _bytes(recorded: Recorded) -> int:
    return sum(shard.bytes for shard in recorded.shards)
