"""Results with a shape of their own: selections kept as native tables, and attention rows."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from store import artifacts
from store.sites import Site
from store.store import Store


def materialize(store: Store, query: str, name: str, params: Sequence[Any] = ()) -> int:
    """Keep the answer to a question as a table of this name, and return its rows.

    Vectors become native FLOAT[d] columns of catalog.duckdb, which the plain `duckdb -readonly`
    command line reads too. Asking again under the same name replaces the table. Raises ValueError
    for SQL that does not run or a name that results of another origin have, and UnwritableError.
    """
    rows = store.sql(query, params)
    old = [
        path
        for path in artifacts.results(store.path / "results")
        if (found := artifacts.read_result(path))["kind"] == name and _origin(found["about"], name)
    ]
    uuid = store.add_results(name, rows, about={"materialized": query, "params": list(params)})
    for path in old:
        if path.stem != uuid:
            path.unlink()
    return len(rows)


def attention_rows(
    pattern: Float[np.ndarray, "query key"],
    *,
    run: str,
    prompt: int,
    site: Site,
    first: int = 0,
) -> pa.Table:
    """Lay out one head's attention for `Store.add_results("attention", ...)`, a row per query.

    Row i has the weights of the keys it can see, so rows differ in width. `first` is the absolute
    position of the first query and key. Raises ValueError when the pattern is not square.
    """
    n = len(pattern)
    if pattern.shape != (n, n):
        raise ValueError(f"an attention pattern is [query, key] and square, not {pattern.shape}")
    weights = [pattern[i, : i + 1].astype(np.float32) for i in range(n)]
    return pa.table(
        {
            "run": pa.array([run] * n, pa.string()),
            "prompt_id": pa.array([prompt] * n, pa.int32()),
            "site": pa.array([str(site)] * n, pa.string()),
            "layer": pa.array([site.layer] * n, pa.int16()),
            "head": pa.array([site.head] * n, pa.int16()),
            "pos": pa.array(range(first, first + n), pa.int32()),
            "first_key": pa.array([first] * n, pa.int32()),
            "weights": pa.array(weights, pa.list_(pa.float32())),
        }
    )


def _origin(about: str, name: str) -> str:
    """The question a table came from; raises ValueError when it came from none."""
    origin = json.loads(about).get("materialized")
    if origin is None:
        raise ValueError(f"there are results called {name} already: choose another name")
    return origin
