"""Batches: every row exactly once, in an order that the seed decides; sums without the rows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from store_samples import SITES, joined, make_batch, make_run, record

from store import Site, Store, queries
from store.batches import BLOCK, batches, memory, order
from store.tensors import to_float32

POST = Site("resid_post", 0)
BATCHES = [make_batch([5, 30, 3], seed=seed) for seed in range(20)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        record(opened, BATCHES, shard_rows=64)
        yield opened


@pytest.mark.parametrize("shuffle", ["no", "rows", "blocks", "auto"])
@pytest.mark.parametrize("size", [1, 7, 760, 1000])
def test_every_row_comes_exactly_once_with_its_own_values(
    store: Store, shuffle: str, size: int
) -> None:
    recorded = store.read("latest")
    made = list(batches(recorded, ["z.0.h1", POST], size, shuffle=shuffle))
    assert [len(one.rows) for one in made[:-1]] == [size] * (len(made) - 1)
    rows = np.concatenate([one.rows for one in made])
    assert sorted(rows) == list(range(760))
    assert (rows.tolist() == list(range(760))) == (shuffle == "no")
    for site in made[0].arrays:
        values = np.concatenate([one.arrays[site] for one in made])
        assert np.array_equal(values, joined(BATCHES, site)[rows])


@pytest.mark.parametrize("shuffle", ["rows", "blocks"])
def test_a_seed_decides_the_order(shuffle: str) -> None:
    def rows(seed: int) -> list[int]:
        return np.concatenate(list(order(1000, shuffle, seed))).tolist()

    assert rows(3) == rows(3)
    assert rows(3) != rows(4)
    assert sorted(rows(3)) == list(range(1000))


def test_a_block_shuffle_reads_whole_blocks_before_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("store.batches.WINDOW", 2)
    pieces = list(order(10 * BLOCK + 5, "blocks", 0))
    assert len(pieces) == 6
    for piece in pieces:
        assert len(set((piece // BLOCK).tolist())) <= 2
        assert len(piece) == 2 * BLOCK or (piece // BLOCK == 10).sum() == 5 or len(piece) == BLOCK
    assert np.abs(np.diff(np.concatenate(pieces))).max() > 2 * BLOCK


def test_a_run_beyond_half_the_memory_is_shuffled_in_blocks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert memory() > 1 << 28
    recorded = store.read("latest")
    few = next(batches(recorded, [POST], 760, shuffle="auto", seed=1)).rows
    assert np.array_equal(few, next(order(760, "rows", 1)))
    monkeypatch.setattr("store.batches.memory", lambda: 1000)
    many = next(batches(recorded, [POST], 760, shuffle="auto", seed=1)).rows
    assert np.array_equal(many, next(order(760, "blocks", 1)))


def test_batches_of_nothing_or_in_no_known_order_are_refused(store: Store) -> None:
    recorded = store.read("latest")
    for sites, size, shuffle in ([], 1, "no"), ([POST], 0, "no"), ([POST], 1, "some"):
        with pytest.raises(ValueError, match="batches need a site, a positive size and shuffle am"):
            batches(recorded, sites, size, shuffle=shuffle)
    with pytest.raises(LookupError, match="no site embed"):
        batches(recorded, ["embed"], 3)


def test_vectors_are_read_where_sql_says(store: Store) -> None:
    table, vectors = queries.vectors(
        store,
        "SELECT run_id, site_id, row, text FROM activation_8 WHERE list_contains(tags, 'odd') "
        "AND site_id IN (0, 2) ORDER BY row DESC, site_id",
    )
    assert vectors.shape == (1200, 8)
    for site_id, site in (0, POST), (2, Site("resid_post", 1)):
        mine = table.column("site_id").to_numpy() == site_id
        rows = table.column("row").to_numpy()[mine]
        assert np.array_equal(vectors[mine], joined(BATCHES, site)[rows])
    assert (
        queries.vectors(store, "SELECT run_id, 0 AS site_id, row FROM token LIMIT 0")[1].size == 0
    )
    with pytest.raises(ValueError, match=r"need the columns run_id, site_id and row: add \['site"):
        queries.vectors(store, "SELECT run_id, row FROM token")
    with pytest.raises(ValueError, match="have widths 8 and 4: ask for sites of one width"):
        queries.vectors(store, "SELECT run_id, site_id, 0::BIGINT AS row FROM site")


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_moments_are_those_of_all_rows_though_none_is_read(store: Store, dtype: str) -> None:
    made = [make_batch([700, 3], seed=seed, dtype=dtype) for seed in range(3)]
    run = record(store, made, run=make_run(dtype=dtype), shard_rows=900)
    for path in store.read(run.uuid).directory.glob("*.safetensors"):
        path.unlink()
    rows = queries.moments(store, run.uuid).to_pylist()
    assert [row["site"] for row in rows] == [str(site) for site in SITES]
    for row, site in zip(rows, SITES, strict=True):
        values = to_float32(joined(made, site)).astype(np.float64)
        assert (row["n"], row["absmax"]) == (2109, np.abs(values).max())
        np.testing.assert_allclose(row["mean"], values.mean(0), atol=1e-6)
        np.testing.assert_allclose(row["std"], values.std(0), rtol=1e-6)


def test_overflow_of_a_stored_dtype_is_seen_in_its_absmax(store: Store) -> None:
    batch = make_batch([5], dtype="f16")
    batch.tensors[POST][2, 1] = np.inf
    batch.tensors[Site("z", 0, 1)][2, 1] = np.nan
    record(store, [batch], run=make_run(dtype="f16"))
    largest = queries.moments(store).column("absmax").to_pylist()
    assert largest[0] == np.inf
    assert np.isnan(largest[1])
    assert largest[2] < 10
