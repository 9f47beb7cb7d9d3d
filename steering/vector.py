"""SteeringVector: one direction per site, a rule, a strength, and the tokens it acts on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steering import rules
from store import Fingerprint, Site
from workbench.artifacts import same_model
from workbench.backends.base import ModelSpec
from workbench.plan import Phase, Step, Where

LARGEST = float(torch.finfo(torch.float32).max)


@dataclass(frozen=True, kw_only=True, eq=False)
class SteeringVector:
    """A direction per site that can be scaled, added, saved and handed to `steer=`.

    One strength holds for all sites and is never divided by their number. For rule `icv` the norm
    of a direction multiplies λ; `ICV` gives directions of norm 1.
    """

    directions: Mapping[Site, Float[Tensor, " d"]]
    rule: str = "add"
    """`add` (strength in raw units), `add_relative` (multiples of the norm) or `icv` (λ)."""
    strength: float = 1.0
    where: Where = Where()
    """The tokens it acts on; never padding."""
    fingerprint: Fingerprint | None = None
    """The model it belongs to; None for hand-made directions, which are not checked."""
    name: str = ""
    method: str = "steering.vector:SteeringVector"
    """What made it."""
    norms: Mapping[Site, float] = field(default_factory=dict)
    """Mean norm of the activations it was read from, by the site it was read at."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What the method wants remembered, as JSON values."""

    def __post_init__(self) -> None:
        if not self.directions:
            raise ValueError("a steering vector needs a direction for at least one site")
        if self.rule not in rules.by_name():
            raise ValueError(f"no rule {self.rule!r}: there are {', '.join(rules.by_name())}")
        # Also refuses what float32 cannot hold; "not <=" refuses NaN.
        if not abs(self.strength) <= LARGEST:
            raise ValueError(
                f"strength {self.strength} is no finite number: give one in units of "
                f"{rules.unit_of(self.rule)}"
            )
        bad = [str(s) for s, v in self.directions.items() if not torch.isfinite(v).all()]
        if bad:
            raise ValueError(f"the direction at {bad[0]} has values that are not finite")

    @property
    def sites(self) -> frozenset[Site]:
        """The sites it acts on."""
        return frozenset(self.directions)

    @property
    def unit(self) -> str:
        """The unit of its strength."""
        return rules.unit_of(self.rule)

    def edit(
        self,
        site: Site,
        x: Float[Tensor, "batch pos d"],
        step: Step,  # noqa: ARG002  part of the protocol; a vector's edit is the same at every step
    ) -> Float[Tensor, "batch pos d"]:
        """Return the edited activations; `x` itself at strength 0, so that nothing changes."""
        if self.strength == 0:
            return x
        rule, directions = self._ready
        direction, length = directions[site]
        return rule(x, direction.to(x.device), self.strength * length)

    @cached_property
    def _ready(self) -> tuple[rules.Rule, Mapping[Site, tuple[Tensor, float]]]:
        """What every step needs: the rule, and each direction with the factor of its strength."""
        if self.rule not in rules.on_units():
            return rules.by_name()[self.rule], {s: (v, 1.0) for s, v in self.directions.items()}
        # Linear in the direction for every rule, so that sums of vectors are sums of pushes.
        units = {s: (rules.unit(v), float(v.norm())) for s, v in self.directions.items()}
        return rules.on_units()[self.rule], units

    def check(self, spec: ModelSpec) -> None:
        """Check, before any compute, that it fits a model.

        Raises:
            LookupError: the model has no such site.
            ValueError: it belongs to another model, or its width is another.
        """
        for site, v in self.directions.items():
            spec.select(site)
            if v.shape[0] != spec.width(site):
                raise ValueError(
                    f"{self} has width {v.shape[0]} at {site}, {spec.name} has "
                    f"{spec.width(site)} there: use a vector made for this model"
                )
        own = self.fingerprint
        if own is not None and not same_model(own, spec.fingerprint):
            raise ValueError(
                f"{self} belongs to {own.model} (weights {own.weights_hash[:8]}), this is "
                f"{spec.name} ({spec.fingerprint.weights_hash[:8]}): fit it again here, or load "
                "it with force=True"
            )

    def __mul__(self, factor: float) -> "SteeringVector":
        return replace(self, strength=self.strength * factor)

    __rmul__ = __mul__

    def __neg__(self) -> "SteeringVector":
        return self * -1.0

    def __add__(self, other: Any) -> "SteeringVector":
        if not isinstance(other, SteeringVector):
            return NotImplemented
        alike = self.rule == other.rule and self.where == other.where
        if not alike or not _same(self.fingerprint, other.fingerprint):
            raise ValueError(
                f"{self} and {other} differ in rule, tokens or model, so their sum has no "
                "meaning: pass a list, steer=[a, b], and they act in that order"
            )
        sites = dict.fromkeys([*self.directions, *other.directions])
        summed = {site: self._pushed(site, other) for site in sites}
        return replace(
            self, directions=summed, strength=1.0, name=f"{self.name} + {other.name}".strip(" +"),
            norms={**other.norms, **self.norms}, notes={},
        )  # fmt: skip

    def __sub__(self, other: "SteeringVector") -> "SteeringVector":
        return self + -other

    def _pushed(self, site: Site, other: "SteeringVector") -> Tensor:
        pushes = [v.strength * v.directions[site] for v in (self, other) if site in v.directions]
        return torch.stack(pushes).sum(0)

    def after(self, position: int) -> "SteeringVector":
        """Act from an absolute position on, padding not counted."""
        return replace(self, where=replace(self.where, start=position))

    def on(self, phase: Phase) -> "SteeringVector":
        """Act in one phase only: all, prompt, generated or deciding."""
        return replace(self, where=replace(self.where, phase=phase))

    def like(self, directions: Mapping[Site, Float[Tensor, " d"]], name: str) -> "SteeringVector":
        """Return the same vector with other directions, as controls need it."""
        return replace(self, directions=directions, name=name)

    def __str__(self) -> str:
        return f"{self.strength:g} × {self.name or 'vector'}"

    def to_record(self) -> tuple[str, Mapping[str, Any], Mapping[str, np.ndarray]]:
        """Return the method, the settings and the arrays, for saving."""
        where = {"phase": self.where.phase, "start": self.where.start, "stop": self.where.stop}
        settings = {
            "rule": self.rule,
            "strength": self.strength,
            "where": where,
            "name": self.name,
            "norms": {str(site): norm for site, norm in self.norms.items()},
            "notes": dict(self.notes),
        }
        arrays = {str(site): v.float().cpu().numpy() for site, v in self.directions.items()}
        return self.method, settings, arrays

    @classmethod
    def from_record(
        cls,
        method: str,
        settings: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        fingerprint: Fingerprint,
    ) -> "SteeringVector":
        """Rebuild a vector from what `to_record` gave."""
        return cls(
            directions={Site.parse(site): torch.from_numpy(v.copy()) for site, v in arrays.items()},
            rule=settings["rule"],
            strength=settings["strength"],
            where=Where(**settings["where"]),
            fingerprint=fingerprint,
            name=settings["name"],
            method=method,
            norms={Site.parse(site): norm for site, norm in settings["norms"].items()},
            notes=settings["notes"],
        )


def _same(one: Fingerprint | None, other: Fingerprint | None) -> bool:
    if one is None or other is None:
        return one is other
    return same_model(one, other)
