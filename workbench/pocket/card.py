"""The card: what the weights are and how they measure; written, read back and checked."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.pocket.records import Figure, Split

FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""The files of a directory of weights."""
SEAL = "\nsha256 of the card above this line: "
ROW = r"^\| ([^|]+) \| (train|development|test) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$"


def write(
    card: Path, weights: Path, *, recipe: Mapping[str, object], figures: Sequence[Figure]
) -> None:
    """Write the card of a directory of weights, and seal it with its own digest."""
    body = CARD.format(
        recipe="\n".join(f"| {name} | {value} |" for name, value in recipe.items()),
        figures="\n".join(map(_row, figures)),
        files="\n".join(_file(weights, name) for name in FILES),
    )
    card.write_text(f"{body}{SEAL}`{_sha256(body.encode())}`\n")


def recipe_of(weights: Path, log: Path, *, seed: int, rule: str) -> dict[str, object]:
    """Return the recipe as the configuration and the training log tell it."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    config = json.loads((weights / "config.json").read_text())
    return {
        "architecture": "GPT-2, tied embeddings, trained from scratch in single precision",
        "layers": config["n_layer"],
        "d_model": config["n_embd"],
        "heads": config["n_head"],
        "context": config["n_positions"],
        "vocabulary": config["vocab_size"],
        "seed": seed,
        "tokens trained": lines[-1]["tokens"],
        "steps": lines[-1]["step"],
        "stages": ", ".join(dict.fromkeys(line["stage"] for line in lines)),
        "rule for the checkpoint kept": rule,
    }


def figures(card: Path) -> list[Figure]:
    """Read the figures back from a card."""
    return [_figure(*row) for row in re.findall(ROW, card.read_text(), re.MULTILINE)]


def problems(card: Path, weights: Path) -> list[str]:
    """List what is wrong: the card altered since it was written, or files it does not describe."""
    text = card.read_text()
    body, _, seal = text.rpartition(SEAL)
    sealed = seal.strip("`\n") == _sha256(body.encode())
    found = [] if sealed else ["the card was altered after it was written"]
    for name in FILES:
        if _file(weights, name) not in text:
            found.append(f"{name} is not the file the card describes: write the card again")
    return found


def _figure(name: str, split: Split, value: str, low: str, high: str, n: str) -> Figure:
    return Figure(
        name=name, split=split, value=float(value), low=float(low), high=float(high), n=int(n)
    )


def _row(figure: Figure) -> str:
    numbers = f"{figure.value:.4f} | {figure.low:.4f} | {figure.high:.4f}"
    return f"| {figure.name} | {figure.split} | {numbers} | {figure.n} |"


def _file(weights: Path, name: str) -> str:
    return f"| {name} | `{_sha256((weights / name).read_bytes())}` |"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


CARD = """# The pocket model

A GPT-2 trained from scratch on text from the grammars of `workbench/pocket/corpus.py`; it has seen
no other text. It is there to try methods on and to test them against. It is not a source of facts:
its people are invented.

Written by `python -m workbench.pocket.evaluate`; do not edit by hand.

## Recipe
| what | value |
|---|---|
{recipe}

Data: the families facts, reviews, styles and stories, drawn from seed and step while training and
never stored. Held out: of every fact, one template for test and one for development (the other four
are trained); one in twelve ordered pairs of fact templates for each; one in ten concept
combinations of each review and style template for each; one in ten (hero, friend) pairs of the
stories for each.

## Figures as measured
Accuracy: the likeliest next token is right (Wilson's 95 % interval). Right for reviews and styles
is any word of the prompt's style that fits the place. Perplexity: per token of held-out texts, with
a 95 % bootstrap interval over texts.

| figure | split | value | low | high | n |
|---|---|---|---|---|---|
{figures}

## Not trained for yet
This first cut has only the families above, and of the methods only in-context vectors have a family
of their own. EAST (bandit), MLSAE, Future Lens (entities of several tokens), ICR (passages and
questions) and memory injection (two-hop facts, aliases) are not trained for yet: conclude nothing
about them from this model.

## Files
| file | sha256 |
|---|---|
{files}
"""
