"""Run texts through a model and write what its sites held into the store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from store import Prompt, Recorded, Run, Site, Store, TokenRows, planning
from store.reuse import take
from workbench import engine, recall
from workbench.artifacts import code_version
from workbench.backends.hf import HFBackend
from workbench.batch import Batch
from workbench.plan import Step, Where

TOKENS_PER_BATCH = 4096
"""Padded tokens in one forward pass: enough to keep the processor busy, few enough for RAM."""

Progress = Callable[[int, int], None]
"""Called with the number of prompts done and the number of all prompts."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to keep of a forward pass."""

    sites: tuple[Site, ...]
    where: Where
    again: bool = True
    """Compute also what the store has already, captured under the same circumstances."""


@dataclass(frozen=True, eq=False)
class Capture:
    """What a run saw: a lazy view of its rows in the store."""

    recorded: Recorded
    spec: Any

    @property
    def run(self) -> Run:
        """The provenance of these activations."""
        return self.recorded.run

    @property
    def sites(self) -> tuple[Site, ...]:
        """The captured sites."""
        return tuple(self.recorded.sites)

    @property
    def offsets(self) -> np.ndarray:
        """Where each prompt's rows begin, and where the last one's end."""
        return self.recorded.offsets

    def tensor(self, site: str | Site, pos: int | None = None) -> Float[Tensor, "row d"]:
        """Return a site's activations in the stored dtype, never padded.

        Without `pos` the rows of all prompts follow each other, as `offsets` says. With `pos`
        there is one row per prompt: an absolute position, or one counted from the end.

        Raises:
            LookupError: the site was not captured, or a prompt has no such position.
            ValueError: the text names several sites.
        """
        wanted, *others = self.spec.select(site)
        if others:
            raise ValueError(
                f"{site} names {1 + len(others)} sites, and a tensor holds one: ask for them one "
                f"by one, as in {wanted}"
            )
        if wanted not in self.recorded.sites:
            have = ", ".join(map(str, self.recorded.sites))
            raise LookupError(f"run {self.run.uuid[:8]} has no {wanted}: it holds {have}")
        if pos is None:
            return as_tensor(self.recorded.scan(wanted), self.run.dtype)
        return as_tensor(self.recorded.gather(wanted, self._rows(pos)), self.run.dtype)

    def table(self) -> pa.Table:
        """Return one row per captured token: prompt, position, token."""
        return self.recorded.tokens()

    def _rows(self, pos: int) -> np.ndarray:
        starts, stops = self.offsets[:-1], self.offsets[1:]
        if pos < 0:
            rows, found = stops + pos, stops + pos >= starts
        else:
            positions = self.table()["pos"].to_numpy()
            hits = np.flatnonzero(positions == pos)
            at = np.searchsorted(hits, starts)
            rows = hits[np.minimum(at, len(hits) - 1)] if len(hits) else starts
            found = (rows >= starts) & (rows < stops) & (len(hits) > 0)
        if not found.all():
            short = int(np.flatnonzero(~found)[0])
            raise LookupError(
                f"prompt {short} has no captured position {pos}: it has "
                f"{int(stops[short] - starts[short])} rows; choose one that every prompt has"
            )
        return rows.astype(np.int64)


def capture(
    backend: HFBackend,
    store: Store,
    prompts: Sequence[Prompt],
    run: Run,
    wanted: Wanted,
    progress: Progress | None = None,
) -> Capture:
    """Run prompts batch by batch and write the selected rows; the run is sealed at the end.

    A run that the store has already is gone on with, behind what was published of it.

    Raises:
        ValueError: a text has no tokens or too many, or `wanted.where` selects none of any text.
        UnwritableError: the disk cannot hold it.
    """
    widths = {site: backend.spec.width(site) for site in wanted.sites}
    found = {} if wanted.again else recall.find(store, run, widths, prompts)
    # What the texts can be refused for comes before the run, so that no failed run is left behind.
    tokens = backend.tokenize([prompt.text for prompt in prompts])
    parts = list(_parts([len(row) for row in tokens], [one.text in found for one in prompts]))
    _require_some(backend, [tokens[part] for part in parts], wanted.where)
    planned(store, widths, run.dtype, tokens).require_room()
    with recall.begin(store, run, widths) as writer:
        for part in parts:
            missing = max(0, writer.n_prompts - part.start)
            if part.start + missing < part.stop:
                known = [found[one.text] for one in prompts[part] if one.text in found]
                made = (
                    take(known, wanted.sites)
                    if known
                    else _rows(backend, backend.batch(tokens[part]), wanted, run.dtype)
                )
                writer.add(*recall.after(missing, *made), prompts[part][missing:])
            if progress is not None:
                progress(part.stop, len(prompts))
    return Capture(store.read(run.uuid), backend.spec)


def planned(
    store: Store, widths: Mapping[Site, int], dtype: str, tokens: Sequence[Sequence[int]]
) -> planning.Plan:
    """Say what a capture takes at most, when every token is selected and none known."""
    rows = sum(len(row) for row in tokens)
    return planning.plan(store, widths, dtype, rows=rows, prompts=len(tokens))


def new_run(backend: HFBackend, wanted: Wanted, *, name: str | None, dtype: str, why: str) -> Run:
    """Describe a run about to start."""
    return Run(
        name=name,
        fingerprint=backend.spec.fingerprint,
        dtype=dtype,
        model_dtype=str(backend.model.dtype).removeprefix("torch."),
        code_version=code_version(),
        why=why,
        config={"at": [str(site) for site in wanted.sites], "where": str(wanted.where)},
    )


def _require_some(
    backend: HFBackend, chunks: Sequence[Sequence[Sequence[int]]], where: Where
) -> None:
    """Check that some token of some prompt is selected; stops at the first."""
    if not any(where.mask(_whole(backend.batch(rows))).any() for rows in chunks):
        longest = max(len(row) for rows in chunks for row in rows)
        raise ValueError(
            f"nothing to capture: no token is among {where}, and the longest text has {longest}; "
            "widen where="
        )


def _parts(lengths: Sequence[int], known: Sequence[bool]) -> Iterator[slice]:
    """Cut prompts into batches in which either all are known or none is."""
    start = 0
    for _, same in groupby(known):
        stop = start + len(list(same))
        for part in _chunks(lengths[start:stop]):
            yield slice(start + part.start, start + part.stop)
        start = stop


def _chunks(lengths: Sequence[int]) -> Iterator[slice]:
    """Cut prompts, in order, into batches of a bounded number of padded tokens."""
    start, longest = 0, 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > start and longest * (i + 1 - start) > TOKENS_PER_BATCH:
            yield slice(start, i)
            start, longest = i, length
    yield slice(start, len(lengths))


def _whole(batch: Batch) -> Step:
    """Return the step in which whole prompts are fed."""
    return Step(positions=batch.positions, mask=batch.mask, n_prompt=batch.lengths, full=False)


def _rows(
    backend: HFBackend, batch: Batch, wanted: Wanted, dtype: str
) -> tuple[dict[Site, np.ndarray], TokenRows]:
    """Run one batch and return the selected rows of each site, and which tokens they are."""
    chosen = wanted.where.mask(_whole(batch))
    reads = engine.run(backend, batch, reads=wanted.sites, keep=1).reads
    ids = batch.tokens[chosen].cpu().numpy()
    rows = TokenRows(
        prompt=chosen.nonzero()[:, 0].cpu().numpy(),
        pos=batch.positions[chosen].cpu().numpy(),
        token_id=ids,
        token_str=backend.pieces(ids.tolist()),
    )
    return {site: as_array(reads[site][chosen], dtype) for site in wanted.sites}, rows


def as_array(x: Float[Tensor, "row d"], dtype: str) -> np.ndarray:
    """Turn a tensor into the array the store keeps; bf16 goes as its bits.

    Raises:
        ValueError: a finite value is too large for f16.
    """
    if dtype == "bf16":
        return x.to(torch.bfloat16).contiguous().view(torch.uint16).cpu().numpy()
    if dtype == "f32":
        return x.float().cpu().numpy()
    half = x.to(torch.float16)
    if bool((half.isinf() & x.isfinite()).any()):
        raise ValueError(
            f"f16 holds values up to 65504 and these reach {float(x.abs().max()):.3g}: "
            "store them as bf16 or f32"
        )
    return half.cpu().numpy()


def as_tensor(x: np.ndarray, dtype: str) -> Float[Tensor, "row d"]:
    """Turn what the store gives into a tensor of the stored dtype."""
    # A memory map is read-only, and torch has no read-only tensors.
    tensor = torch.from_numpy(x if x.flags.writeable else x.copy())
    return tensor.view(torch.bfloat16) if dtype == "bf16" else tensor
