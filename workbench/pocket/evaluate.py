"""Measure a directory of pocket weights: accuracy and perplexity by family, with intervals."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from workbench.pocket import card, corpus, path
from workbench.pocket.model import answers, encode
from workbench.pocket.records import Figure, Question, Split, Text

Z = 1.959964
"""Normal quantile of a 95 % interval."""
RESAMPLES = 1000
"""Draws of a bootstrap."""


def load(directory: Path) -> tuple[GPT2LMHeadModel, Tokenizer]:
    """Load network and tokenizer from a directory; nothing is fetched."""
    model = GPT2LMHeadModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32)
    return model.eval(), Tokenizer.from_file(str(directory / "tokenizer.json"))


def measure(directory: Path, split: Split, *, n: int = 600, seed: int = 0) -> list[Figure]:
    """Measure every family on at most n questions and on n // 3 texts of the split."""
    model, tokenizer = load(directory)
    asked = [corpus.questions(name, split, n, seed=seed) for name in corpus.families()]
    told = [
        corpus.texts(n // 3, seed=seed, split=split, mixture={name: 1.0})
        for name in corpus.families()
    ]
    return [
        *(accuracy(model, tokenizer, questions) for questions in asked),
        accuracy(model, tokenizer, _paired(split, n, seed)),
        *(perplexity(model, tokenizer, texts) for texts in told),
    ]


def accuracy(model: GPT2LMHeadModel, tokenizer: Tokenizer, questions: Sequence[Question]) -> Figure:
    """Return the share of questions whose likeliest next token is right, with Wilson's interval."""
    right, n = sum(answers(model, tokenizer, questions)), len(questions)
    low, high = wilson(right, n)
    name, split = f"accuracy, {questions[0].family}", questions[0].split
    return Figure(name=name, split=split, value=right / n, low=low, high=high, n=n)


def perplexity(model: GPT2LMHeadModel, tokenizer: Tokenizer, texts: Sequence[Text]) -> Figure:
    """Return the perplexity per token, with a bootstrap interval over texts."""
    nats = [_surprise(model, tokenizer, text) for text in texts]
    rng = Random(0)
    draws = sorted(_perplexity(rng.choices(nats, k=len(nats))) for _ in range(RESAMPLES))
    return Figure(
        name=f"perplexity, {texts[0].family}",
        split=texts[0].split,
        value=_perplexity(nats),
        low=draws[int(0.025 * RESAMPLES)],
        high=draws[int(0.975 * RESAMPLES)],
        n=len(nats),
    )


def wilson(k: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of k right among n."""
    centre = (k + Z * Z / 2) / (n + Z * Z)
    spread = Z / (n + Z * Z) * math.sqrt(k * (n - k) / n + Z * Z / 4)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def _paired(split: Split, n: int, seed: int) -> list[Question]:
    return [
        Question(
            family="facts behind a fact", split=split, prompt=fact.prompt, accepted=(fact.answer,)
        )
        for fact in corpus.paired_facts(split, n, seed=seed)
    ]


def _perplexity(nats: Sequence[tuple[float, int]]) -> float:
    return math.exp(sum(total for total, _ in nats) / sum(n for _, n in nats))


@torch.no_grad()
def _surprise(model: GPT2LMHeadModel, tokenizer: Tokenizer, text: Text) -> tuple[float, int]:
    """Return a text's surprise in nats, and its number of tokens."""
    ids, mask = encode(tokenizer, [text.text])
    logits: Float[Tensor, "pos d_vocab"] = model(input_ids=ids, attention_mask=mask).logits[0, :-1]
    chosen = logits.double().log_softmax(-1).gather(1, ids[0, 1:, None])
    return -chosen.sum().item(), len(chosen)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: measure the weights and write their card beside them."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.pocket.evaluate", description=__doc__
    )
    parser.add_argument("--weights", type=Path, default=path())
    parser.add_argument("--log", type=Path, required=True, help="training log of the checkpoint")
    parser.add_argument("--seed", type=int, required=True, help="seed it was trained with")
    parser.add_argument("--rule", required=True, help="rule by which the checkpoint was kept")
    parser.add_argument("--questions", type=int, default=600, help="questions per family")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    splits: tuple[Split, ...] = ("development", "test")
    figures = [f for split in splits for f in measure(chosen.weights, split, n=chosen.questions)]
    recipe = card.recipe_of(chosen.weights, chosen.log, seed=chosen.seed, rule=chosen.rule)
    card.write(chosen.weights.parent / "card.md", chosen.weights, recipe=recipe, figures=figures)


if __name__ == "__main__":
    main()
