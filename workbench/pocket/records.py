"""The typed records of the corpus: what its families write, and the families themselves."""

import re
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
class Alias:
    """An entity known by two names: what is trained of the one is asked of the other."""

    entity: str
    alias: str
    relation: str
    answer: str
    explicit: str
    """Prompt that names the entity; its last token is the entity's."""
    obscure: str
    """The same prompt with the alias in the entity's place."""
    split: Split
    """Split of the alias: the obscure statement is trained in "train" alone."""


@dataclass(frozen=True, kw_only=True)
class TwoHop:
    """A fact that follows from two others: where a person lives, and where that is."""

    subject: str
    bridge: str
    """The city: object of the first hop and subject of the second."""
    answer: str
    prompt: str
    first: str
    """Prompt of the first hop, whose answer is the bridge."""
    split: Split
    """Split of the subject: two-hop statements about it are trained in "train" alone."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """One game of a two-armed bandit, as an over-confident Thompson sampler plays it."""

    arms: tuple[int, ...]
    """By step, the arm pulled: 0 or 1."""
    paid: tuple[bool, ...]
    """By step, whether it paid."""
    means: tuple[float, float]
    """Each arm's chance to pay."""
    text: str
    prompts: tuple[str, ...]
    """By step, the text up to, and without, the choice."""
    split: Split


@dataclass(frozen=True, kw_only=True)
class Said:
    """One fact of a passage."""

    name: str
    relation: str
    value: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Facts that hold in this text alone, and a question about one of them."""

    facts: tuple[Said, ...]
    text: str
    """The facts, without a question."""
    about: int
    """Index of the fact asked for."""
    question: str
    """The question, up to and without the answer."""
    absent: str
    """The same question about a name that the passage does not hold: it calibrates."""
    answer: str
    split: Split


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A name of six tokens: the first two say which it is, the inner ones are shared."""

    tokens: tuple[str, ...]
    share: float
    """How often it is drawn, in parts of all."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A place that attention is taught to look at while an aid is on."""

    kind: Literal["previous", "name", "match"]
    """Back by one; to the latest name; or to what followed the same key before."""
    query: int
    """Position that looks, counted from <bos> = 0."""
    key: int
    """Position it should look at."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One document of a binding family, word by word, as training wants it."""

    words: tuple[str, ...]
    """Words and punctuation marks, each one token."""
    weights: tuple[float, ...]
    """Weight of each word's loss."""
    aims: tuple[Aim, ...]

    @property
    def text(self) -> str:
        """The document as running text."""
        return re.sub(r" ([.,:?])", r"\1", " ".join(self.words))


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
    row: Callable[[Random, Split, int], Row] | None = None
    """Writes one document of at most so many tokens for training; None: texts are packed."""


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
