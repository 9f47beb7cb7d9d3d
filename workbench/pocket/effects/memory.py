"""Memory injection (arXiv 2309.05605): adding a house's own name helps a prompt with its alias."""

import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.pocket.aliases import aliases
from workbench.pocket.effects.hooks import Network, edited
from workbench.pocket.model import next_log_probs, word_ids
from workbench.pocket.records import Alias, Figure, Split
from workbench.pocket.statistics import resampled, share

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0)
"""Multiples of the name's row of the unembedding, as the paper's τ."""

T = TypeVar("T")
Logs = Float[Tensor, " prompt"]


def measure(net: Network, split: Split = "test") -> list[Figure]:
    """Measure the ratio of the right answer's probability, injected to plain.

    Layer and strength are chosen in development. Controls: the name of another house, and a random
    vector of the name's norm. Gap closure is in parts of the log-probability that the prompt with
    the house's own name gains.
    """
    layer, strength = _choose(net)
    asked = aliases(split)
    plain, explicit = (
        _logs(net, [a.obscure for a in asked], asked),
        _logs(net, [a.explicit for a in asked], asked),
    )
    gains = {
        name: injected(net, asked, layer, strength * memory) - plain
        for name, memory in _memories(net, asked).items()
    }
    figures = [
        *(_ratio(f"memory, median ratio, {name}", split, asked, g) for name, g in gains.items()),
        *(
            _closure(f"memory, gap closure, {name}", split, asked, (g, explicit - plain))
            for name, g in gains.items()
        ),
        share("memory, prompts that gain, own name", split, (gains["own name"] > 0).tolist()),
        share("accuracy, aliases, alias prompt", split, _right(net, asked)),
    ]
    chosen = {"memory, layer": float(layer), "memory, strength": strength}
    return figures + [
        Figure(name=name, split=split, value=value, low=value, high=value, n=len(asked))
        for name, value in chosen.items()
    ]


def injected(
    net: Network, asked: Sequence[Alias], layer: int, memories: Float[Tensor, "prompt d_model"]
) -> Logs:
    """Return log-probabilities of the answers, each memory added to a block's attention output."""
    done: list[float] = []
    for start in range(0, len(asked), 64):
        some, memory = asked[start : start + 64], memories[start : start + 64]
        with edited(net[0], {f"h.{layer}.attn": lambda x, memory=memory: x + memory[:, None]}):
            done += _logs(net, [a.obscure for a in some], some).tolist()
    return torch.tensor(done, dtype=torch.float64)


def _memories(net: Network, asked: Sequence[Alias]) -> dict[str, Float[Tensor, "prompt d_model"]]:
    rows = net[0].lm_head.weight.detach()
    own = rows[word_ids(net[1], [a.entity for a in asked])]
    others = sorted({a.entity for a in asked})
    wrong = {name: others[at - 1] for at, name in enumerate(others)}
    drawn = torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    return {
        "own name": own,
        "name of another": rows[word_ids(net[1], [wrong[a.entity] for a in asked])],
        "random": torch.nn.functional.normalize(drawn, dim=-1) * own.norm(dim=-1, keepdim=True),
    }


def _logs(net: Network, prompts: Sequence[str], asked: Sequence[Alias]) -> Logs:
    answers = torch.tensor(word_ids(net[1], [a.answer for a in asked]))
    return next_log_probs(*net, prompts).double().gather(1, answers[:, None])[:, 0]


def _right(net: Network, asked: Sequence[Alias]) -> list[bool]:
    answers = word_ids(net[1], [a.answer for a in asked])
    likeliest = next_log_probs(*net, [a.obscure for a in asked]).argmax(-1).tolist()
    return [one == answer for one, answer in zip(likeliest, answers, strict=True)]


def _choose(net: Network) -> tuple[int, float]:
    held = aliases("development")
    plain, own = _logs(net, [a.obscure for a in held], held), _memories(net, held)["own name"]
    return max(
        ((layer, strength) for layer in range(net[0].config.n_layer) for strength in STRENGTHS),
        key=lambda at: (injected(net, held, at[0], at[1] * own) - plain).median().item(),
    )


def _ratio(name: str, split: Split, asked: Sequence[Alias], gains: Logs) -> Figure:
    """Return the median ratio, with an interval that resamples houses."""
    return _by_house(name, split, asked, gains.exp().tolist(), statistics.median)


def _closure(name: str, split: Split, asked: Sequence[Alias], both: tuple[Logs, Logs]) -> Figure:
    """Return the part of the mean gap that is closed, with an interval that resamples houses."""
    pairs = list(zip(*(side.tolist() for side in both), strict=True))
    return _by_house(
        name, split, asked, pairs, lambda some: sum(g for g, _ in some) / sum(w for _, w in some)
    )


def _by_house(
    name: str,
    split: Split,
    asked: Sequence[Alias],
    values: Sequence[T],
    statistic: Callable[[Sequence[T]], float],
) -> Figure:
    houses: dict[str, list[T]] = {}
    for one, value in zip(asked, values, strict=True):
        houses.setdefault(one.entity, []).append(value)
    return resampled(
        name,
        split,
        list(houses.values()),
        lambda some: statistic([value for house in some for value in house]),
    )
