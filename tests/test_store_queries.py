"""Named questions agree with plain numpy over what was written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from store_samples import FINGERPRINT, SITES, joined, make_batch, make_run, record

from store import Artifact, Site, Store, queries
from store.tensors import to_float32

BATCHES = [make_batch([3, 0, 5, 2], seed=seed, dtype="bf16") for seed in range(3)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        record(opened, BATCHES, run=make_run(name="mine", dtype="bf16"))
        yield opened


def test_the_overview_counts_what_was_written_newest_run_first(store: Store) -> None:
    record(store, [make_batch([4])], run=make_run(name="later"))
    writer = store.writer(make_run(name="empty"), SITES)
    rows = queries.runs_overview(store).to_pylist()
    assert [(row["name"], row["prompts"], row["tokens"], row["status"]) for row in rows] == [
        ("empty", 0, 0, "open"),
        ("later", 1, 4, "sealed"),
        ("mine", 12, 30, "sealed"),
    ]
    assert rows[2]["sites"] == [str(site) for site in SITES]
    assert rows[2]["bytes"] == sum(shard.bytes for shard in store.read("mine").shards)
    assert (rows[2]["model"], rows[2]["dtype"], rows[2]["why"]) == ("tiny", "bf16", "a test")
    writer.close()


def test_the_overview_of_an_empty_store_is_an_empty_table(tmp_path: Path) -> None:
    assert queries.runs_overview(Store.open(tmp_path / "new")).num_rows == 0


def test_mean_norms_agree_with_numpy_in_float64(store: Store) -> None:
    rows = queries.norms(store, "mine").to_pylist()
    for row, site in zip(rows, SITES, strict=True):
        vectors = to_float32(joined(BATCHES, site)).astype(np.float64)
        assert (row["site"], row["layer"], row["head"]) == (str(site), site.layer, site.head)
        assert row["mean_norm"] == pytest.approx(np.linalg.norm(vectors, axis=1).mean(), rel=1e-12)
        assert row["n"] == 30


def test_a_run_without_rows_has_no_norms(store: Store) -> None:
    store.writer(make_run(name="empty"), SITES).close()
    assert queries.norms(store, "empty").column("mean_norm").to_pylist() == [None] * 3


def test_top_tokens_are_those_furthest_along_the_direction(store: Store) -> None:
    site, direction = Site("z", 0, 1), np.array([1, -2, 0.5, 0])
    artifact = Artifact(name="kind", method="m:M", kind="v", fingerprint=FINGERPRINT)
    store.save_artifact(artifact, {str(site): direction})
    record(store, [make_batch([9], seed=9)], run=make_run(name="other"))
    values = to_float32(joined(BATCHES, site)) @ direction
    best = np.argsort(-values)[:4]
    rows = queries.top_tokens(store, "kind", site=str(site), run="mine", k=4).to_pylist()
    assert [row["row"] for row in rows] == best.tolist()
    np.testing.assert_allclose([row["value"] for row in rows], values[best], rtol=1e-5)
    recorded = store.read("mine")
    for row in rows:
        assert row["text"] == recorded.prompts[row["prompt_id"]].text
        assert row["token_str"] == recorded.tokens().column("token_str")[row["row"]].as_py()
    with pytest.raises(LookupError, match=r"no site resid_post.7 in run"):
        queries.top_tokens(store, "kind", site="resid_post.7")
    with pytest.raises(LookupError, match="no direction 'unkind'"):
        queries.top_tokens(store, "unkind", site=site)


def test_tokens_are_counted_by_tag_over_one_run_or_all(store: Store) -> None:
    record(store, [make_batch([4])], run=make_run(name="later"))
    assert queries.tokens_by_tag(store, "mine").to_pylist() == [
        {"tag": "even", "prompts": 6, "tokens": 24},
        {"tag": "odd", "prompts": 6, "tokens": 6},
    ]
    assert queries.tokens_by_tag(store).to_pylist()[0] == {
        "tag": "even", "prompts": 7, "tokens": 28,
    }  # fmt: skip


def test_the_artifacts_are_listed_newest_first(store: Store) -> None:
    for name in ("first", "second"):
        made = Artifact(name=name, method="steering:ICV", kind="v", fingerprint=FINGERPRINT)
        store.save_artifact(made, {"resid_post.0": np.ones(8, np.float32)})
    rows = queries.artifacts_overview(store).to_pylist()
    assert [(row["name"], row["method"], row["model"]) for row in rows] == [
        ("second", "steering:ICV", "tiny"),
        ("first", "steering:ICV", "tiny"),
    ]
