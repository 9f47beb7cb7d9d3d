"""Vectors in SQL: Arrow functions over mapped shards, called only for rows that survive filters.

Everything is decoded to, and accumulated in, float32.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import PythonUDFType
from jaxtyping import Float32, Integer, Shaped

from store.mapping import Recorded
from store.tensors import decode, to_float32

ADDRESS: list[Any] = ["INTEGER", "USMALLINT", "BIGINT"]
"""SQL types of run_id, site_id and row, which together address a vector."""


CHUNK = 128
"""Rows decoded at a time."""

ADDRESS_NAMES = ("run_id", "site_id", "row")


class Vectors:
    """The functions of one connection: act_<d>(run_id, site_id, row), act_dot(..., direction)."""

    def __init__(
        self,
        recorded: Callable[[int, int], Recorded],
        direction: Callable[[str], Float32[np.ndarray, " d"]],
    ) -> None:
        self._recorded, self._direction = recorded, direction
        self._named: dict[str, np.ndarray] = {}
        self.evaluated = 0
        """Rows that the functions were asked for; what a filter removed is not among them."""
        self.failure: Exception | None = None
        """What went wrong inside a function: DuckDB passes on only its text."""

    def register(self, con: duckdb.DuckDBPyConnection, widths: list[int]) -> list[str]:
        """Add the functions to a connection and return their names."""
        for d in widths:
            con.create_function(
                f"act_{d}",
                self._watched(self._rows(d)),
                ADDRESS,
                f"FLOAT[{d}]",
                type=PythonUDFType.ARROW,
            )
        con.create_function(
            "act_dot",
            self._watched(self._dot),
            [*ADDRESS, "VARCHAR"],
            "FLOAT",
            type=PythonUDFType.ARROW,
        )
        return [*(f"act_{d}" for d in widths), "act_dot"]

    def read(self, run: Any, site: Any, row: Any) -> Float32[np.ndarray, "row d"]:
        """Read the vectors at some addresses, decoded; raises ValueError for different widths."""
        out = np.empty((0, 0), np.float32)
        for mine, vectors in self._gathered(run, site, row):
            if not out.size:
                out = np.empty((len(row), vectors.shape[1]), np.float32)
            if vectors.shape[1] != out.shape[1]:
                raise ValueError(
                    f"these vectors have widths {out.shape[1]} and {vectors.shape[1]}: ask for "
                    "sites of one width"
                )
            if isinstance(mine, slice):
                decode(vectors, out)
            else:
                out[mine] = to_float32(vectors)
        return out

    def _rows(self, d: int) -> Callable[..., pa.Array]:
        def act(run: Any, site: Any, row: Any) -> pa.Array:
            out = self.read(run, site, row)
            if len(out) and out.shape[1] != d:
                raise ValueError(f"act_{d} was asked for a site of width {out.shape[1]}")
            return pa.FixedSizeListArray.from_arrays(pa.array(out.reshape(-1)), d)

        return act

    def _dot(self, run: Any, site: Any, row: Any, name: Any) -> pa.Array:
        out = np.empty(len(row), np.float32)
        names = _names(name)
        for mine, vectors in self._gathered(run, site, row):
            if len(names) == 1:
                out[mine] = _along(vectors, self._vector(names[0], vectors.shape[1]))
                continue
            chosen = _numpy(name)[mine]
            for wanted in set(chosen):
                these = chosen == wanted
                q = self._vector(str(wanted), vectors.shape[1])
                out[np.arange(len(out))[mine][these]] = _along(vectors[these], q)
        return pa.array(out)

    def _gathered(
        self, run: Any, site: Any, row: Any
    ) -> Iterator[tuple[Integer[np.ndarray, " k"] | slice, Shaped[np.ndarray, "k d"]]]:
        """Indices and stored vectors of each run and site in a chunk, which mostly has just one."""
        runs, sites, rows = _numpy(run), _numpy(site), _numpy(row)
        self.evaluated += len(rows)
        if not len(rows):
            return
        if (runs == runs[0]).all() and (sites == sites[0]).all():
            yield slice(None), self._read(int(runs[0]), int(sites[0]), rows)
            return
        pairs = np.stack([runs.astype(np.int64), sites.astype(np.int64)])
        for run_id, site_id in np.unique(pairs, axis=1).T.tolist():
            mine = np.flatnonzero((runs == run_id) & (sites == site_id))
            yield mine, self._read(run_id, site_id, rows[mine])

    def _read(
        self, run_id: int, site_id: int, rows: Integer[np.ndarray, " k"]
    ) -> Shaped[np.ndarray, "k d"]:
        recorded = self._recorded(run_id, int(rows.max()))
        names = list(recorded.sites)
        if site_id >= len(names):
            raise LookupError(f"run {run_id} has no site_id {site_id}: see the table site")
        return recorded.view(names[site_id], rows)

    def _vector(self, name: str, d: int) -> Float32[np.ndarray, " d"]:
        if name not in self._named:
            self._named[name] = self._direction(name)
        if len(self._named[name]) != d:
            raise ValueError(
                f"direction {name!r} has width {len(self._named[name])} and the site {d}: "
                "filter on site, or ask for another direction"
            )
        return self._named[name]

    def _watched(self, function: Callable[..., pa.Array]) -> Callable[..., pa.Array]:
        @wraps(function)  # DuckDB counts the parameters
        def call(*columns: Any) -> pa.Array:
            try:
                return function(*columns)
            except Exception as error:
                self.failure = error
                raise

        return call


def find_direction(found: Mapping[str, list[float]], name: str) -> Float32[np.ndarray, " d"]:
    """Pick the direction meant among those whose name begins so.

    `artifact/key` is exact; `artifact` alone will do when it has just one. Raises LookupError.
    """
    if name in found:
        return np.array(found[name], np.float32)
    if len(found) == 1:
        return np.array(next(iter(found.values())), np.float32)
    if found:
        raise LookupError(f"direction {name!r} is one of {', '.join(found)}: name which")
    raise LookupError(f"no direction {name!r}: SELECT name FROM direction lists them")


def _along(
    rows: Shaped[np.ndarray, "k d"], q: Float32[np.ndarray, " d"]
) -> Float32[np.ndarray, " k"]:
    """Dot products in float32, decoding a few rows at a time, which stay in the cache.

    Not through BLAS: DuckDB asks from several threads, and BLAS's own would fight over the cores.
    """
    if rows.dtype == np.float32:
        return np.einsum("rd,d->r", rows, q)
    out, scratch = np.empty(len(rows), np.float32), np.empty((CHUNK, len(q)), np.float32)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        here = out[start : start + len(part)]
        np.einsum("rd,d->r", decode(part, scratch[: len(part)]), q, out=here)
    return out


def _names(column: pa.Array | pa.ChunkedArray) -> list[str]:
    return [str(name) for name in column.unique().to_pylist()]


def _numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy()
    return column.to_numpy(zero_copy_only=False)
