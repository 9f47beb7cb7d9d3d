"""An in-context vector steers the pocket model: plain hooks, without the steering package."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from workbench import pocket
from workbench.pocket import corpus, evaluate
from workbench.pocket.model import encode, next_log_probs, word_ids
from workbench.pocket.records import Contrast

Vector = Float[Tensor, "layer d_model"]
STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
RANDOM = 20
FLUENT = 0.95
"""Share of sentences, on development prompts, that must follow the grammar at a strength."""
STILL_FLUENT = 0.85
"""The same on test prompts."""

Model = tuple[GPT2LMHeadModel, Tokenizer]


@pytest.fixture(scope="module")
def loaded() -> Model:
    torch.set_num_threads(1)
    return evaluate.load(pocket.path())


@torch.no_grad()
def last_tokens(loaded: Model, texts: Sequence[str]) -> Float[Tensor, "text layer d_model"]:
    """Read resid_post of every block at the last token."""
    model, tokenizer = loaded
    rows: list[Tensor] = []
    hooks = [
        b.register_forward_hook(lambda _m, _i, out: rows.append(first(out)[0, -1]))
        for b in model.transformer.h
    ]
    for text in texts:
        ids, mask = encode(tokenizer, [text])
        model(input_ids=ids, attention_mask=mask)
    for hook in hooks:
        hook.remove()
    return torch.stack(rows).unflatten(0, (len(texts), -1))


def first(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]


def mean_difference(loaded: Model, fit: Sequence[Contrast]) -> Vector:
    before, after = ([getattr(c, side) for c in fit] for side in ("before", "after"))
    return (last_tokens(loaded, after) - last_tokens(loaded, before)).mean(0)


def push(v: Float[Tensor, " d"], strength: float) -> Callable[..., Tensor]:
    """Return a hook that writes as the paper's code does, keeping the norm (arXiv 2311.06668)."""

    def hook(_module: object, _inputs: object, x: Tensor) -> Tensor:
        norm, unit = x.norm(dim=-1, keepdim=True), torch.nn.functional.normalize(v, dim=-1)
        cosine = torch.nn.functional.cosine_similarity(x, unit, dim=-1)[..., None]
        pushed = x / norm + strength * (1 + (-cosine).clamp(min=0)) * unit
        return norm * torch.nn.functional.normalize(pushed, dim=-1)

    return hook


@contextmanager
def steered(model: GPT2LMHeadModel, vector: Vector, strength: float) -> Iterator[None]:
    hooks = [
        block.mlp.register_forward_hook(push(v, strength))
        for block, v in zip(model.transformer.h, vector, strict=True)
    ]
    yield
    for hook in hooks:
        hook.remove()


def log_odds(loaded: Model, held: Sequence[Contrast]) -> Float[Tensor, " prompt"]:
    """Return target against source style at the next token, in nats."""
    model, tokenizer = loaded
    log_probs = next_log_probs(model, tokenizer, [c.prompt for c in held]).double()
    sides = ("target_words", "source_words")
    target, source = (
        torch.stack(
            [
                row[word_ids(tokenizer, getattr(c, side))].logsumexp(-1)
                for row, c in zip(log_probs, held, strict=True)
            ]
        )
        for side in sides
    )
    return target - source


def shift(
    loaded: Model, held: Sequence[Contrast], vector: Vector, *, strength: float
) -> Float[Tensor, " prompt"]:
    plain = log_odds(loaded, held)
    with steered(loaded[0], vector, strength):
        return log_odds(loaded, held) - plain


@torch.no_grad()
def continuations(loaded: Model, prompts: Sequence[str], *, seed: int = 0) -> list[str]:
    """Sample 24 more tokens of each prompt; return prompts and all."""
    model, tokenizer = loaded
    ids, mask = encode(tokenizer, prompts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=24, do_sample=True, top_k=0
        )
    return [tokenizer.decode(row) for row in out.tolist()]


def fluency(family: str, texts: Sequence[str]) -> float:
    """Return the share of whole sentences that follow the grammar."""
    sentences = [f"{s}." for text in texts for s in text[: text.rfind(".")].split(". ")]
    return sum(map(corpus.grammars()[family].follows, sentences)) / len(sentences)


def choose(loaded: Model, family: str, vector: Vector) -> float:
    """Choose, on the development split, the strength that shifts most and stays fluent."""
    held = corpus.contrasts(family, "development", 32, seed=2)
    eligible = []
    for strength in STRENGTHS:
        with steered(loaded[0], vector, strength):
            fluent = fluency(family, continuations(loaded, [c.prompt for c in held]))
        if fluent >= FLUENT:
            eligible.append(
                (shift(loaded, held, vector, strength=strength).mean().item(), strength)
            )
    return max(eligible)[1]


@pytest.mark.parametrize("family", ["reviews", "styles"])
def test_the_mean_difference_steers_and_random_directions_do_not(
    loaded: Model, family: str
) -> None:
    vector = mean_difference(loaded, corpus.contrasts(family, "train", 20, seed=1))
    strength = choose(loaded, family, vector)
    held = corpus.contrasts(family, "test", 80, seed=3)
    effect = shift(loaded, held, vector, strength=strength)
    generator = torch.Generator().manual_seed(0)
    norms = vector.norm(dim=-1, keepdim=True)
    directions = (
        torch.nn.functional.normalize(
            torch.randn(RANDOM, *vector.shape, generator=generator), dim=-1
        )
        * norms
    )
    random = [shift(loaded, held, v, strength=strength).mean().item() for v in directions]
    reversed_ = shift(loaded, held, -vector, strength=strength).mean().item()
    assert effect.mean().item() >= 2, "nats"
    assert effect.mean().item() > max(map(abs, random))
    assert reversed_ < 0
    with steered(loaded[0], vector, strength):
        texts = continuations(loaded, [c.prompt for c in held])
    assert fluency(family, texts) >= STILL_FLUENT
