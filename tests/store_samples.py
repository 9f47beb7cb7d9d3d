"""Small runs to put into stores: what was written is returned, to compare with what is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from store import Fingerprint, Prompt, Run, Site, Store, TokenRows

FINGERPRINT = Fingerprint(model="tiny", weights_hash="w0", tokenizer_hash="t0")
SITES = {Site("resid_post", 0): 8, Site("z", 0, 1): 4, Site("resid_post", 1): 8}


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One call of Writer.add."""

    tensors: Mapping[Site, np.ndarray]
    tokens: TokenRows
    prompts: Sequence[Prompt]


def make_run(*, name: str | None = None, dtype: str = "f32") -> Run:
    """Make provenance that says little."""
    return Run(name=name, fingerprint=FINGERPRINT, dtype=dtype, why="a test")


def make_batch(
    lengths: Sequence[int], *, seed: int = 0, sites: Mapping[Site, int] = SITES, dtype: str = "f32"
) -> Batch:
    """Make prompts of these many tokens, tagged odd or even, with Gaussian activations."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    ids = rng.integers(0, 9, n)
    return Batch(
        tensors={site: bits(rng.normal(size=(n, d)), dtype) for site, d in sites.items()},
        tokens=TokenRows(
            prompt=np.repeat(np.arange(len(lengths)), lengths),
            pos=np.concatenate([np.arange(length) for length in [*lengths, 0]]).astype(np.int64),
            token_id=ids,
            token_str=[f"t{one}" for one in ids],
        ),
        prompts=[
            Prompt(text=f"text {seed}.{i}", tags=("odd" if i % 2 else "even",), meta={"i": i})
            for i in range(len(lengths))
        ],
    )


def bits(values: np.ndarray, dtype: str) -> np.ndarray:
    """Round values to how a run stores them; bf16 by cutting float32 in half."""
    if dtype == "bf16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"f32": np.float32, "f16": np.float16}[dtype])


def record(
    store: Store, batches: Sequence[Batch], *, run: Run | None = None, shard_rows: int = 16
) -> Run:
    """Write batches as one sealed run."""
    made = run or make_run()
    sites = {site: array.shape[1] for site, array in batches[0].tensors.items()}
    with store.writer(made, sites, shard_rows=shard_rows) as writer:
        for batch in batches:
            writer.add(batch.tensors, batch.tokens, batch.prompts)
    return made


def joined(batches: Sequence[Batch], site: Site) -> np.ndarray:
    """What a scan of the site must give."""
    return np.concatenate([batch.tensors[site] for batch in batches])
