"""Rows of one run on their way to disk: filled into one buffer while the other is being published.

A shard holds whole prompts. Publishing runs on one background thread and at most one shard behind.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np
import pyarrow as pa
from jaxtyping import Integer, Shaped

from store import runs
from store.buffer import Buffer
from store.errors import StoreError
from store.files import FileRecord
from store.records import Prompt, TokenRows
from store.runs import Begun, Ending, Opening
from store.shards import Place, publish_shard
from store.sites import Site
from store.tensors import STORED


class Writer:
    """Add batches of activations to a new run; leaving without an error seals it.

    Every batch is copied, so its arrays may be used again at once. Safe to call from threads.
    """

    def __init__(self, directory: Path, opening: Opening, begun: Begun) -> None:
        self._directory, self._opening, self._held = directory, opening, begun.handle
        self._process = os.getpid()
        self._buffer, self._spare = self._new_buffer(), self._new_buffer()
        self._place = begun.place
        self._n_prompts = begun.place.prompt0
        self._pending: tuple[Future[FileRecord], Place] | None = None
        self._commits: list[FileRecord] = list(begun.commits)
        self._n_rows = begun.place.row0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._lock = Lock()
        self._closed = False
        self._failure: BaseException | None = None

    def add(
        self,
        tensors: Mapping[Site, Shaped[np.ndarray, "row _"]],
        tokens: TokenRows,
        prompts: Sequence[Prompt],
    ) -> None:
        """Add the rows of some new prompts; every site of the run, one row per token.

        bf16 comes as its bits in uint16. Raises ValueError when the batch does not fit the run,
        and whatever befell an earlier batch on its way to disk (UnwritableError).
        """
        if os.getpid() != self._process:
            raise ValueError(
                "a forked process cannot add to its parent's run: begin a run of its own there"
            )
        self._check(tensors, tokens, prompts)
        lengths = np.bincount(tokens.prompt, minlength=len(prompts)).astype(np.int64)
        with self._lock:
            if self._closed or self._failure:
                raise ValueError(
                    f"run {self._opening.run.uuid} takes no more rows: open a new writer"
                ) from self._failure
            table = _token_table(tokens, self._n_prompts)
            self._n_prompts += len(prompts)
            self._fill(tensors, table, prompts, lengths)

    @property
    def n_prompts(self) -> int:
        """Count the prompts that were added, those before a resumption included."""
        return self._n_prompts

    def close(self) -> None:
        """Publish what is buffered and seal the run; raises UnwritableError when that fails."""
        self._finish(None)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish(None)
        else:
            with suppress(StoreError):  # the error on its way out is the one to see
                self._finish(error)

    def _check(
        self, tensors: Mapping[Site, np.ndarray], tokens: TokenRows, prompts: Sequence[Prompt]
    ) -> None:
        sites, dtype = self._opening.sites, self._opening.run.dtype
        if set(tensors) != set(sites):
            raise ValueError(
                f"this run has sites {_names(sites)} but {_names(tensors)} were given: add them all"
            )
        for site, array in tensors.items():
            if array.shape != (len(tokens), sites[site]) or array.dtype != STORED[dtype]:
                raise ValueError(
                    f"{site} is {array.dtype} {list(array.shape)}, but this run stores {dtype} as "
                    f"{STORED[dtype]} [{len(tokens)} tokens, {sites[site]}]: convert it first"
                )
        if len(tokens) and not 0 <= tokens.prompt[0] <= tokens.prompt[-1] < len(prompts):
            raise ValueError(
                f"tokens name prompts {tokens.prompt[0]}-{tokens.prompt[-1]}, but {len(prompts)} "
                "prompts were given: count them from 0 within this batch"
            )

    def _fill(
        self,
        tensors: Mapping[Site, np.ndarray],
        tokens: pa.Table,
        prompts: Sequence[Prompt],
        lengths: Integer[np.ndarray, " prompt"],
    ) -> None:
        first, row, ends = 0, 0, np.cumsum(lengths)
        while first < len(prompts):
            room = row + self._opening.shard_rows - self._buffer.n
            last = int(np.searchsorted(ends, room, side="right"))
            if last <= first and self._buffer.n:
                self._flush()
                continue
            if last <= first:
                last = first + 1
                self._buffer.reserve(int(lengths[first]))
            self._buffer.copy(tensors, slice(row, int(ends[last - 1])), tokens)
            self._buffer.note(prompts[first:last], lengths[first:last].tolist())
            first, row = last, int(ends[last - 1])
        if self._buffer.n >= self._opening.shard_rows:
            self._flush()

    def _flush(self) -> None:
        self._settle()
        content = self._buffer.content()
        future = self._pool.submit(
            publish_shard, self._directory, self._place, self._opening.run.dtype, content
        )
        self._place = self._place.after(content)
        self._pending = (future, self._place)
        self._buffer, self._spare = self._spare, self._buffer
        self._buffer.clear()

    def _settle(self) -> None:
        """Wait until the shard on its way is durable, or raise what befell it."""
        pending, self._pending = self._pending, None
        try:
            if pending is not None:
                self._commits.append(pending[0].result())
                self._n_rows = pending[1].row0
        except BaseException as error:
            self._failure = error
            raise

    def _finish(self, error: BaseException | None) -> None:
        with self._lock:
            # A forked copy holds neither the thread nor the right to end the run.
            if self._closed or os.getpid() != self._process:
                return
            self._closed = True
            try:
                self._drain()
            except BaseException as failure:
                error = error or failure
                raise
            finally:
                self._pool.shutdown()
                self._end(error)
                os.close(self._held)

    def _drain(self) -> None:
        if self._failure:
            raise self._failure
        if self._buffer.n or self._n_prompts > self._place.prompt0:
            self._flush()
        self._settle()

    def _end(self, error: BaseException | None) -> None:
        status = "failed" if error else "sealed"
        reason = f"{type(error).__name__}: {error}" if error else None
        ending = Ending(
            status=status, error=reason, n_rows=self._n_rows, commits=tuple(self._commits)
        )
        try:
            runs.end(self._directory, ending)
        except StoreError:
            if error is None:  # otherwise the first error is the one to see
                raise

    def _new_buffer(self) -> Buffer:
        opening = self._opening
        return Buffer(opening.sites, opening.run.dtype, opening.shard_rows)


def _token_table(tokens: TokenRows, prompt0: int) -> pa.Table:
    return pa.table(
        {
            "prompt_id": pa.array(tokens.prompt + prompt0, pa.int32()),
            "pos": pa.array(tokens.pos, pa.int32()),
            "token_id": pa.array(tokens.token_id, pa.int32()),
            "token_str": pa.array([str(text) for text in tokens.token_str], pa.string()),
        }
    )


def _names(sites: Mapping[Site, object]) -> str:
    return ", ".join(str(site) for site in sites)
