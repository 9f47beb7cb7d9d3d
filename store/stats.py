"""Sums over the rows of a shard, taken while they are still in the processor's cache.

They make means and variances per site free, and say whether a stored dtype overflowed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Shaped

from store.sites import Site
from store.tensors import decode

CHUNK = 512
"""Rows summed in float32 before they are added up in float64."""

WIDEST = 1 << 20
"""At most this many values are decoded at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """What the rows of one site in one shard add up to."""

    n: int
    absmax: float
    """Largest absolute value; infinite or NaN when a row held such a value."""
    sum: Float64[np.ndarray, " d"]
    sumsq: Float64[np.ndarray, " d"]


class Sums:
    """Running sums of one site."""

    def __init__(self, scratch: Float32[np.ndarray, "chunk d"]) -> None:
        """Use memory for decoding that sites of one width may share."""
        self._scratch = scratch
        self.clear()

    def clear(self) -> None:
        """Begin again at zero."""
        d = self._scratch.shape[1]
        self._n, self._absmax = 0, np.float32(0)
        self._sum, self._sumsq = np.zeros(d), np.zeros(d)

    def add(self, rows: Shaped[np.ndarray, "row d"]) -> None:
        """Add stored rows, decoded a few at a time."""
        # What overflows here is what the caller stored, and absmax says so.
        with np.errstate(over="ignore", invalid="ignore"):
            step = len(self._scratch)
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                stored = part.dtype == np.float32
                self._chunk(part if stored else decode(part, self._scratch[: len(part)]))
        self._n += len(rows)

    def moments(self) -> Moments:
        """Say what was added."""
        return Moments(
            n=self._n, absmax=float(self._absmax), sum=self._sum.copy(), sumsq=self._sumsq.copy()
        )

    def _chunk(self, x: Float32[np.ndarray, "row d"]) -> None:
        self._absmax = np.maximum(self._absmax, np.maximum(x.max(), -x.min()))
        self._sum += x.sum(0)
        self._sumsq += np.einsum("rd,rd->d", x, x)


def running(sites: Mapping[Site, int]) -> dict[Site, Sums]:
    """Begin the sums of a run's sites."""
    scratch = {
        d: np.empty((max(1, min(CHUNK, WIDEST // d)), d), np.float32) for d in set(sites.values())
    }
    return {site: Sums(scratch[d]) for site, d in sites.items()}


def to_table(moments: Mapping[Site, Moments]) -> pa.Table:
    """Lay out a shard's sums, one row per site in the run's order."""
    values, sums = list(moments.values()), pa.list_(pa.float64())
    return pa.table(
        {
            "site_id": pa.array(range(len(values)), pa.uint16()),
            "n": pa.array([one.n for one in values], pa.int64()),
            "absmax": pa.array([one.absmax for one in values], pa.float32()),
            "sum": pa.array([one.sum for one in values], sums),
            "sumsq": pa.array([one.sumsq for one in values], sums),
        }
    )
