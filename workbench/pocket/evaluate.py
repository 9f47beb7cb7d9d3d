"""Measure a directory of pocket weights: accuracy and perplexity by family, with intervals."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from workbench.pocket import card, corpus, effects, names, path
from workbench.pocket.corpus import MIXTURE, SPLITS
from workbench.pocket.model import answers, encode
from workbench.pocket.recipe import of as recipe_of
from workbench.pocket.records import Figure, Question, Split, Text
from workbench.pocket.statistics import resampled, share


def load(directory: Path) -> tuple[GPT2LMHeadModel, Tokenizer]:
    """Load network and tokenizer from a directory; nothing is fetched."""
    model = GPT2LMHeadModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32)
    return model.eval(), Tokenizer.from_file(str(directory / "tokenizer.json"))


def measure(
    directory: Path,
    split: Split,
    *,
    families: Sequence[str] = tuple(MIXTURE),
    n: int = 600,
    seed: int = 0,
) -> list[Figure]:
    """Measure every family on at most n questions and on n // 3 texts of the split."""
    model, tokenizer = load(directory)
    asked = [corpus.questions(name, split, n, seed=seed) for name in families]
    if "facts" in families:
        asked.append(_paired(split, n, seed))
    told = [corpus.texts(n // 3, seed=seed, split=split, mixture={name: 1.0}) for name in families]
    return [
        *(accuracy(model, tokenizer, questions) for questions in asked),
        *(perplexity(model, tokenizer, texts) for texts in told),
    ]


def checked_split(name: str) -> Split:
    """Return the split of that name. Raises LookupError when there is none."""
    for split in SPLITS:
        if split == name:
            return split
    raise LookupError(f"no split {name!r}: there are {', '.join(SPLITS)}; name one of them")


def accuracy(model: GPT2LMHeadModel, tokenizer: Tokenizer, questions: Sequence[Question]) -> Figure:
    """Return the share of questions whose likeliest next token is right, with Wilson's interval."""
    name = f"accuracy, {questions[0].family}"
    return share(name, questions[0].split, answers(model, tokenizer, questions))


def perplexity(model: GPT2LMHeadModel, tokenizer: Tokenizer, texts: Sequence[Text]) -> Figure:
    """Return the perplexity per token, with a bootstrap interval over texts."""
    nats = [_surprise(model, tokenizer, text) for text in texts]
    return resampled(f"perplexity, {texts[0].family}", texts[0].split, nats, _perplexity)


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
    parser.add_argument("--name", choices=names(), default="pocket", help="which checkpoint")
    parser.add_argument("--weights", type=Path, help="directory of it; else the committed one")
    parser.add_argument("--log", type=Path, required=True, help="training log of the checkpoint")
    parser.add_argument("--seed", type=int, required=True, help="seed it was trained with")
    parser.add_argument("--rule", required=True, help="seeds tried, and the rule of choice")
    parser.add_argument("--questions", type=int, default=600, help="questions per family")
    parser.add_argument(
        "--effects", action=argparse.BooleanOptionalAction, default=True, help="try the methods"
    )
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    write_card(
        chosen.name,
        chosen.weights or path(chosen.name),
        log=card.Log(path=chosen.log, seed=chosen.seed, rule=chosen.rule),
        n=chosen.questions,
        with_effects=chosen.effects,
    )


def write_card(
    name: str, weights: Path, *, log: card.Log, n: int = 600, with_effects: bool = True
) -> Path:
    """Measure a directory of weights and write the card beside it; return the card's path."""
    recipe = recipe_of(name)
    splits: tuple[Split, ...] = ("development", "test")
    figures = [
        figure
        for split in splits
        for figure in measure(weights, split, families=recipe.families, n=n)
    ]
    if with_effects:
        net = load(weights)
        figures += [f for one in effects.of(name).values() for f in one(net, "test")]
    to = weights.parent / "card.md"
    card.write(to, weights, about=card.About(name=name, recipe=recipe, log=log), figures=figures)
    return to


if __name__ == "__main__":
    main()
