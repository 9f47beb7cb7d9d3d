"""What is to be changed, where, and the proof that it was: plans, selections and receipts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from store import Site

Phase = Literal["all", "prompt", "generated", "deciding"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One forward pass's place in the sequence: the whole prompt, or one new token per row."""

    positions: Int[Tensor, "batch pos"]
    """Absolute positions of the fed tokens, padding not counted."""
    mask: Bool[Tensor, "batch pos"]
    """True for real tokens."""
    n_prompt: Int[Tensor, " batch"]
    """Tokens of each row's prompt."""
    full: bool
    """True when no fed token is padding, so that masking can be skipped."""

    def rows(self, index: Int[Tensor, " row"]) -> "Step":
        """Return the same step for some rows of the batch."""
        return Step(
            positions=self.positions[index],
            mask=self.mask[index],
            n_prompt=self.n_prompt[index],
            full=self.full,
        )


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which tokens: a phase and a range of absolute positions. Never padding.

    Phases go by the position that is fed: `prompt` is 0..n-1, `generated` the new tokens that are
    fed back (the last sampled token never is), `deciding` the last prompt token and every
    generated one: the positions whose output decides the next token.
    """

    phase: Phase = "all"
    start: int | None = None
    """First absolute position, inclusive."""
    stop: int | None = None
    """Last absolute position, exclusive."""

    def __post_init__(self) -> None:
        if self.phase not in get_args(Phase):
            raise ValueError(f"no phase {self.phase!r}: there are {', '.join(get_args(Phase))}")
        for name, value in (("start", self.start), ("stop", self.stop)):
            if value is not None and value < 0:
                raise ValueError(
                    f"{name}={value}: positions count from 0; use phase= for places near the end"
                )
        if self.stop is not None and (self.start or 0) >= self.stop:
            raise ValueError(
                f"start={self.start}, stop={self.stop} selects no position: stop is exclusive and "
                "comes after start"
            )

    def mask(self, step: Step) -> Bool[Tensor, "batch pos"]:
        """Select tokens of one step; the step's own mask when everything is selected."""
        chosen = step.mask
        last = step.n_prompt[:, None]
        if self.phase == "prompt":
            chosen = chosen & (step.positions < last)
        elif self.phase == "generated":
            chosen = chosen & (step.positions >= last)
        elif self.phase == "deciding":
            chosen = chosen & (step.positions >= last - 1)
        if self.start is not None:
            chosen = chosen & (step.positions >= self.start)
        if self.stop is not None:
            chosen = chosen & (step.positions < self.stop)
        return chosen

    def __str__(self) -> str:
        if self.start is None and self.stop is None:
            return f"{self.phase} tokens"
        return f"{self.phase} tokens at positions {self.start or 0}..{self.stop or ''}"


@runtime_checkable
class Intervention(Protocol):
    """A pure edit of the activations at some sites."""

    @property
    def sites(self) -> frozenset[Site]:
        """The sites that are edited."""
        ...

    @property
    def where(self) -> Where:
        """The tokens that are edited; the engine masks by it and measures the receipt."""
        ...

    def edit(
        self, site: Site, x: Float[Tensor, "batch pos d"], step: Step
    ) -> Float[Tensor, "batch pos d"]:
        """Return the edited activations, or `x` itself for no change; never write into `x`."""
        ...


@dataclass(frozen=True)
class Plan:
    """Interventions in the order in which they act, for every row or a different list per row."""

    rows: tuple[tuple[Intervention, ...], ...]
    """One list for all rows when `per_row` is False, else one list per row."""
    per_row: bool = False

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """All interventions, row by row."""
        return tuple(one for row in self.rows for one in row)

    def for_row(self, row: int) -> tuple[Intervention, ...]:
        """Return the interventions that act on one row."""
        return self.rows[row] if self.per_row else self.rows[0]

    def check_rows(self, n_rows: int) -> None:
        """Check that a per-row plan has one entry for each row.

        Raises:
            ValueError: the numbers differ.
        """
        if self.per_row and len(self.rows) != n_rows:
            raise ValueError(
                f"each() has {len(self.rows)} plans for {n_rows} prompts: give one per prompt, "
                "None for a row that is left alone"
            )


Steer = Plan | Intervention | Sequence[Intervention] | None


def as_plan(steer: Steer) -> Plan:
    """Turn what a user passes as `steer=` into a plan.

    Raises:
        TypeError: something in it is no intervention.
    """
    return steer if isinstance(steer, Plan) else Plan((_ordered(steer),))


def each(plans: Iterable[Intervention | Sequence[Intervention] | None]) -> Plan:
    """Give every row of a batch a plan of its own, None for a row that is left alone.

    Raises:
        ValueError: there is no plan.
        TypeError: something in it is no intervention.
    """
    rows = tuple(_ordered(plan) for plan in plans)
    if not rows:
        raise ValueError("each() got no plans: give one per prompt")
    return Plan(rows, per_row=True)


def _ordered(steer: Intervention | Sequence[Intervention] | None) -> tuple[Intervention, ...]:
    if steer is None:
        return ()
    found = (steer,) if isinstance(steer, Intervention) else steer
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise TypeError(
            f"cannot steer with {type(steer).__name__}: give an intervention such as a "
            "SteeringVector, a list of them in order, each([...]), or None"
        )
    wrong = [type(one).__name__ for one in found if not isinstance(one, Intervention)]
    if wrong:
        raise TypeError(f"cannot steer with {wrong[0]}: it has no sites, where and edit")
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Touch:
    """What an intervention did at one site."""

    steps: int
    """Forward passes in which at least one position was selected."""
    positions: int
    """Positions selected, over all steps."""
    change: float
    """Mean ‖Δ‖/‖x‖ over the selected positions, as multiples of the activation's own norm."""
    angle: float
    """Mean angle between before and after, in degrees."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Proof of what one intervention did to one row, site by site."""

    intervention: str
    sites: Mapping[Site, Touch]

    @property
    def positions(self) -> int:
        """Positions selected at the site where most were."""
        return max((touch.positions for touch in self.sites.values()), default=0)

    @property
    def change(self) -> float:
        """Mean ‖Δ‖/‖x‖ over sites."""
        return math.fsum(t.change for t in self.sites.values()) / max(len(self.sites), 1)

    def named(self, name: str) -> "Receipt":
        """Return the same receipt under another name."""
        return replace(self, intervention=name)

    def __str__(self) -> str:
        first, last = str(next(iter(self.sites))), str(list(self.sites)[-1])
        span = first if first == last else f"{first} … {last}"
        return (
            f"{self.intervention}: {self.positions} positions at {len(self.sites)} sites "
            f"({span}), mean change {self.change:.3f} of the norm"
        )
