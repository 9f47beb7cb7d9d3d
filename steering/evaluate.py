"""What a vector does, beside its controls and with intervals: effect, side effect, sweeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steering.vector import SteeringVector
from workbench import engine
from workbench.batch import Batch
from workbench.plan import Steer
from workbench.session import Session

PROMPTS_PER_BATCH = 64
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A prompt whose next token tells two ways of speaking apart."""

    prompt: str
    target: tuple[str, ...]
    """Words the vector should make likelier, each one token."""
    source: tuple[str, ...]
    """Words it should make less likely, each one token."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What a plan gives on each prompt, at the next token."""

    log_odds: Float[np.ndarray, " prompt"]
    """log P(target words) − log P(source words), in nats."""
    kl: Float[np.ndarray, " prompt"]
    """KL(unsteered ‖ steered) of the next token, in nats."""


@dataclass(frozen=True, eq=False)
class Measure:
    """Prompts made ready to be scored under many plans."""

    session: Session
    batches: tuple[Batch, ...]
    target: Bool[Tensor, "prompt d_vocab"]
    source: Bool[Tensor, "prompt d_vocab"]
    plain: Float[Tensor, "prompt d_vocab"]
    """Log-probabilities of the next token without steering."""

    @classmethod
    def of(cls, session: Session, choices: Sequence[Choice]) -> "Measure":
        """Prepare prompts: tokens, words, and the unsteered model's answer.

        Raises:
            ValueError: there is no prompt, or a word is not one token.
        """
        if not choices:
            raise ValueError("nothing to evaluate: give at least one Choice")
        texts = [one.prompt for one in choices]
        starts = range(0, len(texts), PROMPTS_PER_BATCH)
        batches = tuple(session.backend.encode(texts[i : i + PROMPTS_PER_BATCH]) for i in starts)
        return cls(
            session=session,
            batches=batches,
            target=_words(session, [one.target for one in choices]),
            source=_words(session, [one.source for one in choices]),
            plain=_next_logprobs(session, batches, None),
        )

    def scores(self, steer: Steer = None) -> Scores:
        """Measure log-odds and KL on each prompt under a plan."""
        after = _next_logprobs(self.session, self.batches, steer)
        odds = _mass(after, self.target) - _mass(after, self.source)
        kl = (self.plain.exp() * (self.plain - after)).sum(-1)
        return Scores(odds.numpy(), kl.numpy())


def controls(
    vector: SteeringVector, *, n_random: int = 8, n_shuffled: int = 8, seed: int = 0
) -> dict[str, SteeringVector]:
    """Return the vector's controls: random and shuffled ones of equal norm at each site, and −v.

    Random directions are Gaussian; shuffled ones have the vector's own values in another order.
    """
    # In a fixed order of sites, whatever order a file gave them in: one seed, one control.
    own = {site: vector.directions[site] for site in sorted(vector.sites, key=engine.site_order)}
    out = {}
    for i in range(n_random):
        draw = torch.Generator().manual_seed(1000 * seed + i)
        made = {site: _gaussian(v, draw) for site, v in own.items()}
        out[f"random {i}"] = vector.like(made, f"random {i}")
    for i in range(n_shuffled):
        draw = torch.Generator().manual_seed(1000 * seed + 500 + i)
        made = {site: v[torch.randperm(len(v), generator=draw)] for site, v in own.items()}
        out[f"shuffled {i}"] = vector.like(made, f"shuffled {i}")
    return {**out, "sign-flipped": -vector}


def sweep(
    session: Session,
    choices: Sequence[Choice],
    vector: SteeringVector,
    *,
    strengths: Sequence[float],
    variants: Mapping[str, SteeringVector] | None = None,
) -> pa.Table:
    """Measure a vector and its controls at several strengths; one row each, with 95 % intervals.

    Columns: variant, kind (vector, random, shuffled, flipped), strength, effect (mean shift of
    log-odds against the unsteered model, nats) with low and high, preferred (share of prompts on
    which the target words are the likelier ones), kl (mean, nats), n (prompts).

    Raises:
        ValueError: there is no prompt, or a word is not one token.
    """
    measure = Measure.of(session, choices)
    baseline = measure.scores().log_odds
    every = {"vector": vector, **(controls(vector) if variants is None else variants)}
    rows = []
    for name, variant in every.items():
        for strength in strengths:
            found = measure.scores(strength * variant)
            effect, low, high = interval(found.log_odds - baseline)
            row = {"variant": name, "kind": _kind(name), "strength": float(strength)}
            row |= {"effect": effect, "low": low, "high": high}
            row |= {"preferred": float((found.log_odds > 0).mean())}
            rows.append({**row, "kl": float(found.kl.mean()), "n": len(choices)})
    return pa.Table.from_pylist(rows)


def interval(
    values: Float[np.ndarray, " prompt"], *, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean with its bootstrap interval, prompts drawn with replacement."""
    rng = np.random.default_rng(seed)
    wide = np.asarray(values, dtype=np.float64)
    drawn = wide[rng.integers(0, len(wide), size=(RESAMPLES, len(wide)))].mean(1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(wide.mean()), float(low), float(high)


def _kind(variant: str) -> str:
    return {"vector": "vector", "sign-flipped": "flipped"}.get(variant, variant.split()[0])


def _gaussian(v: Float[Tensor, " d"], draw: torch.Generator) -> Float[Tensor, " d"]:
    noise = torch.randn(v.shape, generator=draw)
    return noise * (v.float().cpu().norm() / noise.norm())


def _next_logprobs(
    session: Session, batches: Sequence[Batch], steer: Steer
) -> Float[Tensor, "prompt d_vocab"]:
    # Rows are padded on the left, so the last column is each prompt's last token.
    parts = [engine.run(session.backend, batch, steer, keep=1).logits[:, -1] for batch in batches]
    return torch.cat(parts).cpu().double().log_softmax(-1)


def _mass(
    logprobs: Float[Tensor, "prompt d_vocab"], words: Bool[Tensor, "prompt d_vocab"]
) -> Float[Tensor, " prompt"]:
    return logprobs.masked_fill(~words, -torch.inf).logsumexp(-1)


def _words(session: Session, words: Sequence[tuple[str, ...]]) -> Bool[Tensor, "prompt d_vocab"]:
    """Mark each prompt's words in the vocabulary, every distinct word looked up once."""
    ids = {word: _token(session, word) for word in {one for group in words for one in group}}
    marked = torch.zeros(len(words), session.backend.spec.d_vocab, dtype=torch.bool)
    for row, group in enumerate(words):
        if not group:
            raise ValueError(f"choice {row} has no words: give target and source words")
        marked[row, [ids[word] for word in group]] = True
    return marked


def _token(session: Session, word: str) -> int:
    ids = session.backend.tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(
            f"{word!r} is {len(ids)} tokens, and log-odds need one: choose another word, "
            "with the space in front that the tokenizer may want"
        )
    return ids[0]
