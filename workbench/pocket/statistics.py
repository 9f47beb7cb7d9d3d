"""Figures with 95 % intervals: shares by Wilson, anything else by the bootstrap."""

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from workbench.pocket.records import Figure, Split

T = TypeVar("T")

Z = 1.959964
"""Normal quantile of a 95 % interval."""
RESAMPLES = 1000
"""Draws of a bootstrap."""


def wilson(k: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of k right among n."""
    centre = (k + Z * Z / 2) / (n + Z * Z)
    spread = Z / (n + Z * Z) * math.sqrt(k * (n - k) / n + Z * Z / 4)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def share(name: str, split: Split, right: Sequence[bool]) -> Figure:
    """Return the share that is right, with Wilson's interval."""
    k, n = sum(right), len(right)
    low, high = wilson(k, n)
    return Figure(name=name, split=split, value=k / n, low=low, high=high, n=n)


def resampled(
    name: str, split: Split, values: Sequence[T], statistic: Callable[[Sequence[T]], float]
) -> Figure:
    """Return a statistic of the values, with a bootstrap interval over them."""
    rng = Random(0)
    draws = sorted(statistic(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Figure(
        name=name,
        split=split,
        value=statistic(values),
        low=draws[int(0.025 * RESAMPLES)],
        high=draws[int(0.975 * RESAMPLES)],
        n=len(values),
    )
