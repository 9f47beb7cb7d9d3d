"""Care: a rebuilt catalog is the old one, a compact one too; deleting and exporting."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from store_samples import SITES, joined, make_batch, make_run, record
from test_store_fold import everything

from store import Site, Store, UnwritableError
from store.care import compact, delete, info, reindex
from store.catalog import FILE
from store.export import to_dataset, to_parquet
from store.sweep import sweep
from store.tensors import to_float32

POST = Site("resid_post", 0)
BATCHES = [make_batch([5, 3], seed=seed, dtype="bf16") for seed in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "lab") as opened:
        for name in ("first", "second"):
            record(opened, BATCHES, run=make_run(name=name, dtype="bf16"), shard_rows=8)
        yield opened


def test_a_catalog_rebuilt_from_the_files_equals_the_one_that_grew(store: Store) -> None:
    grown = everything(store)
    inode = (store.path / FILE).stat().st_ino
    reindex(store)
    assert (store.path / FILE).stat().st_ino != inode
    assert everything(store) == grown
    assert len(grown["shard_stat"]) == 24


def test_compacting_gives_back_the_room_of_deleted_rows_and_keeps_the_others(
    store: Store,
) -> None:
    wide = make_batch([2000] * 20, sites={Site("embed"): 1})
    record(store, [wide], run=make_run(name="big"))
    everything(store)
    delete(store, "big")
    before = everything(store)
    was, now = compact(store)
    assert now < was
    assert (store.path / FILE).stat().st_size == now
    assert everything(store) == before
    record(store, BATCHES, run=make_run(name="third", dtype="bf16"))
    assert len(everything(store)["run"]) == 3
    with Store.open(store.path, read_only=True) as other, pytest.raises(UnwritableError):
        compact(other)


def test_a_deleted_run_is_gone_at_once_and_its_maps_may_still_be_read(store: Store) -> None:
    recorded = store.read("first")
    mapped = next(iter(recorded.blocks(POST)))
    held = sum(path.stat().st_size for path in recorded.directory.iterdir())
    assert delete(store, "first") == held
    assert [run.name for run in store.runs()] == ["second"]
    assert store.sql("SELECT DISTINCT name FROM run").to_pylist() == [{"name": "second"}]
    assert np.array_equal(mapped, BATCHES[0].tensors[POST])
    assert sweep(store).removed == []
    with pytest.raises(LookupError, match="no run 'first': there are .* \\(second\\)"):
        delete(store, "first")


def test_info_counts_what_there_is_and_what_it_takes(store: Store) -> None:
    found = info(store)
    assert (found.runs, found.prompts, found.tokens) == (2, 16, 64)
    assert (found.artifacts, found.results, found.path) == (0, 0, str(store.path))
    files = [path for path in store.path.rglob("*") if path.is_file()]
    assert found.bytes == sum(path.stat().st_size for path in files)
    assert 0 < found.catalog_bytes < found.bytes
    assert found.free > 0


def test_an_export_to_parquet_is_read_by_others_with_every_value(
    store: Store, tmp_path: Path
) -> None:
    recorded, file = store.read("first"), tmp_path / "out.parquet"
    assert to_parquet(recorded, file) == 32
    table = pq.read_table(file)
    assert table.drop_columns(["row", *map(str, SITES)]) == recorded.tokens()
    for site, d in SITES.items():
        values = table.column(str(site)).combine_chunks().flatten().to_numpy().reshape(-1, d)
        assert np.array_equal(values, to_float32(joined(BATCHES, site)))
    with duckdb.connect() as con:
        (n,) = con.execute(f"SELECT count(*) FROM '{file}' WHERE len(\"z.0.h1\") = 4").fetchall()
    assert n == (32,)
    with pytest.raises(ValueError, match="out.parquet exists, and an export replaces nothing"):
        to_parquet(recorded, file)
    assert to_parquet(recorded, tmp_path / "one.parquet", ["z.0.h1"]) == 32
    assert pq.read_schema(tmp_path / "one.parquet").names[-1] == "z.0.h1"
    with pytest.raises(LookupError, match="no site resid_mid.1"):
        to_parquet(recorded, tmp_path / "none.parquet", ["resid_mid.1"])


def test_an_exported_dataset_is_what_saelens_reads(store: Store, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    recorded, home = store.read("first"), tmp_path / "sae"
    hook = "blocks.0.hook_resid_post"
    assert to_dataset(recorded, home, POST, context=2, hook=hook) == 12
    # As sae_lens.training.activations_store.load_cached_activation_dataset does.
    made = datasets.load_from_disk(str(home))
    assert made.features[hook].shape == (2, 8)
    made.set_format(type="torch", columns=[hook, "token_ids"])
    assert made.num_rows == 12
    expected, ids = to_float32(joined(BATCHES, POST)), recorded.tokens().column("token_id")
    starts = [start for first in range(0, 32, 8) for start in (first, first + 2, first + 5)]
    for item, start in zip(made, starts, strict=True):
        assert np.array_equal(item[hook].numpy(), expected[start : start + 2])
        assert item["token_ids"].tolist() == ids[start : start + 2].to_pylist()
    with pytest.raises(ValueError, match="no prompt has 9 recorded tokens in a row"):
        to_dataset(recorded, tmp_path / "long", POST, context=9, hook=hook)
    with pytest.raises(ValueError, match="sae exists, and an export replaces nothing"):
        to_dataset(recorded, home, POST, context=2, hook=hook)
    assert not (tmp_path / "long").exists()
