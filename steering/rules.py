"""The edits themselves: pure functions from activations, a direction and a strength to activations.

They compute in float32 or better and give back the dtype they were given.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

SMALLEST = 1e-30
"""Norms below it count as it, so that what is zero stays zero."""

Rule = Callable[[Float[Tensor, "*rows d"], Float[Tensor, " d"], float], Float[Tensor, "*rows d"]]


def add(
    x: Float[Tensor, "*rows d"], v: Float[Tensor, " d"], strength: float
) -> Float[Tensor, "*rows d"]:
    """Add `strength · v`; the strength multiplies the direction as it is (unit: raw)."""
    return torch.add(x, v.to(x.dtype), alpha=strength)


def add_relative(
    x: Float[Tensor, "*rows d"], v: Float[Tensor, " d"], strength: float
) -> Float[Tensor, "*rows d"]:
    """Add `strength · ‖x‖ · v̂`; the strength is in multiples of each token's own norm."""
    return _pushed(x, unit(v), strength)


def icv(
    x: Float[Tensor, "*rows d"], v: Float[Tensor, " d"], strength: float
) -> Float[Tensor, "*rows d"]:
    """Turn x towards v and keep its norm: `x′ = ‖x‖ · normalize(x/‖x‖ + λ(1 + max(0, −cos)) v̂)`.

    In-context vectors (Liu et al., 2023, arXiv:2311.06668), as the released code computes it;
    the strength is λ, dimensionless. The factor doubles the push where x points away from v; it is
    in the code and not in the paper. A zero x stays zero.
    """
    return _turned(x, unit(v), strength)


def unit(v: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """Return v with norm 1; a zero v stays zero."""
    return v / vector_norm(v).clamp(min=SMALLEST)


def _pushed(
    x: Float[Tensor, "*rows d"], unit: Float[Tensor, " d"], strength: float
) -> Float[Tensor, "*rows d"]:
    wide = _wide(x)
    norm = vector_norm(wide, dim=-1, keepdim=True)
    return torch.addcmul(wide, norm, unit.to(wide.dtype), value=strength).to(x.dtype)


def _turned(
    x: Float[Tensor, "*rows d"], unit: Float[Tensor, " d"], strength: float
) -> Float[Tensor, "*rows d"]:
    wide = _wide(x)
    unit = unit.to(wide.dtype)
    norm = vector_norm(wide, dim=-1, keepdim=True)
    # The formula times ‖x‖, which saves dividing every token by its norm and back.
    push = norm - (wide @ unit).clamp(max=0).unsqueeze(-1)
    pushed = torch.addcmul(wide, push, unit, value=strength)
    scale = norm / vector_norm(pushed, dim=-1, keepdim=True).clamp(min=SMALLEST)
    return (pushed * scale).to(x.dtype)


def by_name() -> dict[str, Rule]:
    """Return the rules by the names that vectors store."""
    return {"add": add, "add_relative": add_relative, "icv": icv}


def on_units() -> dict[str, Rule]:
    """Return the rules that only use a direction's sense, for directions of norm 1 already."""
    return {"add_relative": _pushed, "icv": _turned}


def unit_of(rule: str) -> str:
    """Return the unit in which a rule's strength is given."""
    return {"add": "raw", "add_relative": "multiples of the norm", "icv": "λ"}[rule]


def _wide(x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
    """Return x in float32 or better."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
