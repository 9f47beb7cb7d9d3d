"""Recorded: what was written, bit for bit, and refusals that name what there is."""

import os
from pathlib import Path

import numpy as np
import pytest
from store_samples import SITES, bits, joined, make_batch, make_run, record

from store import DamagedError, Site, Store


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("shard_rows", [1, 7, 16, 1000])
def test_rows_of_every_dtype_and_width_are_read_back_bit_for_bit(
    tmp_path: Path, dtype: str, shard_rows: int
) -> None:
    batches = [make_batch([3, 0, 5, 2], seed=seed, dtype=dtype) for seed in range(4)]
    store = Store.open(tmp_path / "s")
    record(store, batches, run=make_run(dtype=dtype), shard_rows=shard_rows)
    recorded = store.read("latest")
    assert recorded.sites == SITES
    assert recorded.status == "sealed"
    for site in SITES:
        expected = joined(batches, site)
        assert recorded.scan(site).dtype == expected.dtype
        assert recorded.scan(site).tobytes() == expected.tobytes()
        assert np.concatenate(list(recorded.blocks(site))).tobytes() == expected.tobytes()
        rows = np.array([39, 0, 17, 17, 8])
        assert recorded.gather(site, rows).tobytes() == expected[rows].tobytes()
        assert recorded.prompt(2, str(site)).tobytes() == expected[3:8].tobytes()
        assert recorded.prompt(1, site).shape == (0, SITES[site])
    assert recorded.offsets.tolist() == np.cumsum([0, *[3, 0, 5, 2] * 4]).tolist()


def test_a_truncated_or_missing_shard_is_refused_before_it_is_mapped(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    run = record(store, [make_batch([3, 4])])
    path = tmp_path / "runs" / run.uuid / "00000.d8.safetensors"
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DamagedError, match="has 4543 bytes, not 4544"):
        store.read("latest").scan("resid_post.0")
    path.unlink()
    with pytest.raises(DamagedError, match="has no bytes"):
        store.read("latest").scan("resid_post.0")


def test_a_sealed_run_that_lost_a_commit_record_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    run = record(store, [make_batch([9]), make_batch([9])], shard_rows=8)
    (tmp_path / "runs" / run.uuid / "00000.tokens.parquet").unlink()
    with pytest.raises(DamagedError, match="has 0 shards in a row and should have 2"):
        store.read("latest")


def test_reading_into_a_given_array_fills_it_and_refuses_another_shape(tmp_path: Path) -> None:
    store, batch = Store.open(tmp_path), make_batch([3, 4])
    record(store, [batch])
    recorded = store.read("latest")
    out = np.empty((7, 4), np.float32)
    assert recorded.scan("z.0.h1", out) is out
    assert np.array_equal(out, batch.tensors[Site("z", 0, 1)])
    with pytest.raises(ValueError, match=r"out is float32 \[7, 4\]: make it float32 \[7, 8\]"):
        recorded.scan("resid_post.0", out)


def test_what_a_run_does_not_have_is_refused_naming_what_it_has(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    record(store, [make_batch([3, 4])])
    recorded = store.read("latest")
    with pytest.raises(LookupError, match=r"no site resid_mid.1 in run .* it has resid_post.0, z"):
        recorded.scan("resid_mid.1")
    with pytest.raises(LookupError, match="the run has rows 0-6 published"):
        recorded.gather("resid_post.0", np.array([2, 7]))
    with pytest.raises(LookupError, match="no prompt 2: the run has 2"):
        recorded.prompt(2, "resid_post.0")


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_stored_bits_decode_to_the_nearest_float32(dtype: str) -> None:
    from store.tensors import to_float32

    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    tolerance = {"f32": 0, "f16": 2**-10, "bf16": 2**-7}[dtype]
    np.testing.assert_allclose(to_float32(bits(values, dtype)), values, rtol=tolerance, atol=1e-7)
