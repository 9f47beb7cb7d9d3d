"""Resuming: a run that was cut short goes on where it stopped, and equals an uninterrupted one."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from store_samples import SITES, Batch, joined, make_batch, make_run, record

from store import DamagedError, Recorded, Store, UnwritableError
from store.resuming import resume
from store.sweep import sweep
from store.verify import findings

BATCHES = [make_batch([5, 3], seed=seed) for seed in range(6)]
TOTAL = 24
"""Batches of a run in the soak."""

_CHILD = """
import sys
sys.path[:0] = {places!r}
from store import *
from store.resuming import resume
from store_samples import *
store = Store.open(sys.argv[1])
sites = {{Site("resid_post", 0): 256, Site("z", 0, 1): 64}}
names = [run.name for run in store.runs()]
if "soak" in names:
    writer = resume(store, "soak")
else:
    writer = store.writer(make_run(name="soak", dtype="bf16"), sites, shard_rows=128)
with writer:
    while writer.n_prompts < 2 * {total}:
        batch = make_batch([60, 40], seed=writer.n_prompts // 2, sites=sites, dtype="bf16")
        first = writer.n_prompts % 2  # a shard may end between two prompts of a batch
        keep = batch.tokens.prompt >= first
        tokens = TokenRows(
            prompt=batch.tokens.prompt[keep] - first, pos=batch.tokens.pos[keep],
            token_id=batch.tokens.token_id[keep],
            token_str=np.array(batch.tokens.token_str)[keep],
        )
        tensors = {{site: array[keep] for site, array in batch.tensors.items()}}
        writer.add(tensors, tokens, batch.prompts[first:])
print("done")
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def add(writer: object, batches: list[Batch]) -> None:
    for batch in batches:
        writer.add(batch.tensors, batch.tokens, batch.prompts)  # type: ignore[attr-defined]


def same(one: Recorded, other: Recorded) -> None:
    assert one.tokens() == other.tokens()
    assert one.prompts == other.prompts
    assert np.array_equal(one.offsets, other.offsets)
    for site in one.sites:
        assert one.scan(site).tobytes() == other.scan(site).tobytes()


def test_a_failed_run_goes_on_where_its_last_shard_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(store, BATCHES, run=make_run(name="whole"), shard_rows=8)
    with (
        pytest.raises(UnwritableError, match="No space left"),
        store.writer(make_run(name="cut"), SITES, shard_rows=8) as writer,
    ):
        add(writer, BATCHES[:3])
        writer._settle()

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("store.files.os.fsync", full)
        add(writer, BATCHES[3:])
    monkeypatch.undo()
    assert not list(store.read("cut").directory.glob("*.tmp"))
    query = "SELECT status, error FROM run WHERE name = 'cut'"
    with resume(store, "cut") as writer:
        assert writer.n_prompts == 6
        assert store.read("cut").status == "open"
        assert store.sql(query).to_pylist() == [{"status": "open", "error": None}]
        add(writer, BATCHES[3:])
    same(store.read("cut"), store.read("whole"))
    assert store.sql(query).to_pylist() == [{"status": "sealed", "error": None}]
    assert findings(store)[1].num_rows == 0


def test_a_run_that_failed_at_its_end_is_sealed_by_resuming_it(store: Store) -> None:
    with pytest.raises(KeyError), store.writer(make_run(name="cut"), SITES) as writer:
        add(writer, BATCHES)
        raise KeyError("mine")
    query = "SELECT status FROM run"
    assert store.sql(query).to_pylist() == [{"status": "failed"}]
    resume(store, "cut").close()
    assert store.sql(query).to_pylist() == [{"status": "sealed"}]
    with pytest.raises(ValueError, match=r"is sealed: it is complete; capture a new one"):
        resume(store, "cut")


def test_a_run_that_lost_a_record_in_the_middle_is_not_continued(store: Store) -> None:
    run = record(store, BATCHES, shard_rows=8)
    directory = store.path / "runs" / run.uuid
    (directory / "end.json").unlink()
    (directory / "00002.tokens.parquet").unlink()
    with pytest.raises(DamagedError, match=r"lacks 00002.tokens.parquet, and later ones are ther"):
        resume(store, run.uuid)
    assert len(list(directory.glob("00002.*"))) == 4


@pytest.mark.parametrize("rounds", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_again_and_again_nothing_published_is_lost_doubled_or_torn(
    tmp_path: Path, rounds: int
) -> None:
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    program = _CHILD.format(places=places, total=TOTAL)
    rng, killed, home = random.Random(rounds), 0, 0
    while killed < rounds:
        home += 1
        root = tmp_path / str(home)
        while killed < rounds and not killed_after_a_shard(program, root, rng.uniform(0, 0.03)):
            killed += 1
            check(root)
        if killed == rounds:
            run_to_the_end(program, root)
        whole(root)
    assert killed == rounds


def killed_after_a_shard(program: str, root: Path, delay: float) -> bool:
    """Kill a writer a moment after it published something; True when it was done before that."""
    before = published(root)
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(root)], stdout=subprocess.PIPE, start_new_session=True
    )
    while child.poll() is None and published(root) == before:
        time.sleep(0.001)
    time.sleep(delay)
    child.kill()
    out, _ = child.communicate()
    assert child.returncode in (-signal.SIGKILL, 0)
    return out == b"done\n"


def published(root: Path) -> int:
    return len(list(root.glob("runs/*/*.tokens.parquet")))


def expected() -> list[Batch]:
    from store import Site

    sites = {Site("resid_post", 0): 256, Site("z", 0, 1): 64}
    return [make_batch([60, 40], seed=i, sites=sites, dtype="bf16") for i in range(TOTAL)]


def check(root: Path) -> None:
    """What was published is a beginning of the uninterrupted run, before and after a sweep."""
    with Store.open(root) as store:
        counts = []
        for again in range(2):
            recorded = store.read("soak")
            for site in recorded.sites:
                values = joined(expected(), site)[: recorded.n_rows]
                assert recorded.scan(site).tobytes() == values.tobytes()
            assert findings(store)[1].num_rows == 0
            tokens = store.sql("SELECT count(*) AS n, count(DISTINCT row) AS rows FROM token")
            assert tokens.to_pylist() == [{"n": recorded.n_rows, "rows": recorded.n_rows}]
            counts.append(recorded.n_rows)
            if not again:
                sweep(store)
        assert counts[1] >= counts[0]
        left = {path.name.split(".", 1)[1] for path in recorded.directory.iterdir()}
        assert not any(name.endswith(".tmp") for name in left)
        assert sweep(store).removed == []


def run_to_the_end(program: str, root: Path) -> None:
    subprocess.run([sys.executable, "-c", program, str(root)], check=True, capture_output=True)


def whole(root: Path) -> None:
    """The run that was killed and resumed equals one that never was."""
    with Store.open(root) as store:
        record(store, expected(), run=make_run(name="whole", dtype="bf16"))
        assert store.read("soak").status == "sealed"
        same(store.read("soak"), store.read("whole"))
