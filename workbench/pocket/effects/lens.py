"""Future Lens (arXiv 2311.04897): one state foretells tokens that tables cannot."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.pocket.effects.hooks import Network, states
from workbench.pocket.entities import rows_of_entities, said
from workbench.pocket.model import word_ids
from workbench.pocket.records import Figure, Split
from workbench.pocket.statistics import share

SOURCE = 2
"""Place of the token whose state is read: two are behind it, and it is shared by entities."""
RIDGE = 1.0

Tokens = Int[Tensor, " example"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """States at the third token of a row's last entity, and the entity's tokens."""

    states: Float[Tensor, "layer example d_model"]
    tokens: Int[Tensor, "example place"]


def measure(net: Network, split: Split = "test", *, n: int = 600) -> list[Figure]:
    """Measure precision at 1 for N = 1 and 2 at the block that does best in development.

    Controls: the most frequent target of the token, and of the token with the one before it, as
    the training split has them; and the same linear map fitted to shuffled targets.
    """
    train = _sources(net, "train", 3 * n)
    held, asked = _sources(net, "development", n), _sources(net, split, n)
    return [figure for ahead in (1, 2) for figure in _ahead(train, held, asked, split, ahead)]


def _ahead(train: Sources, held: Sources, asked: Sources, split: Split, ahead: int) -> list[Figure]:
    place = SOURCE + 1 + ahead
    gold, wanted = train.tokens[:, place], asked.tokens[:, place]
    layer = max(
        range(len(train.states)),
        key=lambda at: (
            _linear(train.states[at], gold, held.states[at]).eq(held.tokens[:, place]).sum().item()
        ),
    )
    order = torch.randperm(len(gold), generator=torch.Generator().manual_seed(0))
    said_by = {
        "state": _linear(train.states[layer], gold, asked.states[layer]),
        "shuffled targets": _linear(train.states[layer], gold[order], asked.states[layer]),
        "token table": _table(train.tokens, asked.tokens, place, 1),
        "token-pair table": _table(train.tokens, asked.tokens, place, 2),
    }
    return [
        share(f"Future Lens N={ahead}, {name}", split, said.eq(wanted).tolist())
        for name, said in said_by.items()
    ]


def _sources(net: Network, split: Split, n: int) -> Sources:
    rows = rows_of_entities(split, n, seed=11)
    texts = []
    for row in rows:
        before = said(row[:-1]).removesuffix(".")
        texts.append(f"{before}, {' '.join(row[-1].tokens[: SOURCE + 1])}")
    tokens = torch.tensor([word_ids(net[1], row[-1].tokens) for row in rows])
    return Sources(states=states(net, texts), tokens=tokens)


def _linear(
    x: Float[Tensor, "example d"], gold: Tokens, asked: Float[Tensor, "asked d"]
) -> Int[Tensor, " asked"]:
    """Fit ridge regression onto the one-hot targets, and return the likeliest targets."""
    kinds, index = gold.unique(return_inverse=True)
    mean = x.double().mean(0)
    centred = x.double() - mean
    wanted = torch.nn.functional.one_hot(index, len(kinds)).double()
    gram = centred.T @ centred + RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, centred.T @ (wanted - wanted.mean(0)))
    return kinds[((asked.double() - mean) @ weights + wanted.mean(0)).argmax(-1)]


def _table(
    train: Int[Tensor, "example place"], asked: Int[Tensor, "asked place"], place: int, width: int
) -> Int[Tensor, " asked"]:
    """Return the most frequent target behind the last `width` tokens."""
    counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for row in train.tolist():
        counts[tuple(row[SOURCE + 1 - width : SOURCE + 1])][row[place]] += 1
    found = [counts[tuple(row[SOURCE + 1 - width : SOURCE + 1])] for row in asked.tolist()]
    return torch.tensor([count.most_common(1)[0][0] if count else -1 for count in found])
