"""Vectors in SQL: decoded, and read only when wanted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_samples import FINGERPRINT, SITES, Batch, joined, make_batch, make_run, record

from store import Artifact, Site, Store
from store.catalog import Catalog
from store.tensors import to_float32

POST = Site("resid_post", 0)


@pytest.fixture
def batches() -> list[Batch]:
    return [make_batch([3, 0, 5, 2], seed=seed) for seed in range(5)]


def ask(store: Store, query: str) -> tuple[pa.Table, int]:
    """The answer, and for how many rows a vector was read."""
    catalog = Catalog(store.path, store.path)
    catalog.refresh()
    functions = catalog.vectors()
    with catalog.asking(functions) as con:
        return con.sql(query).to_arrow_table(), functions.evaluated


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_sql_sees_every_vector_of_every_width_decoded(tmp_path: Path, dtype: str) -> None:
    batches = [make_batch([3, 5], seed=seed, dtype=dtype) for seed in range(3)]
    store = Store.open(tmp_path)
    record(store, batches, run=make_run(dtype=dtype))
    for site, d in SITES.items():
        answer = store.sql(
            f"SELECT vec FROM activation_{d} WHERE site = ? ORDER BY row", [str(site)]
        )
        vectors = answer.column("vec").combine_chunks().flatten().to_numpy().reshape(-1, d)
        assert vectors.dtype == np.float32
        assert np.array_equal(vectors, to_float32(joined(batches, site)))


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("SELECT count(*) FROM activation_8", 0),
        ("SELECT token_str, text FROM activation_8", 0),
        ("SELECT vec FROM activation_8 WHERE site = 'resid_post.0' AND prompt_id = 2", 5),
        ("SELECT vec FROM activation_8 WHERE layer = 1 AND text = 'text 3.2'", 5),
        ("SELECT vec FROM activation_8 WHERE site_id = 0 AND list_contains(tags, 'odd')", 10),
        ("SELECT row FROM activation_8 WHERE site_id = 0 AND pos = 4 AND vec[1] > 0", 5),
        ("SELECT vec FROM activation_8 WHERE run_name = 'other'", 0),
        ("SELECT avg(vec[1]) FROM activation_8 WHERE site_id = 2", 50),
    ],
)
def test_vectors_are_read_only_for_rows_that_survive_the_filters(
    tmp_path: Path, batches: list[Batch], query: str, read: int
) -> None:
    store = Store.open(tmp_path)
    record(store, batches)
    assert ask(store, query)[1] == read


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_the_dot_product_with_a_direction_finds_what_numpy_finds(
    tmp_path: Path, dtype: str
) -> None:
    batch = make_batch([30, 40], dtype=dtype)
    # Large, opposite coordinates: float16 would overflow on the way, float32 does not.
    batch.tensors[POST][:, :2] = batch.tensors[POST][:1, :1] * 0 + (6e4 if dtype == "f16" else 0)
    direction = np.array([3, -3, 1, 0, 0, 0, 0, 1], np.float32)
    store = Store.open(tmp_path)
    record(store, [batch], run=make_run(dtype=dtype))
    artifact = Artifact(name="kind", method="m:M", kind="v", fingerprint=FINGERPRINT)
    store.save_artifact(artifact, {"resid_post.0": direction, "bias": np.zeros((), np.float32)})
    answer = store.sql(
        "SELECT row, act_dot(run_id, 0::USMALLINT, row, 'kind') AS x FROM token ORDER BY row"
    )
    expected = to_float32(batch.tensors[POST]) @ direction
    np.testing.assert_allclose(answer.column("x").to_numpy(), expected, rtol=1e-5, atol=0.05)
    full = store.sql("SELECT act_dot(1, 0::USMALLINT, 0::BIGINT, 'kind/resid_post.0') AS x")
    assert full.column("x")[0].as_py() == pytest.approx(expected[0], abs=0.05)


def test_a_direction_that_is_unknown_ambiguous_or_of_another_width_is_refused(
    tmp_path: Path, batches: list[Batch]
) -> None:
    store = Store.open(tmp_path)
    record(store, batches)
    two = {"resid_post.0": np.ones(8, np.float32), "z.0.h1": np.ones(4, np.float32)}
    store.save_artifact(Artifact(name="two", method="m:M", kind="v", fingerprint=FINGERPRINT), two)
    query = "SELECT act_dot(run_id, 0::USMALLINT, row, '{}') FROM token"
    with pytest.raises(LookupError, match="no direction 'nope': SELECT name FROM direction"):
        store.sql(query.format("nope"))
    with pytest.raises(LookupError, match=r"is one of two/resid_post.0, two/z.0.h1: name which"):
        store.sql(query.format("two"))
    newer = Artifact(name="two", method="m:M", kind="v", fingerprint=FINGERPRINT)
    store.save_artifact(newer, {"resid_post.1": np.ones(8, np.float32)})
    assert store.sql(query.format("two")).num_rows == 50
    with pytest.raises(ValueError, match=r"'two/z.0.h1' has width 4 and the site 8"):
        store.sql(query.format("two/z.0.h1"))
    with pytest.raises(LookupError, match="run 1 has no site_id 9"):
        store.sql("SELECT act_8(1, 9::USMALLINT, 0::BIGINT)")
