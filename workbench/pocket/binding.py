"""Rows of the binding families for training: their batch, their weighted loss, their aids."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from workbench.pocket import corpus
from workbench.pocket.model import word_ids
from workbench.pocket.recipe import Stage
from workbench.pocket.records import Row
from workbench.pocket.tokenizer import BOS, PAD

MARKS = ".,:?"
"""Punctuation that the tokenizer writes without a space before it."""

Projections = dict[int, Float[Tensor, "row pos qkv"]]
"""By layer, queries, keys and values side by side, as GPT-2 projects them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bound:
    """A batch of documents, one in each row, padded on the right."""

    ids: Int[Tensor, "row pos"]
    weights: Float[Tensor, "row pos-1"]
    """Weight of each next token's loss; a family's weights add up to its stage's share."""
    aims: Mapping[str, Int[Tensor, "aim 3"]]
    """By kind of aid: row, looking position, position looked at."""


def draw(tokenizer: Tokenizer, stage: Stage, rng: Random, *, shuffled: bool = False) -> Bound:
    """Draw a step's documents; the shuffled control permutes their words and has no aims."""
    families = [name for name, n in stage.bound.items() for _ in range(n)]
    rows = [corpus.row(name, rng, stage.room) for name in families]
    rows = _shuffle(rows, rng) if shuffled else rows
    pad, bos = (_special(tokenizer, name) for name in (PAD, BOS))
    ids = torch.full((len(rows), stage.room + 1), pad)
    weights = torch.zeros(len(rows), stage.room)
    for at, row in enumerate(rows):
        ids[at, 0] = bos
        ids[at, 1 : len(row.words) + 1] = torch.tensor(_ids(tokenizer, row.words))
        weights[at, : len(row.words)] = torch.tensor(row.weights)
    for name in stage.bound:
        mine = torch.tensor([family == name for family in families])
        weights[mine] *= stage.weights.get(name, 1.0) / weights[mine].sum()
    return Bound(ids=ids, weights=weights, aims=_aims(rows))


def loss(
    model: GPT2LMHeadModel, bound: Bound, aids: Mapping[str, tuple[int, int]], factor: float
) -> Float[Tensor, ""]:
    """Return the weighted cross-entropy in nats, plus the aids' share: -log attention aimed for."""
    with _projections(model, {layer for layer, _ in aids.values()}) as seen:
        logits = model(input_ids=bound.ids[:, :-1], use_cache=False).logits
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), bound.ids[:, 1:].flatten(), reduction="none"
    )
    total = (nats * bound.weights.flatten()).sum()
    for kind, (layer, head) in aids.items():
        if kind in bound.aims:
            total = total + factor * _missed(model, seen[layer], head, bound.aims[kind])
    return total


def to(bound: Bound, device: torch.device) -> Bound:
    """Return the batch on a device."""
    return Bound(
        ids=bound.ids.to(device),
        weights=bound.weights.to(device),
        aims={kind: aim.to(device) for kind, aim in bound.aims.items()},
    )


def _special(tokenizer: Tokenizer, name: str) -> int:
    token = tokenizer.token_to_id(name)
    assert token is not None
    return token


def _ids(tokenizer: Tokenizer, words: Sequence[str]) -> list[int]:
    """Return the token of each word or mark, as encoding the running text gives them."""
    return [
        _special(tokenizer, word) if word in MARKS else word_ids(tokenizer, [word])[0]
        for word in words
    ]


def _aims(rows: Sequence[Row]) -> dict[str, Int[Tensor, "aim 3"]]:
    found: dict[str, list[tuple[int, int, int]]] = {}
    for at, row in enumerate(rows):
        for aim in row.aims:
            found.setdefault(aim.kind, []).append((at, aim.query, aim.key))
    return {kind: torch.tensor(aims) for kind, aims in found.items()}


def _shuffle(rows: Sequence[Row], rng: Random) -> list[Row]:
    words = [word for row in rows for word in row.words]
    rng.shuffle(words)
    drawn = iter(words)
    return [
        Row(
            words=tuple(next(drawn) for _ in row.words),
            weights=(1.0,) * len(row.words),
            aims=(),
        )
        for row in rows
    ]


@contextmanager
def _projections(model: GPT2LMHeadModel, layers: set[int]) -> Iterator[Projections]:
    seen: Projections = {}

    def keep(layer: int, out: Any) -> None:
        seen[layer] = out

    hooks = [
        model.transformer.get_submodule(f"h.{layer}.attn.c_attn").register_forward_hook(
            lambda _module, _inputs, out, layer=layer: keep(layer, out)
        )
        for layer in layers
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _missed(
    model: GPT2LMHeadModel,
    projected: Float[Tensor, "row pos qkv"],
    head: int,
    aims: Int[Tensor, "aim 3"],
) -> Float[Tensor, ""]:
    """Return the mean of -log(attention paid to the position aimed for), of one head."""
    width = model.config.n_embd // model.config.n_head
    parts = projected.float().split(model.config.n_embd, dim=-1)
    queries, keys = (part[..., head * width : (head + 1) * width] for part in parts[:2])
    row, query, key = aims.unbind(-1)
    n = projected.shape[1]
    inside = (query < n) & (key < n)
    row, query, key = row[inside], query[inside], key[inside]
    scores = (queries @ keys.transpose(-1, -2)) / width**0.5
    later = torch.ones(n, n, dtype=torch.bool, device=scores.device).triu(1)
    logs = scores.masked_fill(later, float("-inf")).log_softmax(-1)
    return -logs[row, query, key].mean()
