"""The measurements behind a receipt: what an edit changed, where, and by how much."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from store import Site
from workbench.plan import Receipt, Touch, Where


@dataclass(frozen=True, eq=False)
class _Entry:
    """One site in one step: norms before, after and of the change, per token."""

    chosen: Bool[Tensor, "batch pos"]
    norms: tuple[Tensor, Tensor, Tensor] | None
    """None when the edit returned its input: nothing changed."""


class Ledger:
    """What one intervention did, noted step by step and summed up at the end."""

    def __init__(self, name: str, where: Where) -> None:
        self._name = name
        self._where = where
        self._entries: dict[Site, list[_Entry]] = {}

    def note(
        self,
        site: Site,
        before: Float[Tensor, "batch pos d"],
        after: Float[Tensor, "batch pos d"],
        chosen: Bool[Tensor, "batch pos"],
    ) -> None:
        """Note one edit. Three norms suffice: the angle follows from them."""
        norms = None
        if after is not before:
            with torch.no_grad():
                norms = (_norm(before), _norm(after), _norm(after - before))
        self._entries.setdefault(site, []).append(_Entry(chosen, norms))

    def require_touched(self) -> None:
        """Check that some position was selected.

        Raises:
            ValueError: no position was, or a value that came out is not finite.
        """
        steps = [entry for entries in self._entries.values() for entry in entries]
        if not steps:
            raise ValueError(
                f"{self._name} touched nothing: no forward pass of this model reached its sites; "
                "run the model that was opened, inside the block"
            )
        if not any(bool(entry.chosen.any()) for entry in steps):
            seen = max(len(entries) for entries in self._entries.values())
            raise ValueError(
                f"{self._name} touched nothing: in {seen} forward passes no token was among "
                f"{self._where}; the last sampled token is never fed back; widen where="
            )
        for site, entries in self._entries.items():
            if not all(_finite(entry) for entry in entries):
                raise FloatingPointError(
                    f"{self._name} gave values that are not finite at {site}: lower the strength"
                )

    def receipt(self, row: int, n_rows: int | None) -> Receipt:
        """Sum up what was done to one of `n_rows` rows, its beams and sequences together."""
        touches = {site: _touch(entries, row, n_rows) for site, entries in self._entries.items()}
        return Receipt(intervention=self._name, sites=touches)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32)


def _finite(entry: _Entry) -> bool:
    if entry.norms is None:
        return True
    return bool(torch.isfinite(entry.norms[1][entry.chosen]).all())


def _touch(entries: list[_Entry], row: int, n_rows: int | None) -> Touch:
    steps = positions = 0
    changes: list[Tensor] = []
    angles: list[Tensor] = []
    for entry in entries:
        copies = 1 if n_rows is None else entry.chosen.shape[0] // n_rows
        own = slice(None) if n_rows is None else slice(row * copies, (row + 1) * copies)
        chosen = entry.chosen[own]
        count = int(chosen.sum())
        steps += count > 0
        positions += count
        if entry.norms is not None and count:
            before, after, change = (norm[own][chosen].double() for norm in entry.norms)
            changes.append(change / before.clamp(min=1e-30))
            angles.append(_angle(before, after, change))
    touched = max(positions, 1)
    return Touch(
        steps=steps,
        positions=positions,
        change=float(torch.cat(changes).sum()) / touched if changes else 0.0,
        angle=float(torch.cat(angles).sum()) / touched if angles else 0.0,
    )


def _angle(
    a: Float[Tensor, " token"], b: Float[Tensor, " token"], c: Float[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """Angle in degrees between sides a and b of a triangle whose third side is c.

    Kahan's half-angle form, which keeps its digits when the angle is small.
    """
    longer, shorter = torch.maximum(a, b), torch.minimum(a, b)
    gap = torch.where(shorter >= c, c - (longer - shorter), shorter - (longer - c)).clamp(min=0)
    ratio = ((longer - shorter) + c) * gap / ((longer + (shorter + c)) * ((longer - c) + shorter))
    return torch.rad2deg(2 * torch.atan(torch.sqrt(ratio.clamp(min=0))))
