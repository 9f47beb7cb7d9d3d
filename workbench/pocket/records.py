"""The typed records of the corpus: texts, questions, facts, contrasts, stories, families."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

Split = Literal["train", "development", "test"]
SPLITS: tuple[Split, ...] = ("train", "development", "test")


@dataclass(frozen=True, kw_only=True)
class Text:
    """One text of the corpus."""

    text: str
    family: str
    """Name of the family that wrote it, ready to be used as a tag."""
    split: Split


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt whose next token is right when it is one of the accepted words."""

    family: str
    split: Split
    prompt: str
    """Text without a trailing space."""
    accepted: tuple[str, ...]
    """Words, each one token, any of which is right as the next token."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact of the world in one template."""

    subject: str
    relation: str
    answer: str
    """The object: one word and one token."""
    template: str
    prompt: str
    """The statement up to, and without, the answer."""
    statement: str
    """The whole statement with its full stop."""
    split: Split


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Concepts said in two styles, and another prompt whose next word differs by style."""

    family: str
    split: Split
    source: str
    """Name of the style steered away from."""
    target: str
    """Name of the style steered towards."""
    before: str
    """The concepts in the source style; ends in the same token as `after`."""
    after: str
    """The same concepts in the target style."""
    prompt: str
    """Source-style text of other concepts, cut before a word that depends on the style."""
    source_words: tuple[str, ...]
    """Every word the source style has for the next place, each one token."""
    target_words: tuple[str, ...]
    """Every word the target style has for the next place, each one token."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """A short story and the place in it where a character met earlier is named again."""

    text: str
    prompt: str
    answer: str
    split: Split


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of text: all that training, evaluation and the tokenizer need to know about it."""

    name: str
    sample: Callable[[Random, Split], str]
    """Writes one text of the split."""
    words: Callable[[], frozenset[str]]
    """Every word the family can write; each becomes one token."""
    examine: Callable[[Split, int, int], list[Question]]
    """Questions of the split: (split, how many, seed)."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number with its 95 % interval."""

    name: str
    split: Split
    value: float
    low: float
    high: float
    n: int
    """Questions, or texts, it was measured on."""
