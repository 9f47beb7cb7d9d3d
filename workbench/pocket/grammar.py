"""A concept grammar with two surface styles, in either of which the same concepts can be said."""

import itertools
import re
from dataclasses import dataclass
from functools import cache
from random import Random

from workbench.pocket.chance import split_of, words_in
from workbench.pocket.records import Contrast, Family, Question, Split

Concept = tuple[tuple[str, ...], tuple[str, ...]]
"""The words a concept has in the source style, and those it has in the target style."""

FEW = 12
"""Templates with fewer combinations are in every split, lest they be missing from training."""


@dataclass(frozen=True)
class Sentence:
    """A template and, slot by slot, the concept chosen for it; it has no style yet."""

    template: str
    choice: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grammar:
    """Templates over shared nouns and styled concepts."""

    name: str
    styles: tuple[str, str]
    """The source style and the target style."""
    shared: dict[str, tuple[str, ...]]
    """Slot: words that both styles use."""
    styled: dict[str, tuple[Concept, ...]]
    """Slot: concepts, each with words of its own in either style."""
    opening: tuple[str, ...]
    body: tuple[str, ...]
    closing: tuple[str, ...]

    def plan(self, rng: Random, split: Split) -> list[Sentence]:
        """Draw the concepts of one text; every sentence is a combination of the split."""
        templates = rng.sample(self.body, rng.randint(2, 4))
        if rng.random() < 0.4:
            templates.insert(0, rng.choice(self.opening))
        if rng.random() < 0.4:
            templates.append(rng.choice(self.closing))
        sentences = _sentences(self, split)
        return [rng.choice(sentences[template]) for template in templates]

    def say(self, plan: list[Sentence], style: int, rng: Random) -> str:
        """Say the concepts in a style (0 source, 1 target)."""
        return " ".join(self._say(sentence, style, rng) for sentence in plan)

    def words(self) -> frozenset[str]:
        """Return every word the grammar can write."""
        said = " ".join([*self.opening, *self.body, *self.closing])
        nouns = " ".join(itertools.chain.from_iterable(self.shared.values()))
        return words_in(f"{said} {nouns}") | self.style_words(0) | self.style_words(1)

    def style_words(self, style: int) -> frozenset[str]:
        """Return the words that only the style uses (0 source, 1 target)."""
        return _style_words(self, style)

    def count(self, text: str) -> tuple[int, int]:
        """Count the words of the source style and of the target style in a text."""
        words = re.findall(r"[A-Za-z']+", text)
        source, target = self.style_words(0), self.style_words(1)
        return sum(word in source for word in words), sum(word in target for word in words)

    def follows(self, sentence: str) -> bool:
        """Tell whether a sentence follows a template, in whichever style or mixture of styles."""
        return any(pattern.fullmatch(sentence) for pattern in _patterns(self))

    def contrast(self, rng: Random, split: Split) -> Contrast:
        """Draw a pair that says the same in both styles, and a source-style prompt of others."""
        pair = self.plan(rng, split)
        prompt, slot = self._prompt(rng, split, 0)
        return Contrast(
            family=self.name,
            split=split,
            source=self.styles[0],
            target=self.styles[1],
            before=self.say(pair, 0, rng),
            after=self.say(pair, 1, rng),
            prompt=prompt,
            source_words=self._forms(slot, 0),
            target_words=self._forms(slot, 1),
        )

    def question(self, rng: Random, split: Split) -> Question:
        """Draw a prompt in either style; the words that keep the style are right."""
        style = rng.randrange(2)
        prompt, slot = self._prompt(rng, split, style)
        return Question(
            family=self.name, split=split, prompt=prompt, accepted=self._forms(slot, style)
        )

    def family(self) -> Family:
        """Describe the family for the registry."""
        return Family(name=self.name, sample=self._sample, words=self.words, examine=self._examine)

    def _sample(self, rng: Random, split: Split) -> str:
        return self.say(self.plan(rng, split), rng.randrange(2), rng)

    def _examine(self, split: Split, n: int, seed: int) -> list[Question]:
        rng = Random(f"{self.name}/{split}/{seed}")
        return [self.question(rng, split) for _ in range(n)]

    def _prompt(self, rng: Random, split: Split, style: int) -> tuple[str, str]:
        """Return a text cut before a styled slot that its sentence determines, and that slot."""
        while True:
            plan = self.plan(rng, split)
            last = rng.randrange(1, len(plan))
            before = self.say(plan[:last], style, rng)
            cuts = [slot for slot in _slots(plan[last].template) if slot in self.styled]
            if not cuts or not any(self.count(before)):
                continue
            slot = rng.choice(cuts)
            template = plan[last].template.split("{" + slot + "}")[0]
            part = self._say(Sentence(template, plan[last].choice), style, rng)
            if len(part.split()) > 1:
                return f"{before} {part.rstrip()}", slot

    def _say(self, sentence: Sentence, style: int, rng: Random) -> str:
        said = sentence.template
        for slot, index in zip(_slots(said), sentence.choice, strict=False):
            said = said.replace("{" + slot + "}", self._word(slot, index, style, rng))
        return said

    def _word(self, slot: str, index: int, style: int, rng: Random) -> str:
        if slot in self.shared:
            return self.shared[slot][index]
        return rng.choice(self.styled[slot][index][style])

    def _forms(self, slot: str, style: int) -> tuple[str, ...]:
        return tuple(word for concept in self.styled[slot] for word in concept[style])


@cache
def _style_words(grammar: Grammar, style: int) -> frozenset[str]:
    return frozenset(
        word for concepts in grammar.styled.values() for pair in concepts for word in pair[style]
    )


@cache
def _slots(template: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\{(\w+)\}", template))


@cache
def _sentences(grammar: Grammar, split: Split) -> dict[str, list[Sentence]]:
    """By template, the combinations of concepts that the split may say."""
    found = {}
    for template in (*grammar.opening, *grammar.body, *grammar.closing):
        sizes = [len((grammar.shared | grammar.styled)[slot]) for slot in _slots(template)]
        every = [Sentence(template, choice) for choice in itertools.product(*map(range, sizes))]
        mine = [s for s in every if split_of(f"{s.template}/{s.choice}") == split]
        found[template] = mine if len(every) >= FEW and mine else every
    return found


@cache
def _patterns(grammar: Grammar) -> list[re.Pattern[str]]:
    return [
        _pattern(grammar, template)
        for template in (*grammar.opening, *grammar.body, *grammar.closing)
    ]


def _pattern(grammar: Grammar, template: str) -> re.Pattern[str]:
    pattern = re.escape(template)
    for slot in _slots(template):
        words = grammar.shared.get(slot) or [
            w for pair in grammar.styled[slot] for forms in pair for w in forms
        ]
        pattern = pattern.replace(re.escape("{" + slot + "}"), "(?:" + "|".join(words) + ")")
    return re.compile(pattern)
