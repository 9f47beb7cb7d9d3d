"""The corpus: the registry of families, and what is drawn from them.

A new family is one more entry in `families`.
"""

from collections.abc import Iterable, Iterator, Mapping
from random import Random

from workbench.pocket import aliases as aliases_family
from workbench.pocket import bandit, induction
from workbench.pocket import entities as entities_family
from workbench.pocket import facts as facts_family
from workbench.pocket import passages as passages_family
from workbench.pocket import stories as stories_family
from workbench.pocket import twohop as twohop_family
from workbench.pocket.aliases import aliases
from workbench.pocket.bandit import mirrored, plays
from workbench.pocket.entities import entities, rows_of_entities
from workbench.pocket.facts import facts, paired_facts
from workbench.pocket.grammar import Grammar
from workbench.pocket.induction import pair_questions
from workbench.pocket.passages import passages
from workbench.pocket.records import (
    SPLITS,
    Alias,
    Contrast,
    Entity,
    Fact,
    Family,
    Passage,
    Play,
    Question,
    Row,
    Split,
    Story,
    Text,
    TwoHop,
)
from workbench.pocket.reviews import REVIEWS
from workbench.pocket.stories import stories
from workbench.pocket.styles import STYLES
from workbench.pocket.twohop import two_hops

__all__ = [
    "MIXTURE",
    "SPLITS",
    "Alias",
    "Contrast",
    "Entity",
    "Fact",
    "Family",
    "Passage",
    "Play",
    "Question",
    "Row",
    "Split",
    "Story",
    "Text",
    "TwoHop",
    "aliases",
    "contrasts",
    "entities",
    "facts",
    "families",
    "grammars",
    "mirrored",
    "pair_questions",
    "paired_facts",
    "passages",
    "plays",
    "questions",
    "row",
    "rows_of_entities",
    "stories",
    "stream",
    "texts",
    "two_hops",
    "vocabulary",
]

MIXTURE: Mapping[str, float] = {"facts": 0.4, "reviews": 0.22, "styles": 0.22, "stories": 0.16}
"""Share of the texts each family writes when nothing else is asked for."""

POOL = 256
"""Texts over which the shuffled control permutes words."""


def families() -> dict[str, Family]:
    """Return the registry: every family by name."""
    every = (
        facts_family.family(),
        REVIEWS.family(),
        STYLES.family(),
        stories_family.family(),
        twohop_family.family(),
        aliases_family.family(),
        bandit.family(),
        entities_family.family(),
        induction.repeats(),
        induction.pairs(),
        passages_family.family(),
    )
    return {family.name: family for family in every}


def grammars() -> dict[str, Grammar]:
    """Return the two-style grammars by family name."""
    return {grammar.name: grammar for grammar in (REVIEWS, STYLES)}


def stream(
    seed: int | str,
    mixture: Mapping[str, float] = MIXTURE,
    *,
    split: Split = "train",
    shuffled: bool = False,
) -> Iterator[Text]:
    """Draw texts without end; the same seed gives the same texts.

    With `shuffled`, words are permuted across pools of 256 texts: each word stays as frequent and
    each text as long, and no order, fact or style is left. Raises LookupError for a family that
    is not registered.
    """
    texts = _stream(Random(f"stream/{split}/{seed}"), mixture, split)
    return _shuffle(texts, Random(f"shuffle/{split}/{seed}")) if shuffled else texts


def texts(
    n: int, *, seed: int = 0, split: Split = "train", mixture: Mapping[str, float] = MIXTURE
) -> list[Text]:
    """Draw n texts of the split."""
    drawn = stream(seed, mixture, split=split)
    return [next(drawn) for _ in range(n)]


def contrasts(family: str, split: Split, n: int, *, seed: int = 0) -> list[Contrast]:
    """Draw pairs in the two styles of "reviews" or "styles", each with a source-style prompt."""
    known = grammars()
    if family not in known:
        raise LookupError(
            f"no contrasts in family {family!r}: there are {', '.join(known)}; name one of them"
        )
    rng = Random(f"contrasts/{family}/{split}/{seed}")
    return [known[family].contrast(rng, split) for _ in range(n)]


def questions(family: str, split: Split, n: int, *, seed: int = 0) -> list[Question]:
    """Draw questions that measure accuracy on a family."""
    return _family(family).examine(split, n, seed)


def row(family: str, rng: Random, room: int) -> Row:
    """Draw one training document of a binding family: repeats, pairs or passages."""
    write = _family(family).row
    if write is None:
        raise LookupError(f"no rows in family {family!r}: its texts are packed; use `stream`")
    return write(rng, "train", room)


def vocabulary(names: Iterable[str] | None = None) -> list[str]:
    """Return every word that the named families, or all of them, can write, sorted."""
    chosen = families() if names is None else names
    return sorted(frozenset().union(*(_family(name).words() for name in chosen)))


def _family(name: str) -> Family:
    known = families()
    if name not in known:
        raise LookupError(f"no family {name!r}: there are {', '.join(known)}; name one of them")
    return known[name]


def _stream(rng: Random, mixture: Mapping[str, float], split: Split) -> Iterator[Text]:
    members = [_family(name) for name in mixture]
    weights = list(mixture.values())
    while True:
        family = rng.choices(members, weights)[0]
        yield Text(text=family.sample(rng, split), family=family.name, split=split)


def _shuffle(source: Iterator[Text], rng: Random) -> Iterator[Text]:
    while True:
        pool = [next(source) for _ in range(POOL)]
        words = [word for text in pool for word in text.text.split()]
        rng.shuffle(words)
        drawn = iter(words)
        for text in pool:
            said = " ".join(next(drawn) for _ in text.text.split())
            yield Text(text=said, family=text.family, split=text.split)
