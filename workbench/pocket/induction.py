"""The families of repeats and of key-value pairs: what was said before decides what comes next."""

from random import Random

from workbench.pocket.chance import split_of, words_in
from workbench.pocket.lexicon import NAMES
from workbench.pocket.records import Aim, Family, Question, Row, Split
from workbench.pocket.world import OBJECTS

VALUES: tuple[str, ...] = tuple(value for values in OBJECTS.values() for value in values)
WORDS: tuple[str, ...] = tuple(sorted({*VALUES, *(n for some in NAMES.values() for n in some)}))
LONGEST = 120
"""Tokens of a document at most where no room is given; <bos> and <eos> fit beside it."""
SHORTEST = 4
"""Words of the shortest sequence."""
FEWEST, MOST = 2, 8
"""Pairs in a document."""
REPEATED, ELSEWHERE = 0.2, 0.02
"""Loss weight of a query asked before, and of tokens that answer nothing; a first query has 1."""


def repeats() -> Family:
    """Describe the family of random sequences said twice."""
    return Family(
        name="repeats",
        sample=lambda rng, split: repeat(rng, split, LONGEST).text,
        words=_words,
        examine=_examine_repeats,
        row=repeat,
    )


def pairs() -> Family:
    """Describe the family of key-value pairs with queries."""
    return Family(
        name="pairs",
        sample=lambda rng, split: pair_row(rng, split, LONGEST).text,
        words=_words,
        examine=_examine_pairs,
        row=pair_row,
    )


def repeat(rng: Random, split: Split, room: int) -> Row:
    """Write some words, then sequences each said twice; only the second time counts."""
    words = rng.choices(WORDS, k=rng.randint(0, 8))
    weights = [0.0] * len(words)
    aims: list[Aim] = []
    while room - len(words) >= 2 * SHORTEST:
        said = _sequence(rng, split, rng.randint(SHORTEST, min(60, (room - len(words)) // 2)))
        start, n = len(words), len(said)
        aims += [Aim(kind="match", query=start + n + i, key=start + i + 1) for i in range(1, n)]
        words += [*said, *said]
        weights += [*(0.0 for _ in range(n + 1)), *(1.0 for _ in range(n - 1))]
    aims += [Aim(kind="previous", query=at, key=at - 1) for at in range(1, len(words) + 1)]
    return Row(words=tuple(words), weights=tuple(weights), aims=tuple(aims))


def _sequence(rng: Random, split: Split, n: int) -> list[str]:
    """Draw different words, so that what follows each is certain when they are said again."""
    while True:
        said = rng.sample(WORDS, n)
        if split_of(" ".join(said[:SHORTEST])) == split:
            return said


def pair_row(rng: Random, split: Split, room: int) -> Row:
    """Write pairs, then queries drawn with replacement, as many as fit."""
    keys, values = _drawn(rng, split, rng.randint(FEWEST, MOST))
    words = [word for pair in zip(keys, values, strict=True) for word in (*pair, ".")]
    weights = [ELSEWHERE] * len(words)
    aims = [Aim(kind="previous", query=at, key=at - 1) for at in range(1, len(words) + 1)]
    asked: set[int] = set()
    while len(words) + 4 <= room:
        index = rng.randrange(len(keys))
        words += ["Query", keys[index], values[index], "."]
        weights += [0.0, 0.0, REPEATED if index in asked else 1.0, ELSEWHERE]
        aims.append(Aim(kind="match", query=len(words) - 2, key=3 * index + 2))
        asked.add(index)
    return Row(words=tuple(words), weights=tuple(weights), aims=tuple(aims))


def pair_questions(split: Split, n: int, *, pairs: int, seed: int = 0) -> list[Question]:
    """Draw first queries behind a number of pairs."""
    rng = Random(f"pairs/{split}/{pairs}/{seed}")
    return [_asked(rng, split, pairs) for _ in range(n)]


def _drawn(rng: Random, split: Split, n: int) -> tuple[list[str], list[str]]:
    """Draw different keys, and values with replacement; the first pair decides the split."""
    while True:
        keys, values = rng.sample(WORDS, n), rng.choices(WORDS, k=n)
        if split_of(f"{keys[0]} {values[0]}") == split:
            return keys, values


def _asked(rng: Random, split: Split, n: int) -> Question:
    keys, values = _drawn(rng, split, n)
    index = rng.randrange(n)
    told = " ".join(f"{key} {value}." for key, value in zip(keys, values, strict=True))
    return Question(
        family="pairs",
        split=split,
        prompt=f"{told} Query {keys[index]}",
        accepted=(values[index],),
    )


def _words() -> frozenset[str]:
    return words_in(" ".join([*WORDS, "Query"]))


def _examine_repeats(split: Split, n: int, seed: int) -> list[Question]:
    rng = Random(f"repeats/{split}/{seed}")
    return [_cut(repeat(rng, split, 64), rng, split) for _ in range(n)]


def _cut(row: Row, rng: Random, split: Split) -> Question:
    """Cut a row somewhere in its second half, from where the sequence has begun again."""
    again = [at for at, weight in enumerate(row.weights) if weight]
    at = rng.choice(again)
    return Question(
        family="repeats",
        split=split,
        prompt=" ".join(row.words[:at]),
        accepted=(row.words[at],),
    )


def _examine_pairs(split: Split, n: int, seed: int) -> list[Question]:
    return pair_questions(split, n, pairs=4, seed=seed)
