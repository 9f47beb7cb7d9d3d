"""In-context vectors: closed forms, the released recipe, and what padding must not change."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import icv as twin
from torch import Tensor

import workbench
from steering import ICV, SteeringVector
from steering.extract import mean_difference, mean_plus_components
from store import Site
from workbench import Session, engine
from workbench.pocket import corpus

PAIRS = [("a cold day", "a warm day"), ("no", "yes of course"), ("the bad, old town", "fine, old!")]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def read(lab: Session, text: str, site: Site) -> Tensor:
    batch = lab.backend.encode([text])
    return engine.run(lab.backend, batch, reads=[site]).reads[site][0, -1].double()


def without_punctuation(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum() or letter == " ")


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_the_released_recipe_equals_its_plain_twin(seed: int, n_pairs: int) -> None:
    before, after = drawn(seed, n_pairs, 8), drawn(seed + 1, n_pairs, 8)
    expected = torch.tensor(twin.released_vector((after - before).tolist()), dtype=torch.float64)
    found = mean_plus_components(before, after)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


def test_differences_along_one_direction_give_mean_plus_its_unit_vector() -> None:
    direction, scale = drawn(1, 6), torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    found = mean_plus_components(torch.zeros(3, 6).double(), scale[:, None] * direction)
    # The third pair lies farthest from the mean of 3, above it, so the sign is positive.
    torch.testing.assert_close(found, 3 * direction + direction / direction.norm())


@pytest.mark.parametrize("extract", [mean_difference, mean_plus_components])
def test_the_order_of_pairs_does_not_matter(extract: Callable[..., Tensor]) -> None:
    before, after = drawn(1, 5, 7), drawn(2, 5, 7)
    shuffled = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(extract(before, after), extract(before[shuffled], after[shuffled]))


@pytest.mark.parametrize("extract", [mean_difference, mean_plus_components])
def test_swapped_pairs_give_the_opposite_direction(extract: Callable[..., Tensor]) -> None:
    before, after = drawn(1, 5, 7), drawn(2, 5, 7)
    torch.testing.assert_close(extract(before, after), -extract(after, before))


@pytest.mark.parametrize("n_pairs", [1, 4])
def test_components_without_variance_are_left_out(n_pairs: int) -> None:
    before, step = drawn(1, n_pairs, 7), drawn(2, 7)
    torch.testing.assert_close(mean_plus_components(before, before + step), step)


def test_a_fit_reads_last_tokens_and_pads_away_nothing(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny("llama")
    vector = ICV(at="resid_post.1-2").fit(lab, PAIRS)
    for site, direction in vector.directions.items():
        change = torch.stack([read(lab, b, site) - read(lab, a, site) for a, b in PAIRS]).mean(0)
        expected = (change / change.norm()).float()
        torch.testing.assert_close(direction, expected, atol=1e-5, rtol=1e-5)
        assert vector.notes["difference_norms"][str(site)] == pytest.approx(float(change.norm()))
    assert (vector.rule, vector.method) == ("icv", "steering:ICV")
    assert vector.fingerprint == lab.backend.spec.fingerprint


def test_the_released_recipe_reads_every_block_and_writes_after_the_mlps(
    open_tiny: Callable[..., Session],
) -> None:
    lab = open_tiny("gpt2")
    vector = ICV.released().fit(lab, PAIRS)
    sites = [Site("embed"), *(Site("resid_post", layer) for layer in range(3))]
    clean = [(without_punctuation(a), without_punctuation(b)) for a, b in PAIRS]
    differences = [
        torch.cat([read(lab, b, site) - read(lab, a, site) for site in sites]).tolist()
        for a, b in clean
    ]
    joint = torch.tensor(twin.released_vector(differences)).split(32)
    assert set(vector.directions) == {Site("mlp_out", layer) for layer in range(3)}
    for layer in range(3):
        expected = joint[layer + 1] / joint[layer + 1].norm()
        found = vector.directions[Site("mlp_out", layer)]
        torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-4)


def test_added_directions_keep_their_length_and_turned_ones_do_not(
    open_tiny: Callable[..., Session],
) -> None:
    lab = open_tiny()
    added = ICV(at="resid_post.1", rule="add").fit(lab, PAIRS).directions[Site("resid_post", 1)]
    turned = ICV(at="resid_post.1").fit(lab, PAIRS).directions[Site("resid_post", 1)]
    assert float(turned.norm()) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(added / added.norm(), turned)
    assert float(added.norm()) > 1.5


def test_steering_changes_the_logits_by_exactly_what_the_formula_says() -> None:
    """One block without attention whose MLP gives a constant: the new logits by hand."""
    import tiny
    from transformers import AutoModelForCausalLM

    config = tiny.CONFIGS["gpt2"]()
    config.n_layer = 1
    model = AutoModelForCausalLM.from_config(config).eval()
    block = model.transformer.h[0]
    constant = drawn(1, 32).float()
    with torch.no_grad():
        for value in (*block.attn.parameters(), block.mlp.c_proj.weight):
            value.zero_()
        block.mlp.c_proj.bias.copy_(constant)
    v = SteeringVector(directions={Site("mlp_out", 0): drawn(2, 32).float()}, rule="icv")
    length = float(v.directions[Site("mlp_out", 0)].norm())
    tokens = torch.tensor([[1, 2, 3]])
    with workbench.open(model, tokenizer=tiny.tokenizer()) as lab:
        batch = lab.backend.encode(["abc"])
        found = engine.run(lab.backend, batch, 0.3 * v).logits
        moved = twin.steered(
            constant.tolist(), v.directions[Site("mlp_out", 0)].tolist(), 0.3 * length
        )
        before = engine.run(lab.backend, batch, reads=[Site("resid_pre", 0)]).reads
        expected = lab.backend.unembed(before[Site("resid_pre", 0)] + torch.tensor(moved))
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)
    assert tokens.shape == (1, 3)


def test_bad_pairs_and_sites_are_refused(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny()
    with pytest.raises(ValueError, match="components=-1"):
        ICV(components=-1)
    with pytest.raises(ValueError, match="no pairs"):
        ICV().fit(lab, [])
    with pytest.raises(ValueError, match="look the same"):
        ICV().fit(lab, [("same", "same")])
    with pytest.raises(LookupError, match="cannot write into mlp_out.2: at= reads resid_post.1"):
        ICV(at="resid_post.1", into="mlp_out.1-2").fit(lab, PAIRS)
    with pytest.raises(LookupError, match="sites without a layer"):
        ICV(at="embed").fit(lab, PAIRS)
    with pytest.raises(LookupError, match="cannot write into mlp_out.1"):
        ICV(at="resid_post.1,resid_pre.1", into="mlp_out.1").fit(lab, PAIRS)


@pytest.mark.parametrize("family", ["reviews", "styles"])
def test_more_pairs_agree_with_each_other_on_the_pocket_model(family: str) -> None:
    """Two disjoint sets of pairs find the same direction; two kinds of pairs do not."""
    drawn_pairs = [(c.before, c.after) for c in corpus.contrasts(family, "train", 40, seed=5)]
    other = "styles" if family == "reviews" else "reviews"
    others = [(c.before, c.after) for c in corpus.contrasts(other, "train", 20, seed=5)]
    with workbench.open("pocket") as lab:
        one, two, third = (
            ICV(at="resid_post.2").fit(lab, pairs).directions[Site("resid_post", 2)]
            for pairs in (drawn_pairs[:20], drawn_pairs[20:], others)
        )
    assert float(one @ two) > 0.9
    assert abs(float(one @ third)) < 0.5
