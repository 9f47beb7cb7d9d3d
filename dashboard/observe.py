"""What the worker computes for the steer panel: three continuations, and where steering acted.

The only module of the dashboard that touches torch; it is imported on the worker's thread.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from dashboard.trial import Act, Ask, Column, Token, Trial
from dashboard.worker import Report
from steering.evaluate import controls
from steering.vector import SteeringVector
from store import Site
from workbench.backends.base import ModelSpec
from workbench.backends.hf import HFBackend
from workbench.generation import Comparison, Generation
from workbench.plan import Step, Where
from workbench.session import Session


@dataclass(frozen=True, eq=False)
class Watched:
    """A vector, and the size of its edits at each position, noted while it acts."""

    vector: SteeringVector
    notes: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """For each edit: absolute positions, and ‖Δ‖/‖x‖ at them."""

    @property
    def name(self) -> str:
        """The vector's name, for receipts."""
        return self.vector.name or "vector"

    @property
    def sites(self) -> frozenset[Site]:
        """The vector's sites."""
        return self.vector.sites

    @property
    def where(self) -> Where:
        """The vector's tokens."""
        return self.vector.where

    def check(self, spec: ModelSpec) -> None:
        """Check that the vector fits a model; raises what the vector raises."""
        self.vector.check(spec)

    def edit(
        self, site: Site, x: Float[Tensor, "batch pos d"], step: Step
    ) -> Float[Tensor, "batch pos d"]:
        """Return what the vector returns, and note how far it is from `x`."""
        new = self.vector.edit(site, x, step)
        chosen = self.where.mask(step)
        before = torch.linalg.vector_norm(x[chosen].double(), dim=-1).clamp(min=1e-30)
        change = torch.linalg.vector_norm((new - x)[chosen].double(), dim=-1)
        self.notes.append((step.positions[chosen].cpu(), (change / before).cpu()))
        return new

    def changes(self) -> dict[int, float]:
        """Return the mean change at each position, over sites, as multiples of the norm."""
        positions = torch.cat([positions for positions, _ in self.notes])
        ratios = torch.cat([ratios for _, ratios in self.notes])
        sums, counts = torch.bincount(positions, ratios), torch.bincount(positions)
        return {int(p): float(sums[p] / counts[p]) for p in counts.nonzero().flatten()}


def trial(session: Session, report: Report, ask: Ask) -> Trial:
    """Continue a prompt unsteered, steered, and in a random direction, all in one batch.

    Raises:
        LookupError: there is no such vector.
        ValueError: it is no steering vector or another model's, or the prompt is too long.
    """
    report(f"loading {ask.vector}")
    found = session.load(ask.vector)
    if not isinstance(found, SteeringVector):
        raise ValueError(f"{ask.vector!r} is a {type(found).__name__}: choose a steering vector")
    vector = replace(found, strength=ask.strength)
    random = controls(vector, n_random=1, n_shuffled=0, seed=ask.seed)["random 0"]
    steered, control = Watched(vector), Watched(random)
    report(f"generating up to {ask.max_new_tokens} tokens, three times")
    plans = {"default": None, "steered": steered, "control": control}
    made = session.compare(ask.prompt, generation=ask.generation, **plans)
    changed = _column(session.backend, made, "steered", steered.changes())
    return Trial(
        ask=ask,
        model=session.backend.spec.name,
        unit=vector.unit,
        saved_strength=found.strength,
        default=replace(
            _column(session.backend, made, "default", {}), divergence=changed.divergence
        ),
        steered=changed,
        control=_column(session.backend, made, "control", control.changes()),
    )


def _column(backend: HFBackend, made: Comparison, name: str, changes: dict[int, float]) -> Column:
    one = made[name]
    differs = made.divergence(name)
    return Column(
        text=one.text,
        tokens=_tokens(backend, one, changes),
        acts=tuple(
            Act(site=str(site), positions=t.positions, change=t.change, angle=t.angle)
            for receipt in one.receipt
            for site, t in receipt.sites.items()
        ),
        divergence=None if differs is None else len(one.prompt_tokens) + differs,
    )


def _tokens(backend: HFBackend, one: Generation, changes: dict[int, float]) -> tuple[Token, ...]:
    ids = [*one.prompt_tokens, *one.tokens]
    texts = (
        text or str(backend.tokenizer.convert_ids_to_tokens(token))
        for token, text in zip(ids, backend.pieces(ids), strict=True)
    )
    n_prompt = len(one.prompt_tokens)
    return tuple(
        Token(text=text, id=token, position=i, generated=i >= n_prompt, change=changes.get(i))
        for i, (token, text) in enumerate(zip(ids, texts, strict=True))
    )
