"""A run as something to read: every published shard, mapped; also while another process writes it.

numpy only: bf16 comes as its bits in uint16. What is published later is seen by reading again.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, Integer, Shaped

from store.errors import DamagedError
from store.files import read_table
from store.records import Prompt, Run
from store.runs import read_ending, read_opening
from store.shards import COMMIT, Shard, check_sizes, commits, read_commit
from store.sites import Site
from store.tensors import STORED


class Recorded:
    """What a run saw, as far as it is published; immutable, safe to share among threads."""

    def __init__(self, directory: Path) -> None:
        opening = read_opening(directory)
        # The ending before the shards: once it is there, no more shards will come.
        ending = read_ending(directory)
        self.directory = directory
        self.run: Run = opening.run
        self.sites: dict[Site, int] = dict(opening.sites)
        """Width of each site."""
        self.status: str = "open" if ending is None else ending.status
        """open (being written, or its writer was killed), sealed or failed."""
        self.shards: tuple[Shard, ...] = tuple(_contiguous(directory))
        if ending is not None and len(self.shards) < len(ending.commits):
            raise DamagedError(
                f"{directory} has {len(self.shards)} shards in a row and should have "
                f"{len(ending.commits)}: restore the missing files, or capture it again"
            )
        self._row0s = np.array([shard.row0 for shard in self.shards], np.int64)
        self._maps: dict[tuple[int, int], np.ndarray] = {}

    @property
    def n_rows(self) -> int:
        """Count the rows, one per recorded token."""
        return self.shards[-1].row0 + self.shards[-1].n if self.shards else 0

    @cached_property
    def prompts(self) -> list[Prompt]:
        """List the prompts, in the order they were added."""
        return [
            Prompt(text=row["text"], tags=tuple(row["tags"]), meta=json.loads(row["meta"]))
            for row in self._prompt_rows.to_pylist()
        ]

    @cached_property
    def offsets(self) -> Int64[np.ndarray, " prompt_and_1"]:
        """Give the first row of each prompt, and one past the last row at the end."""
        starts = self._prompt_rows.column("row0").to_numpy()
        return np.append(starts, self.n_rows).astype(np.int64)

    def tokens(self) -> pa.Table:
        """Read the token of every row: prompt_id, pos, token_id, token_str."""
        return self._tokens

    def prompt_tokens(self, index: int) -> pa.Table:
        """Read the tokens of one prompt, as `tokens`."""
        first, end = self.offsets[index : index + 2].tolist()
        return self._tokens.slice(first, end - first)

    def scan(
        self, site: Site | str, out: Shaped[np.ndarray, "row d"] | None = None
    ) -> Shaped[np.ndarray, "row d"]:
        """Copy every row of a site into one array, `out` when given."""
        at = self.site(site)
        result = self._out(out, self.n_rows, self.sites[at])
        row = 0
        for block in self.blocks(at):
            result[row : row + len(block)] = block
            row += len(block)
        return result

    def blocks(self, site: Site | str) -> Iterator[Shaped[np.ndarray, "row d"]]:
        """Go through a site shard by shard, without copying; the arrays are read-only."""
        at = self.site(site)
        return (self._block(index, at) for index in range(len(self.shards)))

    def gather(
        self,
        site: Site | str,
        rows: Integer[np.ndarray, " k"],
        out: Shaped[np.ndarray, "k d"] | None = None,
    ) -> Shaped[np.ndarray, "k d"]:
        """Copy some rows of a site, in the order asked for; raises LookupError beyond the end."""
        at = self.site(site)
        self._require(rows)
        result = self._out(out, len(rows), self.sites[at])
        owner = np.searchsorted(self._row0s, rows, side="right") - 1
        for index in np.unique(owner):
            mine = owner == index
            result[mine] = self._block(int(index), at)[rows[mine] - self._row0s[index]]
        return result

    def view(self, site: Site | str, rows: Integer[np.ndarray, " k"]) -> Shaped[np.ndarray, "k d"]:
        """As `gather`, but without copying where neighbouring rows of one shard are asked for."""
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            self._require(rows)
            index = int(np.searchsorted(self._row0s, rows[0], side="right")) - 1
            start = int(rows[0] - self._row0s[index])
            if start + len(rows) <= self.shards[index].n:
                return self._block(index, self.site(site))[start : start + len(rows)]
        return self.gather(site, rows)

    def prompt(self, index: int, site: Site | str) -> Shaped[np.ndarray, "row d"]:
        """Copy the rows of one prompt, counted from 0; raises LookupError when there is none."""
        n_prompts = len(self.offsets) - 1
        if not 0 <= index < n_prompts:
            raise LookupError(f"no prompt {index}: the run has {n_prompts}, counted from 0")
        return self.gather(site, np.arange(self.offsets[index], self.offsets[index + 1]))

    @cached_property
    def _tokens(self) -> pa.Table:
        parts = [
            read_table(self.directory / f"{shard.shard:05d}{COMMIT}").replace_schema_metadata(None)
            for shard in self.shards
        ]
        return pa.concat_tables([_NO_TOKENS, *parts])

    @cached_property
    def _prompt_rows(self) -> pa.Table:
        parts = [read_table(self.directory / shard.prompts.name) for shard in self.shards]
        return pa.concat_tables([_NO_PROMPTS, *parts])

    def site(self, site: Site | str) -> Site:
        """Find a site of this run by its text; raises LookupError when it did not record it."""
        found = site if isinstance(site, Site) else Site.parse(site)
        if found not in self.sites:
            raise LookupError(
                f"no site {found} in run {self.run.uuid[:8]}: "
                f"it has {', '.join(map(str, self.sites))}"
            )
        return found

    def _require(self, rows: np.ndarray) -> None:
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.n_rows:
            raise LookupError(
                f"rows {rows.min()}-{rows.max()} were asked for: the run has rows "
                f"0-{self.n_rows - 1} published; read it again if it is still being written"
            )

    def _out(self, out: np.ndarray | None, rows: int, d: int) -> np.ndarray:
        dtype = STORED[self.run.dtype]
        if out is None:
            return np.empty((rows, d), dtype)
        if out.shape != (rows, d) or out.dtype != dtype:
            raise ValueError(f"out is {out.dtype} {list(out.shape)}: make it {dtype} [{rows}, {d}]")
        return out

    def _block(self, index: int, site: Site) -> np.ndarray:
        """Map the rows of a site in one shard; that two threads may both do it is harmless."""
        d = self.sites[site]
        shard = self.shards[index]
        siblings = [other for other, width in self.sites.items() if width == d]
        if (index, d) not in self._maps:
            check_sizes(self.directory, shard)
            series = next(series for series in shard.series if series.d == d)
            self._maps[index, d] = np.memmap(
                self.directory / series.file.name,
                STORED[self.run.dtype],
                mode="r",
                offset=series.data_off,
                shape=(len(siblings), shard.n, d),
            ).view(np.ndarray)
        return self._maps[index, d][siblings.index(site)]


def _contiguous(directory: Path) -> Iterator[Shard]:
    """Read commit records up to the first gap: a listing may miss a name that is just appearing."""
    for number, path in enumerate(commits(directory)):
        if path.name != f"{number:05d}{COMMIT}":
            return
        yield read_commit(path)


_NO_TOKENS = pa.table(
    {"prompt_id": [], "pos": [], "token_id": [], "token_str": []},
    pa.schema([
        ("prompt_id", pa.int32()), ("pos", pa.int32()),
        ("token_id", pa.int32()), ("token_str", pa.string()),
    ]),
)  # fmt: skip

_NO_PROMPTS = pa.table(
    {"prompt_id": [], "text": [], "tags": [], "meta": [], "row0": [], "n": []},
    pa.schema([
        ("prompt_id", pa.int32()), ("text", pa.string()), ("tags", pa.list_(pa.string())),
        ("meta", pa.string()), ("row0", pa.int64()), ("n", pa.int32()),
    ]),
)  # fmt: skip
