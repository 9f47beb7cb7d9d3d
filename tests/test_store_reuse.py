"""Reuse: what was captured before under the same circumstances is found, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import SITES, joined, make_batch, make_run, record

from store import Run, Site, Store, UnwritableError
from store.planning import SPARE, plan
from store.reuse import circumstances, find, take

BATCHES = [make_batch([5, 0, 3], seed=seed) for seed in range(3)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def where(run: Run, text: str) -> Run:
    return replace(run, config={"where": text, "at": ["irrelevant"]})


def test_rows_of_earlier_prompts_are_read_back_as_they_were(store: Store) -> None:
    record(store, BATCHES, shard_rows=8)
    texts = ["text 2.2", "text 0.1", "text 9.9", "text 0.0"]
    found = find(store, make_run(name="other"), SITES, texts)
    assert list(found) == ["text 0.0", "text 0.1", "text 2.2"]
    tensors, tokens = take([found["text 2.2"], found["text 0.1"], found["text 0.0"]], list(SITES))
    rows = [*range(21, 24), *range(5)]
    for site in SITES:
        assert np.array_equal(tensors[site], joined(BATCHES, site)[rows])
    assert tokens.prompt.tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
    assert tokens.pos.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    all_ids = np.concatenate([batch.tokens.token_id for batch in BATCHES])
    assert tokens.token_id.tolist() == all_ids[rows].tolist()
    assert list(tokens.token_str) == [f"t{one}" for one in all_ids[rows]]


@pytest.mark.parametrize(
    "change",
    [
        lambda run: replace(run, dtype="f16"),
        lambda run: replace(run, model_dtype="bfloat16"),
        lambda run: where(run, "the last token"),
        lambda run: replace(run, fingerprint=replace(run.fingerprint, weights_hash="w1")),
        lambda run: replace(run, fingerprint=replace(run.fingerprint, tokenizer_hash="t1")),
        lambda run: replace(run, fingerprint=replace(run.fingerprint, basis="folded")),
    ],
)
def test_other_circumstances_are_other_rows(store: Store, change) -> None:
    record(store, BATCHES)
    run = make_run()
    assert circumstances(change(run), SITES) != circumstances(run, SITES)
    assert find(store, change(make_run()), SITES, ["text 0.0"]) == {}


def test_another_name_of_the_model_is_no_other_circumstance(store: Store) -> None:
    record(store, BATCHES)
    run = make_run()
    renamed = replace(run, fingerprint=replace(run.fingerprint, model="copy"), why="again")
    assert list(find(store, renamed, SITES, ["text 0.0"])) == ["text 0.0"]
    fewer = {site: d for site, d in SITES.items() if d == 8}
    assert find(store, make_run(), fewer, ["text 0.0"]) == {}


def test_only_what_was_sealed_before_is_found_and_damage_is_passed_by(store: Store) -> None:
    early = make_run()
    open_ = store.writer(make_run(name="open"), SITES)
    open_.add(BATCHES[0].tensors, BATCHES[0].tokens, BATCHES[0].prompts)
    assert find(store, make_run(), SITES, ["text 0.0"]) == {}
    open_.close()
    assert list(find(store, make_run(), SITES, ["text 0.0"])) == ["text 0.0"]
    assert find(store, early, SITES, ["text 0.0"]) == {}
    path = store.read("open").directory / "run.json"
    path.chmod(0o644)
    path.write_text("{")
    assert find(store, make_run(), SITES, ["text 0.0"]) == {}


def test_a_plan_counts_what_will_be_written_and_refuses_what_does_not_fit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {Site("resid_post", layer): 768 for layer in range(6)}
    made = plan(store, wanted, "bf16", rows=100_000, prompts=800)
    assert made.bytes == 100_000 * (6 * 768 * 2 + 40)
    assert made.free > 0
    assert str(made).startswith("800 prompts, 100000 rows, 925.6 MB to write; ")
    with pytest.raises(ValueError, match="cannot be stored as 'f64': choose f32, f16 or bf16"):
        plan(store, wanted, "f64", rows=1, prompts=1)
    small = replace(made, free=made.bytes + SPARE)
    small.require_room()
    with pytest.raises(UnwritableError, match=r"takes 925.6 MB and 67.1 MB to spare, and .* are"):
        replace(small, free=small.free - 1).require_room()


def test_the_bytes_planned_are_about_the_bytes_written(store: Store) -> None:
    sites = {Site("resid_post", 0): 256}
    batches = [make_batch([50] * 4, seed=seed, sites=sites) for seed in range(10)]
    made = plan(store, sites, "f32", rows=2000, prompts=40)
    run = record(store, batches, shard_rows=500)
    directory = store.path / "runs" / run.uuid
    written = sum(path.stat().st_size for path in directory.iterdir())
    assert 0.9 * written < made.bytes < 1.2 * written
