"""In-context vectors as the released code computes them, in loops over plain lists of numbers.

Liu et al., 2023, arXiv:2311.06668; re-derived from its equations.
"""

import math

import numpy as np


def released_vector(differences: list[list[float]]) -> list[float]:
    """Mean of the differences plus the first principal component, signed by its largest score."""
    k, d = len(differences), len(differences[0])
    mean = [sum(row[j] for row in differences) / k for j in range(d)]
    centred = [[row[j] - mean[j] for j in range(d)] for row in differences]
    # The component is the top eigenvector of the small Gram matrix, carried over to d dimensions.
    gram = [[sum(a[j] * b[j] for j in range(d)) for b in centred] for a in centred]
    values, vectors = np.linalg.eigh(np.array(gram))
    u = vectors[:, -1]
    if values[-1] <= 1e-20 * max(1e-300, sum(x * x for row in differences for x in row)):
        return mean
    component = [sum(u[i] * centred[i][j] for i in range(k)) for j in range(d)]
    norm = math.sqrt(sum(x * x for x in component))
    top = max(abs(score) for score in u)
    largest = next(i for i in range(k) if abs(u[i]) >= top - 1e-9)
    sign = 1.0 if u[largest] > 0 else -1.0
    return [mean[j] + sign * component[j] / norm for j in range(d)]


def steered(x: list[float], v: list[float], lam: float) -> list[float]:
    """One token: x' = ‖x‖ · normalize(x/‖x‖ + λ(1 + max(0, −cos(x, v))) v/‖v‖)."""
    x_norm = math.sqrt(sum(a * a for a in x))
    v_norm = math.sqrt(sum(a * a for a in v))
    cosine = sum(a * b for a, b in zip(x, v, strict=True)) / (x_norm * v_norm)
    push = lam * (1 + max(0.0, -cosine))
    moved = [a / x_norm + push * b / v_norm for a, b in zip(x, v, strict=True)]
    length = math.sqrt(sum(a * a for a in moved))
    return [x_norm * a / length for a in moved]
