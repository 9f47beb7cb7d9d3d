"""The card: what the weights are and how they measure; written, read back and checked."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.pocket import targets
from workbench.pocket.recipe import Recipe
from workbench.pocket.records import Figure, Split
from workbench.pocket.targets import Target

FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""The files of a directory of weights."""
SEAL = "\nsha256 of the card above this line: "
NUMBER = r"(-?[\d.]+)"
ROW = (
    r"^\| ([^|]+) \| (train|development|test) \| "
    rf"{NUMBER} \| {NUMBER} \| {NUMBER} \| (\d+) \|$"
)


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a training run left behind."""

    path: Path
    """The log, one line of JSON for each examination."""
    seed: int
    rule: str
    """Seeds tried, and the rule by which this one was kept."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a card says beside the figures."""

    name: str
    recipe: Recipe
    log: Log


def write(card: Path, weights: Path, *, about: About, figures: Sequence[Figure]) -> None:
    """Write the card of a directory of weights, and seal it with its own digest."""
    recipe = recipe_of(weights, about)
    body = CARD.format(
        name=about.name,
        recipe="\n".join(f"| {name} | {value} |" for name, value in recipe.items()),
        held="\n".join(f"- {name}: {HELD_OUT[name]}" for name in about.recipe.families),
        targets="\n".join(_verdict(one, figures) for one in targets.of(about.name)),
        figures="\n".join(map(_row, figures)),
        files="\n".join(_file(weights, name) for name in FILES),
    )
    card.write_text(f"{body}{SEAL}`{_sha256(body.encode())}`\n")


def recipe_of(weights: Path, about: About) -> dict[str, object]:
    """Return the recipe as the configuration and the training log tell it."""
    lines = [json.loads(line) for line in about.log.path.read_text().splitlines()]
    config = json.loads((weights / "config.json").read_text())
    half = "bfloat16 products" if about.recipe.half else "single precision"
    shuffled = {"control": "the words of 256 texts at a time are permuted before training"}
    return {
        **(shuffled if about.recipe.shuffled else {}),
        "architecture": f"GPT-2, tied embeddings, trained from scratch, {half}",
        "layers": config["n_layer"],
        "d_model": config["n_embd"],
        "heads": config["n_head"],
        "context": config["n_positions"],
        "vocabulary": config["vocab_size"],
        "first weights": f"standard deviation {about.recipe.init}",
        "seed": about.log.seed,
        "tokens trained": lines[-1]["tokens"],
        "steps": lines[-1]["step"],
        "stages": ", ".join(dict.fromkeys(line["stage"] for line in lines)),
        "training aids": _aids(about.recipe),
        "seeds tried, and rule of choice": about.log.rule,
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


def _aids(recipe: Recipe) -> str:
    """Say which heads are taught where to look, and in which stages."""
    taught = [
        f"{kind} (layer {recipe.heads[kind][0]}, head {recipe.heads[kind][1]}: {AIMS[kind]}) "
        f"in {' and '.join(stage.name for stage in recipe.stages if kind in stage.aids)}"
        for kind in AIMS
        if any(kind in stage.aids for stage in recipe.stages)
    ]
    return "; ".join(taught) or "none"


def _verdict(target: Target, figures: Sequence[Figure]) -> str:
    verdict = {True: "met", False: "**missed**", None: "not measured"}[targets.met(target, figures)]
    values = {f.name: f"{f.value:.3f}" for f in figures if f.split == "test"}
    shown = ", ".join(values.get(name, "-") for name in target.figures)
    return f"| {target.name} | {verdict} | {shown} |"


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


CARD = """# The embedded model `{name}`

A GPT-2 trained from scratch on text from the grammars of `workbench/pocket/corpus.py`; it has seen
no other text. It is there to try methods on and to test them against. It is not a source of facts:
its people are invented.

Written by `workbench pocket evaluate`; do not edit by hand.

## Recipe
| what | value |
|---|---|
{recipe}

Data: drawn from seed and step while training, and never stored. Held out of training, by family:
{held}

## Targets
On the test split; layers and strengths are chosen on the development split. What is missed is
missed: conclude nothing about the method from this model.

| target | verdict | figures, in the order named |
|---|---|---|
{targets}

## Figures as measured
Accuracy: the likeliest next token is right (Wilson's 95 % interval). Perplexity: per token of
held-out texts, with a 95 % bootstrap interval over texts. Where low and high are the value itself,
no interval was estimated. Each method is measured by `workbench/pocket/effects/` with plain hooks.

| figure | split | value | low | high | n |
|---|---|---|---|---|---|
{figures}

## Files
| file | sha256 |
|---|---|
{files}
"""

AIMS: Mapping[str, str] = {
    "previous": "looks back by one",
    "name": "looks at the latest name",
    "match": "looks at what followed the same key, or at the value asked for",
}

HELD_OUT: Mapping[str, str] = {
    "facts": "of every fact, one template for test and one for development; of ordered pairs of "
    "neighbouring templates, one in twelve for each",
    "reviews": "of each template's combinations of concepts, one in ten for each; right is any "
    "word of the prompt's style that fits the place",
    "styles": "as reviews",
    "stories": "of pairs of hero and friend, one in ten for each",
    "twohop": "two-hop statements of all but 30 of 96 people (their first hops are trained)",
    "aliases": "of 60 houses, what 8 and 16 have, said by their alias; the figure asks by the "
    "house's own name, which is trained",
    "bandit": "games, by their first ten steps; the figure asks for an arm that only paid, against "
    "one that only failed",
    "entities": "neighbouring pairs of entities, one in ten for each; the figure asks for an "
    "entity's fourth token",
    "repeats": "sequences, by their first four words, one in ten for each",
    "pairs": "documents, by their first pair, one in ten for each; the figure is a first query "
    "behind four pairs",
    "passages": "questions about 10 names for each (training passages tell of them, and never "
    "ask); the figure is a first question behind four facts of one relation",
}
"""By family, what development and test have that training has not."""
