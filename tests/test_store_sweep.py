"""Sweep: what killed processes left is put away, and nothing that is published or foreign."""

import os
from pathlib import Path

import numpy as np
import pytest
from store_samples import FINGERPRINT, SITES, joined, make_batch, make_run, record

from store import Artifact, BusyError, Run, Site, Store, UnwritableError
from store.care import delete
from store.locks import held, make, temporary
from store.sweep import sweep
from store.verify import findings

BATCHES = [make_batch([5, 3], seed=seed) for seed in range(4)]


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path) as opened:
        yield opened


def cut_short(store: Store, *, last: str) -> Run:
    """A run of four shards killed when it published the last one; `last` is its last file."""
    run = record(store, BATCHES, shard_rows=8)
    directory = store.path / "runs" / run.uuid
    (directory / "end.json").unlink()
    order = ["d8.safetensors", "d4.safetensors", "prompts.parquet", "stats.parquet"]
    order.append("tokens.parquet")
    for name in order[order.index(last) + 1 :]:
        (directory / f"00003.{name}").unlink()
    return run


@pytest.mark.parametrize("last", ["d8.safetensors", "prompts.parquet", "stats.parquet"])
def test_the_files_of_a_shard_that_was_never_published_are_removed(store: Store, last: str) -> None:
    run = cut_short(store, last=last)
    orphans = sorted(path.name for path in (store.path / "runs" / run.uuid).glob("00003.*"))
    (store.path / "runs" / run.uuid / "00004.d8.safetensors.0badcafe.tmp").write_bytes(b"half")
    done = sweep(store)
    assert [Path(path).name for path in done.removed] == [
        *orphans, "00004.d8.safetensors.0badcafe.tmp",
    ]  # fmt: skip
    assert (done.adopted, done.left, done.busy) == ([], [], [])
    assert store.read(run.uuid).n_rows == 24
    assert findings(store)[1].num_rows == 0
    assert sweep(store).removed == []


def test_a_shard_that_lacked_only_its_last_rename_is_adopted(store: Store) -> None:
    run = cut_short(store, last="tokens.parquet")
    directory = store.path / "runs" / run.uuid
    (directory / "00003.tokens.parquet").rename(directory / "00003.tokens.parquet.0badcafe.tmp")
    assert store.read(run.uuid).n_rows == 24
    done = sweep(store)
    assert done.adopted == [f"runs/{run.uuid}/00003.tokens.parquet"]
    assert done.removed == []
    for site in SITES:
        assert np.array_equal(store.read(run.uuid).scan(site), joined(BATCHES, site))


def test_a_shard_that_is_not_whole_is_not_adopted(store: Store) -> None:
    run = cut_short(store, last="tokens.parquet")
    directory = store.path / "runs" / run.uuid
    (directory / "00003.tokens.parquet").rename(directory / "00003.tokens.parquet.0badcafe.tmp")
    tensors = directory / "00003.d8.safetensors"
    tensors.chmod(0o644)
    flip(tensors, -1)
    assert sweep(store).adopted == []
    assert store.read(run.uuid).n_rows == 24
    assert not list(directory.glob("00003.*"))


def test_what_a_living_writer_holds_is_left_alone(store: Store, tmp_path: Path) -> None:
    run = make_run(name="alive")
    with store.writer(run, SITES, shard_rows=8) as writer:
        writer.add(BATCHES[0].tensors, BATCHES[0].tokens, BATCHES[0].prompts)
        (tmp_path / "runs" / run.uuid / "00001.d8.safetensors").write_bytes(b"on its way")
        done = sweep(store)
        assert (done.busy, done.removed) == ([f"runs/{run.uuid}"], [])
        with pytest.raises(BusyError, match="is being written by another process or thread"):
            delete(store, "alive")
        (tmp_path / "runs" / run.uuid / "00001.d8.safetensors").unlink()
    assert store.read("alive").status == "sealed"
    (tmp_path / "results").mkdir()
    path = tmp_path / "results" / "x.parquet.0badcafe.tmp"
    with temporary(path):
        assert sweep(store).busy == ["results/x.parquet.0badcafe.tmp"]
    assert sweep(store).removed == ["results/x.parquet.0badcafe.tmp"]


def test_half_made_directories_go_and_what_is_foreign_stays_and_is_named(
    store: Store, tmp_path: Path
) -> None:
    run = record(store, BATCHES)
    whole = Artifact(name="a", method="m:M", kind="v", fingerprint=FINGERPRINT)
    store.save_artifact(whole, {"x": np.ones(2)})
    empty, artifact, deleted, odd = (Run(fingerprint=FINGERPRINT, dtype="f32").uuid for _ in "1234")
    (tmp_path / "runs" / empty).mkdir()
    (tmp_path / "runs" / empty / "run.json.0badcafe.tmp").write_bytes(b"{")
    (tmp_path / "artifacts" / artifact).mkdir()
    (tmp_path / "artifacts" / artifact / "arrays.safetensors").write_bytes(b"half")
    (tmp_path / "runs" / f"{deleted}.deleted").mkdir()
    (tmp_path / "runs" / f"{deleted}.deleted" / "00000.d8.safetensors").write_bytes(b"left")
    (tmp_path / "artifacts" / odd).mkdir()
    foreign = [f"artifacts/{odd}/mine.txt", f"artifacts/{whole.uuid}/note", "runs/readme",
               f"runs/{run.uuid}/notes.txt"]  # fmt: skip
    for name in foreign:
        (tmp_path / name).write_text("keep me")
    (tmp_path / "artifacts" / whole.uuid / "artifact.json.0badcafe.tmp").write_bytes(b"{")
    done = sweep(store)
    assert sorted(done.left) == sorted([f"artifacts/{odd}", *foreign[1:]])
    assert {Path(path).parts[1] for path in done.removed} == {
        empty, artifact, f"{deleted}.deleted", whole.uuid,
    }  # fmt: skip
    assert all((tmp_path / name).read_text() == "keep me" for name in foreign)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(
        [run.uuid, "readme"]
    )
    assert store.load_artifact("a")[1]["x"].tolist() == [1, 1]


def test_tensors_of_a_sealed_run_whose_record_was_lost_are_kept(store: Store) -> None:
    run = record(store, BATCHES, shard_rows=8)
    directory = store.path / "runs" / run.uuid
    (directory / "00003.tokens.parquet").unlink()
    assert sweep(store).removed == []
    assert len(list(directory.glob("00003.*"))) == 4
    (directory / "00002.tokens.parquet").chmod(0o644)
    (directory / "00002.tokens.parquet").write_bytes(b"")
    assert sweep(store).left == [f"runs/{run.uuid}"]


def test_a_store_that_may_only_be_read_is_not_swept(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    with (
        Store.open(tmp_path, read_only=True) as store,
        pytest.raises(UnwritableError, match="opened read-only"),
    ):
        sweep(store)


def test_what_is_swept_before_it_could_be_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    real, swept = fcntl.flock, []

    def flock(handle: int | object, how: int) -> None:
        for path in tmp_path.iterdir():
            if len(swept) < 2:
                swept.append(path.name)
                path.rmdir() if path.is_dir() else path.unlink()
        real(handle, how)  # type: ignore[arg-type]

    monkeypatch.setattr("store.locks.fcntl.flock", flock)
    with temporary(tmp_path / "file"):
        assert (tmp_path / "file").exists()
    monkeypatch.undo()
    assert swept == ["file", "file"]
    (tmp_path / "file").unlink()
    swept.clear()
    monkeypatch.setattr("store.locks.fcntl.flock", flock)
    handle = make(tmp_path / "directory")
    monkeypatch.undo()
    with held(tmp_path / "directory") as ours:
        assert not ours
    os.close(handle)
    assert swept == ["directory", "directory"]


def test_sites_keep_their_place(store: Store) -> None:
    run = cut_short(store, last="prompts.parquet")
    sweep(store)
    assert list(store.read(run.uuid).sites) == list(SITES)
    assert store.read(run.uuid).scan(Site("z", 0, 1)).shape == (24, 4)


def flip(path: Path, at: int) -> None:
    """Flip the bits of one byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
