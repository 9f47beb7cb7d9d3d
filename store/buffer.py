"""Memory for the rows of one shard, and what is known of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from store.records import Prompt
from store.shards import Content
from store.sites import Site
from store.stats import running
from store.tensors import STORED


class Buffer:
    """Memory for one shard, used again and again: touching fresh pages costs more than copying."""

    def __init__(self, sites: Mapping[Site, int], dtype: str, rows: int) -> None:
        self._shape = (dict(sites), STORED[dtype])
        self._sums = running(sites)
        self._rows = 0
        self.reserve(rows)
        self.clear()

    def reserve(self, rows: int) -> None:
        """Make room for at least this many rows; only ever called while empty."""
        if rows > self._rows:
            sites, dtype = self._shape
            self._arrays = {site: np.empty((rows, d), dtype) for site, d in sites.items()}
            self._rows = rows

    def clear(self) -> None:
        """Forget what it holds."""
        self.n = 0
        self._tokens: list[pa.Table] = []
        self._prompts: list[Prompt] = []
        self._lengths: list[int] = []
        for sums in self._sums.values():
            sums.clear()

    def copy(self, tensors: Mapping[Site, np.ndarray], rows: slice, tokens: pa.Table) -> None:
        """Copy some rows behind those it has."""
        count = rows.stop - rows.start
        for site, array in self._arrays.items():
            array[self.n : self.n + count] = tensors[site][rows]
            self._sums[site].add(tensors[site][rows])
        self._tokens.append(tokens.slice(rows.start, count))
        self.n += count

    def note(self, prompts: Sequence[Prompt], lengths: Sequence[int]) -> None:
        """Remember the prompts that the copied rows belong to."""
        self._prompts += prompts
        self._lengths += lengths

    def content(self) -> Content:
        """Show what it holds, without copying."""
        return Content(
            arrays={site: array[: self.n] for site, array in self._arrays.items()},
            tokens=pa.concat_tables(self._tokens),
            prompts=tuple(self._prompts),
            lengths=tuple(self._lengths),
            moments={site: sums.moments() for site, sums in self._sums.items()},
        )
