"""Each method shows on its checkpoint what the card says it does, beside its negative controls."""

from functools import cache

import pytest
import torch

from workbench import pocket
from workbench.pocket import card, effects, evaluate, targets
from workbench.pocket.effects import autoencoder, hooks, rerank
from workbench.pocket.passages import passages
from workbench.pocket.records import Figure

SLOW = {"MLSAE", "EAST"}
EVERY = [
    pytest.param(name, method, marks=pytest.mark.slow if method in SLOW else ())
    for name in pocket.names()
    for method in effects.of(name)
]
PREFIX = {"memory injection": "memory"}
"""How a method's figures begin, where it is not by its name."""


@cache
def network(name: str) -> hooks.Network:
    torch.set_num_threads(1)
    return evaluate.load(pocket.path(name))


def carded(name: str) -> dict[str, Figure]:
    figures = card.figures(pocket.path(name).parent / "card.md")
    return {figure.name: figure for figure in figures if figure.split == "test"}


@pytest.mark.parametrize(("name", "method"), EVERY)
def test_a_method_measured_again_does_what_the_card_says(name: str, method: str) -> None:
    found = effects.of(name)[method](network(name), "test")
    written = carded(name)
    for figure in found:
        kept = written[figure.name]
        room = 0.02 + 0.05 * abs(kept.value)
        assert kept.low - room <= figure.value <= kept.high + room, figure.name
    start = PREFIX.get(method, method)
    for target in targets.of(name):
        verdict = targets.met(target, found)
        if verdict is not None and target.name.startswith(start):
            assert verdict == targets.met(target, list(written.values())), target.name


@pytest.mark.parametrize(
    ("name", "start", "least"),
    [
        ("pocket-bind", "first query", 2),
        ("pocket-bind", "ICR", 3),
        ("pocket-play", "Future Lens", 2),
        ("pocket-play", "EAST", 4),
        ("pocket-play", "memory", 2),
        ("pocket", "MLSAE", 5),
    ],
)
def test_the_card_bears_out_most_targets_of_a_method(name: str, start: str, least: int) -> None:
    written = list(carded(name).values())
    mine = [one for one in targets.of(name) if one.name.startswith(start)]
    assert sum(bool(targets.met(one, written)) for one in mine) >= least


def test_the_shuffled_control_has_no_methods_of_its_own() -> None:
    assert effects.of("pocket-shuffled") == {}


def test_an_edit_acts_while_it_is_on_and_leaves_nothing_behind() -> None:
    model, _ = net = network("pocket-play")
    prompts = ["Crest of Beleth", "Game: left pays"]
    plain = hooks.states(net, prompts)
    with hooks.edited(model, {"h.0.attn": lambda x: x + 1.0}):
        pushed = hooks.states(net, prompts)
    assert not torch.allclose(pushed[0], plain[0])
    assert torch.equal(hooks.states(net, prompts), plain)
    assert not model.transformer.h[0].attn._forward_hooks


def test_attention_scores_cover_each_fact_and_never_exceed_one() -> None:
    net = network("pocket-bind")
    (passage,) = passages("test", 1, facts=4)
    scores = rerank.scores(net, passage, passage.question)
    assert scores.shape == (net[0].config.n_layer, net[0].config.n_head, 4)
    assert (scores >= 0).all() and (scores.sum(-1) <= 1 + 1e-5).all()


def test_a_dictionary_rebuilds_what_it_holds_and_keeps_few_latents_active() -> None:
    eye = torch.eye(32)
    held = autoencoder.Dictionary(encoder=eye, decoder=eye, bias=torch.zeros(32))
    sparse = torch.zeros(5, 32)
    sparse[:, 3] = 2.0
    assert torch.equal(held.rebuilt(sparse), sparse)
    dense = torch.rand(5, 32)
    assert (held.latents(dense) > 0).sum(-1).max() <= autoencoder.ACTIVE
