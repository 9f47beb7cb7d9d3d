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
from jaxtyping import Float32, Integer

from store.mapping import Recorded
from store.tensors import to_float32

ADDRESS: list[Any] = ["INTEGER", "USMALLINT", "BIGINT"]
"""SQL types of run_id, site_id and row, which together address a vector."""


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

    def _rows(self, d: int) -> Callable[..., pa.Array]:
        def act(run: Any, site: Any, row: Any) -> pa.Array:
            out = np.empty((len(row), d), np.float32)
            for mine, vectors in self._gathered(run, site, row):
                if vectors.shape[1] != d:
                    raise ValueError(f"act_{d} was asked for a site of width {vectors.shape[1]}")
                out[mine] = vectors
            return pa.FixedSizeListArray.from_arrays(pa.array(out.reshape(-1)), d)

        return act

    def _dot(self, run: Any, site: Any, row: Any, name: Any) -> pa.Array:
        out = np.empty(len(row), np.float32)
        names = _numpy(name)
        for mine, vectors in self._gathered(run, site, row):
            for wanted in set(names[mine]):
                these = names[mine] == wanted
                out[mine[these]] = vectors[these] @ self._vector(str(wanted), vectors.shape[1])
        return pa.array(out)

    def _gathered(
        self, run: Any, site: Any, row: Any
    ) -> Iterator[tuple[Integer[np.ndarray, " k"], Float32[np.ndarray, "k d"]]]:
        """Indices and vectors of each run and site in a chunk."""
        runs, sites, rows = _numpy(run), _numpy(site), _numpy(row)
        self.evaluated += len(rows)
        pairs = np.stack([runs.astype(np.int64), sites.astype(np.int64)])
        for run_id, site_id in np.unique(pairs, axis=1).T.tolist():
            mine = np.flatnonzero((runs == run_id) & (sites == site_id))
            recorded = self._recorded(run_id, int(rows[mine].max()))
            names = list(recorded.sites)
            if site_id >= len(names):
                raise LookupError(f"run {run_id} has no site_id {site_id}: see the table site")
            yield mine, to_float32(recorded.gather(names[site_id], rows[mine]))

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


def _numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy()
    return column.to_numpy(zero_copy_only=False)
