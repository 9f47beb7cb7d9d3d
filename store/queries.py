"""Named questions to a store, answered as Arrow tables; they only read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from store.mapping import Recorded
from store.sites import Site
from store.store import Store
from store.tensors import to_float32
from store.vectors import ADDRESS_NAMES

CHUNK = 4096
"""Rows decoded at a time, so that a large shard needs little memory."""


def runs_overview(store: Store) -> pa.Table:
    """List the runs, newest first: what they are of, how much there is, and how they ended."""
    return store.sql("""
        SELECT uuid, name, model, dtype, coalesce(sites, []) AS sites,
               coalesce(prompts, 0)::BIGINT AS prompts, coalesce(tokens, 0)::BIGINT AS tokens,
               coalesce(bytes, 0)::BIGINT AS bytes, created_at, status, error, why
        FROM run
        LEFT JOIN (SELECT run_id, list(site ORDER BY site_id) AS sites FROM site GROUP BY run_id)
          USING (run_id)
        LEFT JOIN (SELECT run_id, sum(n_prompts) AS prompts, sum(n) AS tokens, sum(bytes) AS bytes
                   FROM shard GROUP BY run_id) USING (run_id)
        ORDER BY created_at DESC, uuid
    """)


def artifacts_overview(store: Store) -> pa.Table:
    """List the artifacts, newest first: what they are, what made them, and for which model."""
    return store.sql("""
        SELECT name, kind, method, model, created_at, uuid FROM artifact
        ORDER BY created_at DESC, uuid
    """)


def norms(store: Store, run: str = "latest") -> pa.Table:
    """Give the mean Euclidean norm of the vectors at each site of a run, and how many there are."""
    recorded = store.read(run)
    means = [_mean_norm(recorded, site) for site in recorded.sites]
    sites = list(recorded.sites)
    return pa.table(
        {
            "site": pa.array([str(site) for site in sites], pa.string()),
            "part": pa.array([site.part for site in sites], pa.string()),
            "layer": pa.array([site.layer for site in sites], pa.int16()),
            "head": pa.array([site.head for site in sites], pa.int16()),
            "d": pa.array([recorded.sites[site] for site in sites], pa.int32()),
            "n": pa.array([recorded.n_rows] * len(sites), pa.int64()),
            "mean_norm": pa.array(means, pa.float64()),
        }
    )


def top_tokens(
    store: Store, direction: str, *, site: str | Site, run: str = "latest", k: int = 10
) -> pa.Table:
    """List the k tokens whose vectors at a site reach furthest along a named direction.

    `direction` is artifact/key, or the artifact alone when it has one. Raises LookupError for an
    unknown run, site or direction, and ValueError when their widths differ.
    """
    recorded = store.read(run)
    site_id = list(recorded.sites).index(recorded.site(site))
    return store.sql(
        """
        WITH best AS (
          SELECT run_id, row, prompt_id, pos, token_id, token_str,
                 act_dot(run_id, $2::USMALLINT, row, $3) AS value
          FROM token WHERE run_id = (SELECT run_id FROM run WHERE uuid = $1)
          ORDER BY value DESC, row LIMIT $4)
        SELECT row, prompt_id, pos, token_id, token_str, value, text
        FROM best JOIN prompt USING (run_id, prompt_id) ORDER BY value DESC, row
        """,
        (recorded.run.uuid, site_id, direction, k),
    )


def tokens_by_tag(store: Store, run: str | None = None) -> pa.Table:
    """Count prompts and tokens under each tag, of one run or of all; untagged ones are left out."""
    uuid = None if run is None else store.run(run).uuid
    return store.sql(
        """
        SELECT tag, count(*) AS prompts, sum(n)::BIGINT AS tokens
        FROM (SELECT unnest(list_distinct(tags)) AS tag, n FROM prompt JOIN run USING (run_id)
              WHERE $1::VARCHAR IS NULL OR uuid = $1)
        GROUP BY tag ORDER BY tag
        """,
        (uuid,),
    )


def vectors(
    store: Store, query: str, params: Sequence[Any] = ()
) -> tuple[pa.Table, Float32[np.ndarray, "row d"]]:
    """Ask in SQL for addresses, and read the vectors there: the answer, and one vector per row.

    The query's columns must include run_id, site_id and row. Raises ValueError when they do not,
    or when the sites' widths differ.
    """
    table = store.sql(query, params)
    missing = set(ADDRESS_NAMES) - set(table.column_names)
    if missing:
        raise ValueError(f"vectors need the columns run_id, site_id and row: add {sorted(missing)}")
    if not len(table):
        return table, np.empty((0, 0), np.float32)
    # The same functions as the views', so that run numbers mean what they mean in the answer.
    return table, store.catalog.vectors().read(*map(table.column, ADDRESS_NAMES))


def moments(store: Store, run: str = "latest") -> pa.Table:
    """Give each site's mean, standard deviation (lists of d) and absmax, without its rows.

    Raises LookupError for an unknown run.
    """
    rows = store.sql(
        """
        SELECT site, site_id, n, absmax, sum, sumsq
        FROM shard_stat JOIN site USING (run_id, site_id) JOIN run USING (run_id)
        WHERE uuid = $1 ORDER BY site_id, shard_id
        """,
        (store.run(run).uuid,),
    ).to_pylist()
    return pa.Table.from_pylist(
        [_moments([row for row in rows if row["site"] == site]) for site in _sites(rows)],
        _MOMENTS,
    )


_MOMENTS = pa.schema([
    ("site", pa.string()), ("n", pa.int64()), ("absmax", pa.float32()),
    ("mean", pa.list_(pa.float64())), ("std", pa.list_(pa.float64())),
])  # fmt: skip


def _sites(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["site"] for row in rows))


def _moments(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    n = sum(row["n"] for row in rows)
    mean = np.sum([row["sum"] for row in rows], axis=0) / n
    square = np.sum([row["sumsq"] for row in rows], axis=0) / n
    with np.errstate(invalid="ignore"):  # of a site that holds infinities
        std = np.sqrt(np.maximum(square - mean**2, 0))
    absmax = max(row["absmax"] for row in rows)
    return {"site": rows[0]["site"], "n": n, "absmax": absmax, "mean": mean, "std": std}


def _mean_norm(recorded: Recorded, site: Site) -> float | None:
    """The mean in float64; None where there are no rows."""
    total = 0.0
    for block in recorded.blocks(site):
        for start in range(0, len(block), CHUNK):
            rows = to_float32(block[start : start + CHUNK]).astype(np.float64)
            total += float(np.sqrt(np.einsum("rd,rd->r", rows, rows)).sum())
    return total / recorded.n_rows if recorded.n_rows else None
