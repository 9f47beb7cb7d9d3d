"""Tokens that go into a model together. The only place where rows are padded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Left-padded tokens with their mask and absolute positions.

    Padding stands on the left, where generation needs it; since positions and mask are always
    passed on, a padded row gives what it gives alone.
    """

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    """True for real tokens."""
    positions: Int[Tensor, "batch pos"]
    """Absolute positions of real tokens, counted from 0; padding has position 0."""

    @classmethod
    def pad(cls, rows: Sequence[Sequence[int]], *, pad_id: int) -> "Batch":
        """Pad rows of token ids on the left to the length of the longest.

        Raises:
            ValueError: there is no row, or a row is empty.
        """
        if not rows:
            raise ValueError("no prompts: the list is empty; give at least one text")
        short = [i for i, row in enumerate(rows) if not row]
        if short:
            raise ValueError(f"prompt {short[0]} has no tokens: give it some text")
        width = max(map(len, rows))
        tokens = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            tokens[i, width - len(row) :] = torch.tensor(list(row))
            mask[i, width - len(row) :] = True
        return cls(tokens=tokens, mask=mask, positions=(mask.cumsum(1) - 1).clamp(min=0))

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """The number of real tokens of each row."""
        return self.mask.sum(1)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch on a device."""
        return Batch(
            tokens=self.tokens.to(device),
            mask=self.mask.to(device),
            positions=self.positions.to(device),
        )
