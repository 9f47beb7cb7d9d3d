"""Damage: each kind is found with a clear error, and the rest of the store stays readable."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_samples import FINGERPRINT, joined, make_batch, make_run, record

from store import Artifact, BusyError, DamagedError, Site, Store
from store.catalog import FILE
from store.resuming import resume
from store.verify import findings, verify

POST = Site("resid_post", 0)
BATCHES = [make_batch([5, 3], seed=seed) for seed in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "lab") as opened:
        record(opened, BATCHES, run=make_run(name="good"), shard_rows=8)
        record(opened, BATCHES, run=make_run(name="bad"), shard_rows=8)
        artifact = Artifact(name="a", method="m:M", kind="v", fingerprint=FINGERPRINT)
        opened.save_artifact(artifact, {"x": np.ones(2)})
        opened.add_results("evaluation", pa.table({"x": [1.0]}), about={"run": "good"})
        yield opened


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "how"),
    [(flipped, "xxh3 is"), (lambda data: data[:-1], "bytes, not"), (lambda _: b"", "0 bytes, not")],
    ids=["flipped", "truncated", "empty"],
)
@pytest.mark.parametrize(
    "name",
    ["00002.d8.safetensors", "00002.d4.safetensors", "00002.prompts.parquet",
     "00002.stats.parquet", "00002.tokens.parquet"],
)  # fmt: skip
def test_every_file_of_a_shard_is_vouched_for_and_one_bad_file_is_one_finding(
    store: Store, name: str, change: Callable[[bytes], bytes], how: str
) -> None:
    uuid = store.run("bad").uuid
    edit(store.path / "runs" / uuid / name, change)
    _, wrong = findings(store)
    assert set(wrong.column("uuid").to_pylist()) == {uuid}
    assert any(name in text and how in text for text in wrong.column("problem").to_pylist())
    with pytest.raises(DamagedError, match=rf"{name} is damaged: .*; restore it from a copy"):
        verify(store.path / "runs" / uuid)
    verify(store.path / "runs" / store.run("good").uuid)
    rest_stays_readable(store)


@pytest.mark.parametrize("name", ["00001.tokens.parquet", "00001.d8.safetensors",
                                  "00001.prompts.parquet", "run.json", "end.json"])  # fmt: skip
def test_a_missing_file_is_a_finding_or_a_run_that_never_ended(store: Store, name: str) -> None:
    uuid = store.run("bad").uuid
    (store.path / "runs" / uuid / name).unlink()
    _, wrong = findings(store)
    if name == "end.json":  # what a killed writer leaves looks the same, and all rows are there
        assert wrong.num_rows == 0
        assert store.read(uuid).status == "open"
        assert store.read(uuid).n_rows == 32
    else:
        assert name in wrong.column("problem")[0].as_py()
    rest_stays_readable(store)


@pytest.mark.parametrize("change", [flipped, lambda data: data[:-3], lambda _: b""])
def test_damaged_artifacts_and_results_are_found(
    store: Store, change: Callable[[bytes], bytes]
) -> None:
    (arrays,) = (store.path / "artifacts").rglob("arrays.safetensors")
    (result,) = (store.path / "results").iterdir()
    edit(arrays, change)
    edit(result, change)
    _, wrong = findings(store)
    assert wrong.column("kind").to_pylist() == ["artifact", "result"]
    with pytest.raises(DamagedError, match="arrays.safetensors is damaged"):
        store.load_artifact("a")
    rest_stays_readable(store)


def test_a_truncated_shard_is_refused_before_anything_is_mapped(store: Store) -> None:
    recorded = store.read("bad")
    path = recorded.directory / "00002.d8.safetensors"
    edit(path, lambda data: data[:-1])
    with pytest.raises(DamagedError, match="00002.d8.safetensors is damaged: it has"):
        recorded.scan(POST)
    with pytest.raises(DamagedError, match=r"00002.d8.safetensors is damaged"):
        store.sql("SELECT vec FROM activation_8 WHERE run_name = 'bad'")
    rest_stays_readable(store)


def test_a_catalog_or_its_log_may_be_missing_empty_or_foreign(store: Store) -> None:
    query = "SELECT count(*) AS n FROM token"
    before = store.sql(query)
    file = store.path / FILE
    for content in (None, b"", b"PAR1 foreign", file.read_bytes()[: file.stat().st_size // 2]):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        with Store.open(store.path) as again:
            assert again.sql(query) == before
    assert not file.with_name(FILE + ".wal").exists()  # nothing is ever only in a log


def test_foreign_files_are_ignored_wherever_they_lie(store: Store) -> None:
    uuid = store.run("bad").uuid
    for place in ("", "runs", f"runs/{uuid}", "artifacts", "results"):
        for name in ("notes.txt", "other.parquet", "00009.tokens.txt"):
            (store.path / place / name).write_bytes(b"mine")
    assert findings(store)[1].num_rows == 0
    assert store.read("bad").n_rows == 32
    rest_stays_readable(store)


def test_two_writers_of_one_run_exclude_each_other(store: Store) -> None:
    run = make_run(name="contested")
    with store.writer(run, {POST: 8}) as writer, Store.open(store.path) as other:
        with pytest.raises(ValueError, match=f"run {run.uuid} exists: .*, or resume it"):
            other.writer(run, {POST: 8})
        with pytest.raises(BusyError, match="is being written by another process or thread: wait"):
            resume(other, "contested")
        batch = make_batch([3], sites={POST: 8})
        writer.add(batch.tensors, batch.tokens, batch.prompts)
    assert store.read("contested").n_rows == 3
    rest_stays_readable(store)


def test_a_forked_child_cannot_add_to_its_parents_run(store: Store, recwarn: object) -> None:
    with store.writer(make_run(name="forked"), {POST: 8}) as writer:
        batch = make_batch([3], sites={POST: 8})
        writer._process = os.getpid() + 1  # as it is in a child
        with pytest.raises(ValueError, match="a forked process cannot add to its parent's run"):
            writer.add(batch.tensors, batch.tokens, batch.prompts)
        writer.close()
        assert store.read("forked").status == "open"
        writer._process = os.getpid()
    assert store.read("forked").status == "sealed"


def test_a_store_may_be_copied_elsewhere_and_is_complete_there(
    store: Store, tmp_path: Path
) -> None:
    shutil.copytree(store.path, tmp_path / "copy")
    with Store.open(tmp_path / "copy") as copy:
        assert findings(copy)[1].num_rows == 0
        rest_stays_readable(copy)


def rest_stays_readable(store: Store) -> None:
    with Store.open(store.path) as opened:
        recorded = opened.read("good")
        assert np.array_equal(recorded.scan(POST), joined(BATCHES, POST))
        answer = opened.sql(
            "SELECT count(vec[1]) AS n FROM activation_8 WHERE run_name = 'good' AND site_id = 0"
        )
        assert answer.to_pylist() == [{"n": 32}]
