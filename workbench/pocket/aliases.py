"""The family of aliases: houses with two names; of some aliases only the alias itself is told."""

from functools import cache
from random import Random

from workbench.pocket.chance import bucket, words_in
from workbench.pocket.lexicon import ALIASES, EMBLEMS, ENTITIES
from workbench.pocket.records import SPLITS, Alias, Family, Question, Split

STATEMENT = "{relation} of {name}"
"""Names come last, so that the answer follows the name (the design that memory injection needs)."""
TRAINED, DEVELOPMENT = 36, 8
"""Aliases whose own statements are trained, and aliases kept for development; 16 are for test."""


def aliases(split: Split) -> list[Alias]:
    """List, for every alias of the split and every relation, the two prompts and the answer."""
    return list(_every()[split])


def family() -> Family:
    """Describe the family for the registry."""
    return Family(name="aliases", sample=_sample, words=_words, examine=_examine)


@cache
def _every() -> dict[Split, tuple[Alias, ...]]:
    order = sorted(
        range(len(ENTITIES)), key=lambda index: (bucket(f"alias/{ALIASES[index]}", 9973), index)
    )
    ends = (0, TRAINED, TRAINED + DEVELOPMENT, len(order))
    return {
        split: tuple(_alias(i, relation, split) for i in order[start:stop] for relation in EMBLEMS)
        for split, start, stop in zip(SPLITS, ends, ends[1:], strict=False)
    }


def _alias(index: int, relation: str, split: Split) -> Alias:
    values = EMBLEMS[relation]
    said = relation.capitalize()
    return Alias(
        entity=ENTITIES[index],
        alias=ALIASES[index],
        relation=relation,
        answer=values[_drawn(relation)[index]],
        explicit=STATEMENT.format(relation=said, name=ENTITIES[index]),
        obscure=STATEMENT.format(relation=said, name=ALIASES[index]),
        split=split,
    )


@cache
def _drawn(relation: str) -> tuple[int, ...]:
    """By house, the number of its value; each value is drawn equally often."""
    n = len(EMBLEMS[relation])
    numbers = [index % n for index in range(len(ENTITIES))]
    Random(f"emblems/{relation}").shuffle(numbers)
    return tuple(numbers)


def _sample(rng: Random, split: Split) -> str:
    return " ".join(_statement(rng, split) for _ in range(rng.randint(2, 5)))


def _statement(rng: Random, split: Split) -> str:
    """Say a house's emblem by its own name, by an alias of the split, or tell the alias."""
    which = rng.random()
    one = rng.choice(_every()[rng.choice(SPLITS) if which < 0.6 else split])
    if which < 0.4:
        return f"{one.explicit} {one.answer}."
    if which < 0.6:
        return f"Alias of {one.alias} {one.entity}."
    return f"{one.obscure} {one.answer}."


def _words() -> frozenset[str]:
    every = [one for split in SPLITS for one in _every()[split]]
    said = " ".join(f"{one.explicit} {one.obscure} {one.answer}" for one in every)
    values = " ".join(value for values in EMBLEMS.values() for value in values)
    return words_in(f"Alias of {said} {values}")


def _examine(split: Split, n: int, seed: int) -> list[Question]:
    """Ask by the house's own name, which is trained for all; `aliases` has the obscure prompts."""
    every = aliases(split)
    Random(f"aliases/{split}/{seed}").shuffle(every)
    return [
        Question(family="aliases", split=split, prompt=one.explicit, accepted=(one.answer,))
        for one in every[:n]
    ]
