"""Directions from activations: pure functions of two sets of vectors, in float64."""

import torch
from jaxtyping import Float
from torch import Tensor


def mean_difference(
    before: Float[Tensor, "pair d"], after: Float[Tensor, "pair d"]
) -> Float[Tensor, " d"]:
    """Return the mean of `after − before`: the direction from one to the other."""
    return (after.double() - before.double()).mean(0)


def mean_plus_components(
    before: Float[Tensor, "pair d"], after: Float[Tensor, "pair d"], rank: int = 1
) -> Float[Tensor, " d"]:
    """Return the mean difference plus the first principal components of the differences.

    In-context vectors (Liu et al., 2023, arXiv:2311.06668), as released: the differences are
    centred, so a component is a unit vector of what varies between pairs, signed so that the
    pair with the largest score counts positive.

    Differs from the paper: components without variance (a single pair, equal pairs) are left out;
    the released code adds an arbitrary unit vector for them.
    """
    delta = after.double() - before.double()
    mean = delta.mean(0)
    u, s, vt = torch.linalg.svd(delta - mean, full_matrices=False)
    kept = min(rank, len(s))
    real = s[:kept] > 1e-10 * delta.norm().clamp(min=1e-300)
    # With two pairs both scores are equally large: the first one decides, not rounding.
    size = u[:, :kept].abs()
    largest = (size >= size.max(0).values - 1e-9).double().argmax(0)
    signs = torch.sign(u[largest, torch.arange(kept)])
    return mean + (signs * real) @ vt[:kept]
