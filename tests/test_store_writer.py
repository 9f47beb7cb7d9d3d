"""Writer: whole prompts in shards, one shard behind; whatever happens, nothing is torn."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from store_samples import SITES, joined, make_batch, make_run, record

from store import Site, Store, UnwritableError
from store.verify import verify

_PREAMBLE = (
    f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
    + textwrap.dedent("""
    from store import *
    from store import Store, UnwritableError
    from store_samples import *
""")
)


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _PREAMBLE + textwrap.dedent(code)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip


def _raising(error: BaseException):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_shard_holds_whole_prompts_and_at_most_its_rows_unless_one_prompt_is_longer(
    tmp_path: Path,
) -> None:
    store = Store.open(tmp_path)
    record(store, [make_batch([3, 4, 12, 1, 2]), make_batch([2, 2, 2])], shard_rows=8)
    recorded = store.read("latest")
    assert [shard.n for shard in recorded.shards] == [7, 12, 7, 2]
    assert [shard.prompt0 for shard in recorded.shards] == [0, 2, 3, 7]


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run, batch = Store.open(tmp_path), make_run(), make_batch([9])
    writer = store.writer(run, SITES, shard_rows=8)
    writer.add(batch.tensors, batch.tokens, batch.prompts)
    writer._settle()  # the first shard is durable; the disk is full from here on

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("store.files.os.fsync", full)
    with pytest.raises(UnwritableError, match=r"cannot write .*: No space left on device; nothing"):
        for _ in range(3):
            writer.add(batch.tensors, batch.tokens, batch.prompts)
    with pytest.raises(ValueError, match="takes no more rows"):
        writer.add(batch.tensors, batch.tokens, batch.prompts)
    with pytest.raises(UnwritableError):
        writer.close()
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.tmp"))
    assert store.read(run.uuid).n_rows == 9
    assert verify(tmp_path / "runs" / run.uuid) > 0


def test_an_error_of_the_writer_thread_surfaces_when_the_block_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, batch, run = Store.open(tmp_path), make_batch([9]), make_run()
    with (
        pytest.raises(UnwritableError, match="No space left"),
        store.writer(run, SITES) as writer,
    ):
        writer.add(batch.tensors, batch.tokens, batch.prompts)
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr("store.shards.publish_table", _raising(full))
        monkeypatch.setattr("store.shards.publish", _raising(UnwritableError("No space left")))
    recorded = store.read(run.uuid)
    assert (recorded.status, recorded.n_rows) == ("failed", 0)
    assert [path.name for path in sorted(recorded.directory.iterdir())] == ["end.json", "run.json"]


def test_the_system_refusing_large_files_is_an_error_not_a_crash(tmp_path: Path) -> None:
    done = _python(
        f"""
        import resource
        store = Store.open({str(tmp_path)!r})
        batch = make_batch([64])
        resource.setrlimit(resource.RLIMIT_FSIZE, (4200, 4200))
        try:
            record(store, [batch])
        except UnwritableError as error:
            print(error)
        """
    )
    assert "cannot write" in done.stdout
    assert "File too large" in done.stdout
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("acknowledged", [2, 5, 11])
def test_a_killed_writer_loses_only_its_buffers_and_tears_nothing(
    tmp_path: Path, acknowledged: int
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _PREAMBLE + textwrap.dedent(
            f"""
            import itertools
            store = Store.open({str(tmp_path)!r})
            with store.writer(make_run(name="killed"), SITES, shard_rows=8) as writer:
                for seed in itertools.count():
                    batch = make_batch([5, 3], seed=seed)
                    writer.add(batch.tensors, batch.tokens, batch.prompts)
                    print(seed, flush=True)
            """
        )],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    for _ in range(acknowledged):
        child.stdout.readline()
    child.kill()
    more = child.stdout.read().split()
    child.wait()
    child.stdout.close()
    seen = acknowledged + len(more)

    store = Store.open(tmp_path)
    recorded = store.read("killed")
    assert recorded.status == "open"
    assert recorded.n_rows % 8 == 0
    assert seen - 1 <= recorded.n_rows // 8 <= seen + 1
    batches = [make_batch([5, 3], seed=seed) for seed in range(recorded.n_rows // 8)]
    for site in SITES:
        assert np.array_equal(recorded.scan(site), joined(batches, site))
    verify(recorded.directory)
    assert store.sql("SELECT count(*) AS n FROM token").to_pylist() == [{"n": recorded.n_rows}]
    record(store, [make_batch([2])], run=make_run(name="next"))
    assert store.read("next").n_rows == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {**t, Site("z", 0, 1): t[Site("z", 0, 1)][:, :3]},
            r"z.0.h1 is float32 \[7, 3\]",
        ),
        (lambda t: {site: a.astype(np.float16) for site, a in t.items()}, "stores f32 as float32"),
        (lambda t: {site: a[:-1] for site, a in t.items()}, r"\[7 tokens, 8\]"),
        (
            lambda t: {Site("z", 0, 1): t[Site("z", 0, 1)]},
            "this run has sites resid_post.0, z.0.h1",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_run_are_refused_saying_what_would(
    tmp_path: Path, change, message: str
) -> None:
    batch = make_batch([3, 4])
    with Store.open(tmp_path).writer(make_run(), SITES) as writer:
        with pytest.raises(ValueError, match=message):
            writer.add(change(batch.tensors), batch.tokens, batch.prompts)
        with pytest.raises(ValueError, match="tokens name prompts 0-1, but 1 prompts were given"):
            writer.add(batch.tensors, batch.tokens, batch.prompts[:1])
    assert Store.open(tmp_path).read("latest").n_rows == 0


def test_arrays_given_to_the_writer_may_be_used_again_at_once(tmp_path: Path) -> None:
    batches = [make_batch([8], seed=seed) for seed in range(6)]
    scratch = make_batch([8])
    with Store.open(tmp_path).writer(make_run(), SITES, shard_rows=8) as writer:
        for batch in batches:
            for site, array in batch.tensors.items():
                scratch.tensors[site][:] = array
            writer.add(scratch.tensors, batch.tokens, batch.prompts)
            for array in scratch.tensors.values():
                array.fill(np.nan)
    recorded = Store.open(tmp_path).read("latest")
    for site in SITES:
        assert np.array_equal(recorded.scan(site), joined(batches, site))


def test_an_error_in_the_block_keeps_what_was_added_and_marks_the_run_failed(
    tmp_path: Path,
) -> None:
    store, batch = Store.open(tmp_path), make_batch([3])
    with pytest.raises(KeyError), store.writer(make_run(), SITES) as writer:
        writer.add(batch.tensors, batch.tokens, batch.prompts)
        raise KeyError("mine")
    recorded = store.read("latest")
    assert (recorded.status, recorded.n_rows) == ("failed", 3)
    (row,) = store.sql("SELECT status, error FROM run").to_pylist()
    assert row == {"status": "failed", "error": "KeyError: 'mine'"}
