"""Tables of their own: materialized selections, and attention rows of varying width."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from store_samples import joined, make_batch, make_run, record

from store import Site, Store
from store.catalog import FILE
from store.tables import attention_rows, materialize

POST = Site("resid_post", 0)
BATCHES = [make_batch([5, 3], seed=seed) for seed in range(4)]
QUERY = "SELECT row, token_str, vec FROM activation_8 WHERE site_id = 0 AND pos < ? ORDER BY row"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        record(opened, BATCHES, run=make_run(name="mine"))
        yield opened


def test_a_materialized_selection_is_native_for_every_duckdb_and_survives_a_rebuild(
    store: Store,
) -> None:
    assert materialize(store, QUERY, "early", [2]) == 16
    for rebuilt in (False, True):
        if rebuilt:
            (store.path / FILE).unlink()
        assert store.sql("SELECT count(*) AS n FROM early").to_pylist() == [{"n": 16}]
        with duckdb.connect(str(store.path / FILE), read_only=True) as con:
            types = dict(con.execute("SELECT column_name, column_type FROM (DESCRIBE early)")
                         .fetchall())  # fmt: skip
            assert types["vec"] == "FLOAT[8]"
            (first,) = con.execute("SELECT vec FROM early ORDER BY row LIMIT 1").fetchall()
    assert np.array_equal(np.array(first[0], np.float32), joined(BATCHES, POST)[0])


def test_asking_again_replaces_the_table_and_leaves_other_results_alone(store: Store) -> None:
    materialize(store, QUERY, "early", [2])
    store.add_results("evaluation", pa.table({"x": [1.0]}), about={"run": "mine"})
    assert materialize(store, QUERY, "early", [1]) == 8
    assert store.sql("SELECT count(*) AS n FROM early").to_pylist() == [{"n": 8}]
    assert len(list((store.path / "results").iterdir())) == 2
    with pytest.raises(ValueError, match="there are results called evaluation already: choose an"):
        materialize(store, "SELECT 1.0 AS x", "evaluation")
    with pytest.raises(ValueError, match="results cannot be called 'token'"):
        materialize(store, "SELECT 1 AS x", "token")
    with pytest.raises(ValueError, match="results cannot be called '../evil'"):
        materialize(store, "SELECT 1 AS x", "../evil")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_attention_rows_are_as_wide_as_what_a_query_sees(store: Store, dtype: type) -> None:
    rng = np.random.default_rng(0)
    for prompt, n in enumerate([3, 5]):
        pattern = np.tril(rng.random((n, n))).astype(dtype)
        site = Site("pattern", 2, 1)
        rows = attention_rows(pattern, run="mine", prompt=prompt, site=site, first=2)
        store.add_results("attention", rows, about={"run": "mine"})
    found = store.sql(
        "SELECT prompt_id, pos, len(weights) AS width, weights, layer, head FROM attention "
        "ORDER BY prompt_id, pos"
    ).to_pylist()
    assert [row["width"] for row in found] == [1, 2, 3, 1, 2, 3, 4, 5]
    assert [row["pos"] for row in found] == [2, 3, 4, 2, 3, 4, 5, 6]
    assert found[-1]["weights"] == pytest.approx(pattern[-1].astype(np.float32).tolist())
    assert (found[0]["layer"], found[0]["head"]) == (2, 1)
    with pytest.raises(ValueError, match=r"is \[query, key\] and square, not \(2, 3\)"):
        attention_rows(np.ones((2, 3)), run="mine", prompt=0, site=site)


def test_lists_of_halves_become_lists_sql_can_hold(store: Store) -> None:
    halves = pa.array([1, 2, 3, 4], pa.float16())
    fixed = pa.FixedSizeListArray.from_arrays(halves, 2)
    ragged = pa.ListArray.from_arrays(pa.array([0, 1, 4], pa.int32()), halves)
    store.add_results("latent", pa.table({"fixed": fixed, "ragged": ragged}), about={"a": 1})
    assert store.sql("SELECT fixed, ragged FROM latent").to_pylist() == [
        {"fixed": [1, 2], "ragged": [1]}, {"fixed": [3, 4], "ragged": [2, 3, 4]},
    ]  # fmt: skip
