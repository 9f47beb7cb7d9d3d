"""EAST (arXiv 2406.00244): a direction that makes the bandit's player undecided.

Differs from the paper: actions are one token, so entropies are exact and not sampled; histories
are matched with their mirror images, which keeps the direction from preferring an arm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.pocket.bandit import ARMS, mirrored, plays
from workbench.pocket.effects.hooks import Network, edited, states
from workbench.pocket.model import next_log_probs, word_ids
from workbench.pocket.records import Figure, Split
from workbench.pocket.statistics import resampled

STRENGTHS = (0.25, 0.5, 1.0)
"""In units of the mean norm of the states steered."""
VALID = 0.97
"""Probability of the valid actions that a strength must leave in development."""
CONTROLS = 20
"""Vectors of each kind of control."""
RIVALS = 6
"""Of each kind, those tried in development, where layer and strength are chosen."""
FITTED, ASKED = 40, 100
"""Games fitted to (and their mirror images), and prompts asked."""

Vector = Float[Tensor, " d_model"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Choices:
    """What the model does at the next step of some prompts."""

    entropy: Float[Tensor, " prompt"]
    """Of the valid actions, in parts of ln 2."""
    valid: float
    """Mean probability of the valid actions."""
    left: float
    """Mean share of the left arm in it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """States and entropies at every step of the games fitted to, game after game."""

    states: Float[Tensor, "layer prompt d_model"]
    entropy: Float[Tensor, " prompt"]
    steps: int


def measure(net: Network, split: Split = "test") -> list[Figure]:
    """Measure entropy plain and steered; layer and strength are chosen in development."""
    held, asked = _prompts("development"), _prompts(split)
    played = _read(net)
    layer, strength = _choose(net, played, held)
    vector = _covariance(played, layer, played.entropy)
    plain, steered = choices(net, asked), choices(net, asked, layer, strength * vector)
    controls = {
        kind: [_mean(net, asked, layer, strength * v) for v in vectors]
        for kind, vectors in _controls(played, layer, vector).items()
    }
    by_name = {"plain": plain, "steered": steered}
    by_name["reversed"] = choices(net, asked, layer, -strength * vector)
    figures = [
        resampled(f"EAST, entropy, {name}", split, some.entropy.tolist(), _average)
        for name, some in by_name.items()
    ]
    single = {
        "EAST, valid actions, steered": steered.valid,
        "EAST, left arm, plain": plain.left,
        "EAST, left arm, steered": steered.left,
        **{f"EAST, 95th percentile, {kind}": _percentile(c) for kind, c in controls.items()},
        "EAST, layer": float(layer),
        "EAST, strength": strength,
    }
    return figures + [
        Figure(name=name, split=split, value=value, low=value, high=value, n=len(asked))
        for name, value in single.items()
    ]


def choices(
    net: Network, prompts: Sequence[str], layer: int = 0, push: Vector | None = None
) -> Choices:
    """Return what the model does next, with `push` added to the last position's state."""
    edits = {} if push is None else {f"h.{layer}": lambda x: _last(x, push)}
    with edited(net[0], edits):
        logs = next_log_probs(*net, prompts).double()[:, word_ids(net[1], ARMS)]
    valid = logs.exp().sum(-1)
    shares = logs.exp() / valid[:, None]
    entropy = torch.special.entr(shares).sum(-1) / math.log(2)
    return Choices(entropy=entropy, valid=valid.mean().item(), left=shares[:, 0].mean().item())


def _last(x: Float[Tensor, "text pos d_model"], push: Vector) -> Float[Tensor, "text pos d_model"]:
    return torch.cat([x[:, :-1], x[:, -1:] + push], dim=1)


def _prompts(split: Split) -> list[str]:
    """Return prompts at steps 4 to 23, half of them mirrored, of games with unequal arms."""
    games = plays(split, ASKED // 2, seed=9, means=(0.35, 0.65))
    return [
        one.prompts[4 + at % 20] for at, game in enumerate(games) for one in (game, mirrored(game))
    ]


def _read(net: Network) -> Played:
    """Run the games fitted to, each beside its mirror image."""
    games = plays("train", FITTED // 2, seed=5, means=(0.5, 0.5))
    prompts = [text for game in games for one in (game, mirrored(game)) for text in one.prompts]
    return Played(
        states=states(net, prompts),
        entropy=choices(net, prompts).entropy,
        steps=len(games[0].prompts),
    )


def _covariance(played: Played, layer: int, entropy: Float[Tensor, " prompt"]) -> Vector:
    """Weigh states, centred within each game, by entropy; scale to their mean norm."""
    x = played.states[layer]
    centred = x.unflatten(0, (-1, played.steps))
    centred = (centred - centred.mean(1, keepdim=True)).flatten(0, 1)
    vector = (centred * entropy[:, None].float()).sum(0)
    return vector / vector.norm() * x.norm(dim=-1).mean()


def _controls(played: Played, layer: int, vector: Vector) -> dict[str, list[Vector]]:
    """Return vectors of equal norm: random, with features shuffled (the paper's), and fitted to
    entropies shuffled over all prompts, which still lie where states vary."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(CONTROLS, len(vector), generator=generator)
    features = [torch.randperm(len(vector), generator=generator) for _ in range(CONTROLS)]
    orders = [torch.randperm(len(played.entropy), generator=generator) for _ in range(CONTROLS)]
    return {
        "random": list(torch.nn.functional.normalize(drawn, dim=-1) * vector.norm()),
        "shuffled features": [vector[order] for order in features],
        "shuffled entropies": [_covariance(played, layer, played.entropy[o]) for o in orders],
    }


def _choose(net: Network, played: Played, prompts: Sequence[str]) -> tuple[int, float]:
    """Choose layer and strength: actions stay valid if possible, then by margin over controls."""
    tried = []
    for layer in range(net[0].config.n_layer - 1):
        vector = _covariance(played, layer, played.entropy)
        controls = _controls(played, layer, vector)
        rivals = [one for some in controls.values() for one in some[:RIVALS]]
        for strength in STRENGTHS:
            done = choices(net, prompts, layer, strength * vector)
            best = max(_mean(net, prompts, layer, strength * one) for one in rivals)
            tried.append((done.valid >= VALID, done.entropy.mean().item() - best, layer, strength))
    _, _, layer, strength = max(tried)
    return layer, strength


def _mean(net: Network, prompts: Sequence[str], layer: int, push: Vector) -> float:
    return choices(net, prompts, layer, push).entropy.mean().item()


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percentile(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]
