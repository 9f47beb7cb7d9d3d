"""The measurements behind a receipt: what an edit changed, where, and by how much."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from store import Site
from workbench.plan import Receipt, Touch, Where

PENDING = 2**20
"""Numbers held back before they are measured: small tensors are cheaper to measure together."""


@dataclass
class _Account:
    """One site's edits: first held back, then measured, in the same order."""

    held: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    chosen: list[Bool[Tensor, "batch pos"]] = field(default_factory=list)
    norms: list[Float[Tensor, "norm batch pos"]] = field(default_factory=list)
    """Per token the norm before, the norm after, and the norm of the change."""

    def measure(self) -> None:
        """Turn what is held back into norms; the angle follows from them."""
        if not self.held:
            return
        before, after = (torch.cat(side, dim=1).float() for side in zip(*self.held, strict=True))
        self.held.clear()
        norms = [torch.linalg.vector_norm(x, dim=-1) for x in (before, after, after - before)]
        self.norms.append(torch.stack(norms))

    def columns(self) -> tuple[Bool[Tensor, "batch pos"], Float[Tensor, "norm batch pos"]]:
        """Return all steps side by side: which tokens were selected, and their norms."""
        self.measure()
        return torch.cat(self.chosen, dim=1), torch.cat(self.norms, dim=2).double()


class Ledger:
    """What one intervention did, noted step by step and summed up at the end."""

    def __init__(self, name: str, where: Where) -> None:
        self._name = name
        self._where = where
        self._accounts: dict[Site, _Account] = {}
        self._pending = 0
        self._summed: dict[Site, dict[str, Tensor]] | None = None

    def note(
        self,
        site: Site,
        before: Float[Tensor, "batch pos d"],
        after: Float[Tensor, "batch pos d"],
        chosen: Bool[Tensor, "batch pos"],
    ) -> None:
        """Note one edit."""
        account = self._accounts.get(site)
        if account is None:
            account = self._accounts[site] = _Account()
        account.chosen.append(chosen)
        account.held.append((before.detach(), after.detach()))
        self._summed = None
        self._pending += 2 * before.numel()
        if self._pending > PENDING:
            for one in self._accounts.values():
                one.measure()
            self._pending = 0

    def require_touched(self) -> None:
        """Check that some position was selected, and that every value that came out is finite.

        Raises:
            ValueError: no position was selected.
            FloatingPointError: a value is not finite.
        """
        if not self._accounts:
            raise ValueError(
                f"{self._name} touched nothing: no forward pass of this model reached its sites; "
                "run the model that was opened, inside the block"
            )
        summed = self._sums()
        if not any(bool(sums["positions"].any()) for sums in summed.values()):
            seen = max(len(account.chosen) for account in self._accounts.values())
            raise ValueError(
                f"{self._name} touched nothing: in {seen} forward passes no token was among "
                f"{self._where}; the last sampled token is never fed back; widen where="
            )
        for site, sums in summed.items():
            if not bool(sums["change"].isfinite().all()):
                raise FloatingPointError(
                    f"{self._name} gave values that are not finite at {site}: lower the strength"
                )

    def receipt(self, row: int, n_rows: int | None) -> Receipt:
        """Sum up what was done to one of `n_rows` rows, its beams and sequences together."""
        touches = {site: _touch(sums, row, n_rows) for site, sums in self._sums().items()}
        return Receipt(intervention=self._name, sites=touches)

    def _sums(self) -> dict[Site, dict[str, Tensor]]:
        if self._summed is None:
            self._summed = {site: _summed(one) for site, one in self._accounts.items()}
        return self._summed


def _summed(account: _Account) -> dict[str, Tensor]:
    """Sum each row over the tokens that were selected."""
    chosen, (before, after, change) = account.columns()
    widths = torch.tensor([part.shape[1] for part in account.chosen], device=chosen.device)
    step = torch.arange(len(widths), device=chosen.device).repeat_interleave(widths)
    per_step = torch.zeros(len(chosen), len(widths), device=chosen.device, dtype=torch.float64)
    per_step.index_add_(1, step, chosen.double())
    ratio = change / before.clamp(min=1e-30)
    return {
        "steps": (per_step > 0).sum(1),
        "positions": chosen.sum(1),
        "change": ratio.where(chosen, 0.0).sum(1),
        "angle": _angle(before, after, change).where(chosen, 0.0).sum(1),
    }


def _touch(sums: dict[str, Tensor], row: int, n_rows: int | None) -> Touch:
    copies = 1 if n_rows is None else len(sums["steps"]) // n_rows
    own = slice(None) if n_rows is None else slice(row * copies, (row + 1) * copies)
    total = {name: values[own].sum().item() for name, values in sums.items()}
    touched = max(total["positions"], 1)
    return Touch(
        steps=int(total["steps"]),
        positions=int(total["positions"]),
        change=total["change"] / touched,
        angle=total["angle"] / touched,
    )


def _angle(
    a: Float[Tensor, "batch pos"], b: Float[Tensor, "batch pos"], c: Float[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos"]:
    """Angle in degrees between sides a and b of a triangle whose third side is c.

    Kahan's half-angle form, which keeps its digits when the angle is small.
    """
    longer, shorter = torch.maximum(a, b), torch.minimum(a, b)
    gap = torch.where(shorter >= c, c - (longer - shorter), shorter - (longer - c)).clamp(min=0)
    ratio = ((longer - shorter) + c) * gap
    ratio = ratio / ((longer + (shorter + c)) * ((longer - c) + shorter)).clamp(min=1e-30)
    return torch.rad2deg(2 * torch.atan(torch.sqrt(ratio.clamp(min=0))))
