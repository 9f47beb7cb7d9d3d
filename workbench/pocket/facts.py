"""The family of one-hop facts.

Every fact has six templates, of which one is kept for test and one for development.
"""

from functools import cache
from random import Random

from workbench.pocket.chance import bucket, split_of, words_in
from workbench.pocket.records import Fact, Family, Question, Split
from workbench.pocket.world import TEMPLATES, Triple, triples

KEPT_PAIRINGS = 12
"""One in so many ordered pairs of templates is kept for test, and as many for development."""


def facts(split: Split) -> list[Fact]:
    """List every fact in its templates of the split: four in training, one in each other split."""
    return [fact for options in _options()[split] for fact in options]


def paired_facts(split: Split, n: int, *, seed: int = 0) -> list[Fact]:
    """Draw facts behind another fact: trained templates, in a pairing kept for the split."""
    rng = Random(f"pairs/{split}/{seed}")
    trained = facts("train")
    found: list[Fact] = []
    while len(found) < n:
        first, second = rng.choice(trained), rng.choice(trained)
        if first.subject != second.subject and pairing_split(first, second) == split:
            found.append(_behind(first, second, split))
    return found


def pairing_split(first: Fact, second: Fact) -> Split:
    """Tell which split a pair of neighbouring templates belongs to."""
    return split_of(f"{first.template}>{second.template}", KEPT_PAIRINGS)


def family() -> Family:
    """Describe the family for the registry."""
    return Family(name="facts", sample=_sample, words=_words, examine=_examine)


def _sample(rng: Random, split: Split) -> str:
    options = _options()[split]
    chosen = [rng.choice(rng.choice(options))]
    while rng.random() < 0.65 and len(chosen) < 5:
        fact = rng.choice(rng.choice(options))
        if pairing_split(chosen[-1], fact) in ("train", split):
            chosen.append(fact)
    return " ".join(fact.statement for fact in chosen)


def _words() -> frozenset[str]:
    said = [template for templates in TEMPLATES.values() for template in templates]
    named = [name for triple in triples() for name in (triple.subject, triple.object)]
    return words_in(" ".join([*said, *named]))


def _examine(split: Split, n: int, seed: int) -> list[Question]:
    every = facts(split)
    Random(f"facts/{split}/{seed}").shuffle(every)
    return [
        Question(family="facts", split=split, prompt=f.prompt, accepted=(f.answer,))
        for f in every[:n]
    ]


@cache
def _options() -> dict[Split, list[list[Fact]]]:
    """By split, the wordings of each fact."""
    found: dict[Split, list[list[Fact]]] = {"train": [], "development": [], "test": []}
    for triple in triples():
        templates = TEMPLATES[triple.relation]
        kept = bucket(f"{triple.subject}/{triple.relation}", len(templates))
        order = templates[kept:] + templates[:kept]
        parts: tuple[tuple[Split, tuple[str, ...]], ...] = (
            ("test", order[:1]),
            ("development", order[1:2]),
            ("train", order[2:]),
        )
        for split, some in parts:
            found[split].append([_fact(triple, template, split) for template in some])
    return found


def _fact(triple: Triple, template: str, split: Split) -> Fact:
    prompt = template.split(" {o}")[0].replace("{s}", triple.subject)
    return Fact(
        subject=triple.subject,
        relation=triple.relation,
        answer=triple.object,
        template=template,
        prompt=prompt,
        statement=f"{prompt} {triple.object}.",
        split=split,
    )


def _behind(first: Fact, second: Fact, split: Split) -> Fact:
    return Fact(
        subject=second.subject,
        relation=second.relation,
        answer=second.answer,
        template=second.template,
        prompt=f"{first.statement} {second.prompt}",
        statement=f"{first.statement} {second.statement}",
        split=split,
    )
