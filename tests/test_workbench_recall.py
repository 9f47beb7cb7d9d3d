"""Recall: texts captured before are taken from the store, and a run cut short goes on."""

from collections.abc import Callable

import numpy as np
import pytest

import workbench
from store import Prompt, UnwritableError
from workbench import engine
from workbench.capture import Capture
from workbench.plan import Where

Open = Callable[..., workbench.Session]
TEXTS = [f"the text number {i} " * (1 + i % 3) for i in range(40)]


@pytest.fixture
def lab(open_tiny: Open) -> workbench.Session:
    return open_tiny("gpt2", store=True)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each forward pass had."""
    made, run = [], engine.run

    def counted(backend, batch, *args, **kwargs):
        made.append(len(batch.tokens))
        return run(backend, batch, *args, **kwargs)

    monkeypatch.setattr(engine, "run", counted)
    monkeypatch.setattr("workbench.capture.TOKENS_PER_BATCH", 400)
    return made


def same(one: Capture, other: Capture) -> None:
    assert one.table() == other.table()
    assert np.array_equal(one.offsets, other.offsets)
    for site in one.sites:
        assert one.recorded.scan(site).tobytes() == other.recorded.scan(site).tobytes()


def test_what_was_captured_before_is_not_computed_again(
    lab: workbench.Session, passes: list[int]
) -> None:
    first = lab.capture(TEXTS, "resid_post.1-2", name="first")
    assert sum(passes) == len(TEXTS)
    passes.clear()
    tagged = [Prompt(text=text, tags=("new",)) for text in TEXTS]
    second = lab.capture(tagged, "resid_post.1-2", name="second")
    assert passes == []
    same(first, second)
    assert {prompt.tags for prompt in second.recorded.prompts} == {("new",)}
    lab.capture(TEXTS, "resid_post.1-2", again=True)
    assert sum(passes) == len(TEXTS)


def test_new_texts_among_old_ones_are_computed_and_all_stand_in_order(
    lab: workbench.Session, passes: list[int]
) -> None:
    lab.capture(TEXTS[::2], "resid_post.1", dtype="f32")
    passes.clear()
    mixed = lab.capture(TEXTS, "resid_post.1", dtype="f32")
    assert sum(passes) == len(TEXTS) // 2
    fresh = lab.capture(TEXTS, "resid_post.1", dtype="f32", again=True)
    assert mixed.table() == fresh.table()
    np.testing.assert_allclose(
        mixed.recorded.scan("resid_post.1"), fresh.recorded.scan("resid_post.1"), atol=1e-5
    )


def test_other_sites_dtypes_or_places_are_captured_anew(
    lab: workbench.Session, passes: list[int]
) -> None:
    lab.capture(TEXTS, "resid_post.1")
    for options in ({"dtype": "f32"}, {"where": Where(start=1)}, {"at": "resid_post.2"}):
        passes.clear()
        lab.capture(TEXTS, **{"at": "resid_post.1", **options})
        assert sum(passes) == len(TEXTS), options


def cut(lab: workbench.Session, after: int, **options) -> None:
    """A capture that ends with an error after so many texts."""

    def stop(done: int, _: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.capture(TEXTS, "resid_post.1", progress=stop, **options)


@pytest.mark.parametrize("after", [1, 15, 39])
def test_a_capture_cut_short_goes_on_and_equals_an_uninterrupted_one(
    lab: workbench.Session, passes: list[int], after: int
) -> None:
    whole = lab.capture(TEXTS, "resid_post.1", name="whole")
    cut(lab, after, name="cut", again=True)
    published = len(lab.store.read("cut").prompts)
    passes.clear()
    resumed = lab.capture(TEXTS, "resid_post.1", resume="cut", again=True)
    same(resumed, whole)
    assert resumed.recorded.status == "sealed"
    assert resumed.run.name == "cut"
    assert sum(passes) == len(TEXTS) - published


def test_a_batch_of_which_a_shard_kept_the_beginning_is_computed_whole(
    lab: workbench.Session, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.store.SHARD_ROWS", 100)
    whole = lab.capture(TEXTS, "resid_post.1", name="whole")
    cut(lab, 15, name="cut", again=True)
    # As a kill would leave it: the last shards were still in memory.
    recorded = lab.store.read("cut")
    for shard in recorded.shards[1:]:
        for path in recorded.directory.glob(f"{shard.shard:05d}.*"):
            path.unlink()
    (recorded.directory / "end.json").unlink()
    kept = len(lab.store.read("cut").prompts)
    passes.clear()
    same(lab.capture(TEXTS, "resid_post.1", resume="cut", again=True), whole)
    assert sum(passes) > len(TEXTS) - kept


def test_only_the_same_capture_can_be_resumed(lab: workbench.Session) -> None:
    cut(lab, 20, name="cut")
    for texts, options, what in [
        (TEXTS[::-1], {}, "texts"),
        (TEXTS[:3], {}, "texts"),
        (TEXTS, {"dtype": "f32"}, "model, sites, dtype or where"),
        (TEXTS, {"at": "resid_post.2"}, "model, sites, dtype or where"),
        (TEXTS, {"where": Where(start=1)}, "model, sites, dtype or where"),
    ]:
        with pytest.raises(ValueError, match=f"was of other {what}: resume it as it was begun"):
            lab.capture(texts, **{"at": "resid_post.1", "resume": "cut", **options})
    lab.capture(TEXTS, "resid_post.1", resume="cut")
    with pytest.raises(ValueError, match="is sealed: it is complete"):
        lab.capture(TEXTS, "resid_post.1", resume="cut")
    with pytest.raises(LookupError, match="no run 'gone'"):
        lab.capture(TEXTS, "resid_post.1", resume="gone")


def test_a_capture_that_does_not_fit_the_disk_is_refused_before_it_begins(
    lab: workbench.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.planning.SPARE", 1 << 60)
    with pytest.raises(UnwritableError, match="capture fewer sites or texts, store them as bf16"):
        lab.capture(TEXTS, "resid_post.1")
    assert lab.store.runs() == []
