"""The family of two-hop facts: the country of a person's city, trained for a few people."""

from functools import cache
from random import Random

from workbench.pocket.chance import bucket, words_in
from workbench.pocket.records import SPLITS, Family, Question, Split, TwoHop
from workbench.pocket.world import TEMPLATES, triples

HOPS: tuple[str, ...] = ("The country where {s} lives is {o}.", "{s} pays taxes in {o}.")
TRAINED = 30
"""People whose two-hop statements are trained; with more, every held-out one is known too."""
DEVELOPMENT = 18
"""People kept for development; all others are kept for test."""


def two_hops(split: Split) -> list[TwoHop]:
    """List the two-hop facts of the split's people, in each wording."""
    return list(_every()[split])


def family() -> Family:
    """Describe the family for the registry."""
    return Family(name="twohop", sample=_sample, words=_words, examine=_examine)


@cache
def _every() -> dict[Split, tuple[TwoHop, ...]]:
    lives = {t.subject: t.object for t in triples() if t.relation == "city"}
    lies = {t.subject: t.object for t in triples() if t.relation == "country"}
    order = sorted(lives, key=lambda person: (bucket(f"twohop/{person}", 9973), person))
    ends = (0, TRAINED, TRAINED + DEVELOPMENT, len(order))
    return {
        split: tuple(
            _hop(person, lives[person], lies[lives[person]], template, split)
            for person in order[start:stop]
            for template in HOPS
        )
        for split, start, stop in zip(SPLITS, ends, ends[1:], strict=False)
    }


def _hop(person: str, city: str, country: str, template: str, split: Split) -> TwoHop:
    return TwoHop(
        subject=person,
        bridge=city,
        answer=country,
        prompt=template.removesuffix(" {o}.").replace("{s}", person),
        first=TEMPLATES["city"][0].removesuffix(" {o}.").replace("{s}", person),
        split=split,
    )


def _sample(rng: Random, split: Split) -> str:
    chosen = rng.sample(_every()[split], rng.randint(1, 4))
    return " ".join(f"{hop.prompt} {hop.answer}." for hop in chosen)


def _words() -> frozenset[str]:
    every = [hop for split in SPLITS for hop in _every()[split]]
    return words_in(" ".join(f"{hop.prompt} {hop.answer}" for hop in every))


def _examine(split: Split, n: int, seed: int) -> list[Question]:
    every = two_hops(split)
    Random(f"twohop/{split}/{seed}").shuffle(every)
    return [
        Question(family="twohop", split=split, prompt=hop.prompt, accepted=(hop.answer,))
        for hop in every[:n]
    ]
