"""The edits themselves: pure functions from activations, a direction and a strength to activations.

They compute in float32 or better and give back the dtype they were given.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

Rule = Callable[
    [Float[Tensor, "*rows d"], Float[Tensor, " d"], float | Float[Tensor, ""]],
    Float[Tensor, "*rows d"],
]


def add(
    x: Float[Tensor, "*rows d"], v: Float[Tensor, " d"], strength: float | Float[Tensor, ""]
) -> Float[Tensor, "*rows d"]:
    """Add `strength · v`; the strength multiplies the direction as it is (unit: raw)."""
    return x + (strength * v).to(x.dtype)


def add_relative(
    x: Float[Tensor, "*rows d"], v: Float[Tensor, " d"], strength: float | Float[Tensor, ""]
) -> Float[Tensor, "*rows d"]:
    """Add `strength · ‖x‖ · v̂`; the strength is in multiples of each token's own norm."""
    wide = _wide(x)
    step = strength * wide.norm(dim=-1, keepdim=True)
    return (wide + step * normalize(v.to(wide.dtype), dim=-1)).to(x.dtype)


def icv(
    x: Float[Tensor, "*rows d"], v: Float[Tensor, " d"], strength: float | Float[Tensor, ""]
) -> Float[Tensor, "*rows d"]:
    """Turn x towards v and keep its norm: `x′ = ‖x‖ · normalize(x/‖x‖ + λ(1 + max(0, −cos)) v̂)`.

    In-context vectors (Liu et al., 2023, arXiv:2311.06668), as the released code computes it;
    the strength is λ, dimensionless. The factor doubles the push where x points away from v; it is
    in the code and not in the paper. A zero x stays zero.
    """
    wide = _wide(x)
    unit = normalize(v.to(wide.dtype), dim=-1)
    away = (-cosine_similarity(wide, unit, dim=-1)).clamp(min=0).unsqueeze(-1)
    pushed = normalize(wide, dim=-1) + strength * (1 + away) * unit
    return (wide.norm(dim=-1, keepdim=True) * normalize(pushed, dim=-1)).to(x.dtype)


def by_name() -> dict[str, Rule]:
    """Return the rules by the names that vectors store."""
    return {"add": add, "add_relative": add_relative, "icv": icv}


def unit_of(rule: str) -> str:
    """Return the unit in which a rule's strength is given."""
    return {"add": "raw", "add_relative": "multiples of the norm", "icv": "λ"}[rule]


def _wide(x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
    return x.to(torch.promote_types(x.dtype, torch.float32))
