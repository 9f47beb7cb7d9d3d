"""ICR (arXiv 2410.02642): attention from a question ranks the facts of a passage.

Differs from the paper: the calibrating question has the same form and length and asks about a name
that the passage does not hold; the paper's has the text "N/A".
"""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.pocket.effects.hooks import Network, attention
from workbench.pocket.model import next_log_probs, word_ids
from workbench.pocket.passages import passages
from workbench.pocket.records import Figure, Passage, Split
from workbench.pocket.statistics import share

FACTS = 8
SHORT = "Question: Answer:"
"""A question without content, for the paper's short calibration."""

Scores = Float[Tensor, "layer head fact"]


def measure(net: Network, split: Split = "test", *, n: int = 200) -> list[Figure]:
    """Measure recall at 1 of the fact asked for, over passages of eight facts.

    Controls: no calibration, a short one, an absent name as the question, the fact's number
    shuffled, the share of words in common, and passages in which every name has two facts, where
    words in common cannot reach more than a half.
    """
    single = passages(split, n, facts=FACTS, seed=3)
    double = passages(split, n, facts=FACTS, seed=4, kind="double")
    found = _scored(net, single, "ICR", split)
    found += _scored(net, double, "ICR, two facts a name", split)
    for k, kind in ((2, "single"), (4, "single"), (8, "single"), (8, "double")):
        asked = passages(split, n, facts=k, seed=5, kind=kind)
        found.append(share(f"first query, {kind}, k={k}", split, answered(net, asked)))
    return found


def answered(net: Network, asked: Sequence[Passage]) -> list[bool]:
    """Tell for each passage whether its question is answered rightly."""
    likeliest = next_log_probs(*net, [f"{p.text} {p.question}" for p in asked]).argmax(-1)
    right = word_ids(net[1], [p.answer for p in asked])
    return [one == answer for one, answer in zip(likeliest.tolist(), right, strict=True)]


def scores(net: Network, passage: Passage, question: str) -> Scores:
    """Return attention summed over each fact's tokens, as a mean over the question's tokens."""
    tokenizer = net[1]
    counts = [len(_marks(said.sentence)) for said in passage.facts]
    ids = torch.tensor(tokenizer.encode(f"{passage.text} {question}").ids)
    paid = attention(net, ids)[:, :, 1 + sum(counts) :, :].mean(2)
    parts = paid[..., 1 : 1 + sum(counts)].split(counts, dim=-1)
    return torch.stack([part.sum(-1) for part in parts], dim=-1)


def _scored(net: Network, asked: Sequence[Passage], name: str, split: Split) -> list[Figure]:
    raw = torch.stack([scores(net, p, p.question) for p in asked])
    absent = torch.stack([scores(net, p, p.absent) for p in asked])
    short = torch.stack([scores(net, p, SHORT) for p in asked])
    unaided = (raw - absent).clone()
    unaided[:, 0, :2] = 0
    unaided[:, 1, 0] = 0
    by_name = {
        "same-length calibration": raw - absent,
        "without the heads that were aided": unaided,
        "uncalibrated": raw,
        "short calibration": raw - short,
        "absent name": absent,
    }
    gold = torch.tensor([p.about for p in asked])
    figures = [
        share(f"{name}, {how}", split, total.sum((1, 2)).argmax(-1).eq(gold).tolist())
        for how, total in by_name.items()
    ]
    order = torch.randperm(len(gold), generator=torch.Generator().manual_seed(0))
    calibrated = (raw - absent).sum((1, 2)).argmax(-1)
    return [
        *figures,
        share(f"{name}, shuffled facts", split, calibrated.eq(gold[order]).tolist()),
        share(f"{name}, words in common", split, [_overlap(p) == p.about for p in asked]),
    ]


def _overlap(passage: Passage) -> int:
    """Return the fact with most words in common with the question; the first among equals."""
    asked = set(_marks(passage.question))
    common = [len(asked & set(_marks(said.sentence))) for said in passage.facts]
    return common.index(max(common))


def _marks(text: str) -> list[str]:
    return re.findall(r"[A-Za-z']+|[.,:?]", text)
