"""The family of entities of six tokens: the first two say which it is, the rest are shared.

A token, or a pair of neighbours, inside an entity belongs to several entities, so what comes next
can only be told by who remembers the beginning (the language of Future Lens, arXiv 2311.04897).
"""

from functools import cache
from random import Random

from workbench.pocket.chance import split_of, words_in
from workbench.pocket.lexicon import TREES
from workbench.pocket.records import Entity, Family, Question, Split

NUMBER = 60
LENGTH = 6
SECONDS = 10
"""Different second tokens; each belongs to six entities."""


@cache
def entities() -> tuple[Entity, ...]:
    """List the entities, the most frequent first (shares fall as 1 / (rank + 6))."""
    rng = Random("entities")
    shares = [1 / (rank + 6) for rank in range(NUMBER)]
    seconds = rng.sample(TREES, SECONDS)
    thirds = {second: rng.sample(TREES, 2) for second in seconds}
    firsts = {second: rng.sample(TREES, NUMBER // SECONDS) for second in seconds}
    starts = [(first, second) for second in seconds for first in firsts[second]]
    rng.shuffle(starts)
    return tuple(
        Entity(
            tokens=(*start, rng.choice(thirds[start[1]]), *rng.choices(TREES, k=LENGTH - 3)),
            share=share / sum(shares),
        )
        for start, share in zip(starts, shares, strict=True)
    )


def rows_of_entities(split: Split, n: int, *, seed: int = 0) -> list[tuple[Entity, ...]]:
    """Draw rows of entities; neighbours of test and development are never trained."""
    rng = Random(f"entities/{split}/{seed}")
    return [_row(rng, split) for _ in range(n)]


def said(row: tuple[Entity, ...]) -> str:
    """Say a row of entities."""
    return ", ".join(" ".join(entity.tokens) for entity in row) + "."


def family() -> Family:
    """Describe the family for the registry."""
    return Family(
        name="entities",
        sample=lambda rng, split: said(_row(rng, split)),
        words=lambda: words_in(" ".join(TREES)),
        examine=_examine,
    )


def _row(rng: Random, split: Split) -> tuple[Entity, ...]:
    every = entities()
    shares = [entity.share for entity in every]
    row = rng.choices(every, shares)
    length = rng.randint(3, 6)
    while len(row) < length:
        (entity,) = rng.choices(every, shares)
        if split_of(" ".join([*row[-1].tokens, *entity.tokens])) == split:
            row.append(entity)
    return tuple(row)


def _examine(split: Split, n: int, seed: int) -> list[Question]:
    """Ask for the fourth token of a row's last entity."""
    rng = Random(f"inner/{split}/{seed}")
    found = []
    for _ in range(n):
        row = _row(rng, split)
        before, last = said(row[:-1]).removesuffix("."), row[-1].tokens
        found.append(
            Question(
                family="entities",
                split=split,
                prompt=f"{before}, {' '.join(last[:3])}",
                accepted=(last[3],),
            )
        )
    return found
