"""Effects, controls and intervals, against closed forms and known answers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import workbench
from steering import ICV, SteeringVector
from steering.evaluate import Choice, Measure, controls, interval, sweep
from store import Site
from workbench import Session, engine
from workbench.pocket import corpus

SITE = Site("resid_post", 2)


def choices() -> list[Choice]:
    return [
        Choice(prompt=text, target=("a", "b"), source=("c",))
        for text in ("hello", "hi", "well now")
    ]


def vector(seed: int = 0) -> SteeringVector:
    draw = torch.Generator().manual_seed(seed)
    return SteeringVector(
        directions={SITE: torch.randn(32, generator=draw), Site("resid_post", 1): torch.ones(32)}
    )


def test_log_odds_and_kl_are_those_of_the_next_token(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny()
    found = Measure.of(lab, choices()).scores(0.5 * vector())
    a, b, c = (lab.backend.tokenizer(word)["input_ids"][0] for word in "abc")
    for i, choice in enumerate(choices()):
        batch = lab.backend.encode([choice.prompt])
        plain = engine.run(lab.backend, batch).logits[0, -1].double().softmax(-1)
        steered = engine.run(lab.backend, batch, 0.5 * vector()).logits[0, -1].double().softmax(-1)
        odds = torch.log((steered[a] + steered[b]) / steered[c])
        kl = (plain * torch.log(plain / steered)).sum()
        assert found.log_odds[i] == pytest.approx(float(odds), abs=1e-4)
        assert found.kl[i] == pytest.approx(float(kl), abs=1e-4)


def test_without_steering_the_side_effect_is_exactly_none(
    open_tiny: Callable[..., Session],
) -> None:
    measure = Measure.of(open_tiny(), choices())
    assert np.array_equal(measure.scores().kl, np.zeros(3))
    assert np.array_equal(measure.scores(0 * vector()).kl, np.zeros(3))


def test_controls_have_the_vectors_norm_at_every_site_and_no_other_likeness() -> None:
    v = vector()
    made = controls(v, n_random=5, n_shuffled=3)
    assert len(made) == 9
    for name, control in made.items():
        for site, direction in control.directions.items():
            assert float(direction.norm()) == pytest.approx(float(v.directions[site].norm()))
        if name.startswith("shuffled"):
            same = torch.equal(
                control.directions[SITE].sort().values, v.directions[SITE].sort().values
            )
            assert same and not torch.equal(control.directions[SITE], v.directions[SITE])
    assert torch.equal(made["sign-flipped"].directions[SITE], v.directions[SITE])
    assert made["sign-flipped"].strength == -v.strength
    turned = v.like(dict(reversed(v.directions.items())), "the same in another order")
    again = controls(turned, n_random=5, n_shuffled=3)
    assert all(torch.equal(made[k].directions[SITE], again[k].directions[SITE]) for k in made)
    other = controls(v, n_random=5, n_shuffled=3, seed=1)
    assert not torch.equal(made["random 0"].directions[SITE], other["random 0"].directions[SITE])


def test_a_sweep_has_a_row_for_each_variant_and_strength(open_tiny: Callable[..., Session]) -> None:
    table = sweep(open_tiny(), choices(), vector(), strengths=[-0.5, 0.0, 0.5])
    assert table.num_rows == (1 + 8 + 8 + 1) * 3
    rows = {(row["variant"], row["strength"]): row for row in table.to_pylist()}
    for name in ("vector", "random 3", "sign-flipped"):
        assert rows[name, 0.0]["effect"] == rows[name, 0.0]["kl"] == 0.0
    for strength in (-0.5, 0.5):
        assert rows["vector", strength]["effect"] == rows["sign-flipped", -strength]["effect"]
        row = rows["vector", strength]
        assert row["low"] <= row["effect"] <= row["high"]
        assert (row["kind"], row["n"]) == ("vector", 3)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        mean, low, high = interval(rng.exponential(size=60), seed=trial)
        hits += low <= 1.0 <= high
        assert low < mean < high
    # Exact coverage of .95 would give 190 ± 6; the bootstrap is a little narrow on skewed data.
    assert 175 <= hits <= 200


def test_what_cannot_be_measured_is_refused(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny()
    with pytest.raises(ValueError, match="nothing to evaluate"):
        Measure.of(lab, [])
    with pytest.raises(ValueError, match="'ab' is 2 tokens"):
        Measure.of(lab, [Choice(prompt="x", target=("ab",), source=("c",))])
    with pytest.raises(ValueError, match="choice 0 has no words"):
        Measure.of(lab, [Choice(prompt="x", target=(), source=("c",))])


@pytest.mark.parametrize("family", ["reviews", "styles"])
def test_the_pocket_models_effect_exceeds_every_control_and_flips_with_the_sign(
    family: str,
) -> None:
    pairs = [(c.before, c.after) for c in corpus.contrasts(family, "train", 20, seed=0)]
    held_out = [
        Choice(prompt=c.prompt, target=c.target_words, source=c.source_words)
        for c in corpus.contrasts(family, "test", 40, seed=1)
    ]
    with workbench.open("pocket") as lab:
        rows = sweep(lab, held_out, ICV().fit(lab, pairs), strengths=[0.15]).to_pylist()
    own = next(row for row in rows if row["kind"] == "vector")
    flipped = next(row for row in rows if row["kind"] == "flipped")
    largest = max(abs(row["effect"]) for row in rows if row["kind"] in ("random", "shuffled"))
    assert own["effect"] >= 2 and own["low"] > largest
    assert flipped["high"] < 0
