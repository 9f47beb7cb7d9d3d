"""The family of passages with questions: facts that hold in one text alone, and are asked for."""

from random import Random

from workbench.pocket.chance import words_in
from workbench.pocket.induction import ELSEWHERE, FEWEST, LONGEST, MOST, REPEATED
from workbench.pocket.lexicon import NAMES
from workbench.pocket.records import Aim, Family, Passage, Question, Row, Said, Split
from workbench.pocket.world import OBJECTS

TOLD: dict[str, tuple[str, ...]] = {
    "city": ("{s} lives in {o} .", "{s} has a home in {o} .", "{s} moved to {o} ."),
    "job": ("{s} works as a {o} .", "{s} became a {o} .", "{s} earns money as a {o} ."),
    "instrument": ("{s} plays the {o} .", "{s} practises the {o} .", "{s} bought a {o} ."),
    "food": ("{s} likes {o} .", "{s} loves to eat {o} .", "{s} cooks {o} ."),
    "colour": ("{s} wears {o} .", "{s} dresses in {o} .", "{s} chose {o} ."),
}
"""By relation, how passages say it."""
ASKED: dict[str, str] = {
    "city": "Question : Which city is the address of {s} ? Answer :",
    "job": "Question : What is the trade of {s} ? Answer :",
    "instrument": "Question : Which instrument belongs to {s} ? Answer :",
    "food": "Question : What is on the plate of {s} ? Answer :",
    "colour": "Question : Which colour is the coat of {s} ? Answer :",
}
"""By relation, how it is asked for; no word but the name is shared with what was told."""
EVERYONE: tuple[str, ...] = tuple(name for names in NAMES.values() for name in names)
CLOZE = 0.25
"""Share of questions asked by beginning a sentence of the passage's kind again."""


def passages(
    split: Split, n: int, *, facts: int, seed: int = 0, kind: str = "single"
) -> list[Passage]:
    """Draw passages of so many facts with one question each.

    In a "single" passage all facts are of one relation and of different names; in a "double" one
    each name has two facts, so that finding the name does not find the fact (`facts` is even).
    """
    rng = Random(f"passages/{split}/{facts}/{kind}/{seed}")
    return [_passage(rng, split, _tell(rng, NAMES[split], facts, kind)) for _ in range(n)]


def row(rng: Random, split: Split, room: int) -> Row:
    """Write a passage and then questions drawn with replacement, as many as fit.

    Passages of training tell of every name, and ask about the names of training alone.
    """
    kind = rng.choices(("single", "double", "mixed"), (0.5, 0.25, 0.25))[0]
    names = EVERYONE if split == "train" else NAMES[split]
    told = _tell(rng, names, 2 * rng.randint(FEWEST // 2, MOST // 2), kind)
    if kind != "double" and rng.random() < 0.4:
        told = told[:-1]
    document = _Document(told, split)
    while document.askable and document.ask(rng, room):
        pass
    return Row(
        words=tuple(document.words),
        weights=tuple(document.weights),
        aims=tuple(document.aims),
    )


def family() -> Family:
    """Describe the family for the registry."""
    return Family(
        name="passages",
        sample=lambda rng, split: row(rng, split, LONGEST).text,
        words=_words,
        examine=_examine,
        row=row,
    )


def question(relation: str, name: str) -> str:
    """Ask for what somebody has in a relation."""
    return _joined(ASKED[relation].replace("{s}", name))


class _Document:
    """A passage under writing, with the loss weights and the aims of its words."""

    def __init__(self, told: tuple[Said, ...], split: Split) -> None:
        self.told = told
        mine = NAMES[split]
        self.askable = [at for at, said in enumerate(told) if said.name in mine]
        self.words: list[str] = []
        self.weights: list[float] = []
        self.aims: list[Aim] = []
        self.values: list[int] = []
        self.asked: set[int] = set()
        for said in told:
            words = said.sentence.split()
            self.values.append(len(self.words) + words.index(said.value) + 1)
            self._write(words, said.name)

    def ask(self, rng: Random, room: int) -> bool:
        """Add a question and its answer; tell whether it fitted."""
        index = rng.choice(self.askable)
        said = self.told[index]
        start = ASKED[said.relation].split()
        if rng.random() < CLOZE:
            start = rng.choice(TOLD[said.relation]).split()[:-2]
        words = [said.name if word == "{s}" else word for word in start]
        if len(self.words) + len(words) + 2 > room:
            return False
        self._write([*words, said.value, "."], said.name)
        self.weights[-2] = REPEATED if index in self.asked else 1.0
        self.aims.append(Aim(kind="match", query=len(self.words) - 2, key=self.values[index]))
        self.asked.add(index)
        return True

    def _write(self, words: list[str], name: str) -> None:
        start = len(self.words) + 1
        place = start + words.index(name)
        self.aims += [
            Aim(kind="name", query=at, key=place) for at in range(place, start + len(words))
        ]
        self.words += words
        self.weights += [ELSEWHERE] * len(words)


def _tell(rng: Random, known: tuple[str, ...], n: int, kind: str) -> tuple[Said, ...]:
    """Draw facts in random order: of one relation, of two per name, or of any."""
    relations = list(TOLD)
    if kind == "double":
        names = [name for name in rng.sample(known, n // 2) for _ in range(2)]
        about = [r for _ in range(n // 2) for r in rng.sample(relations, 2)]
    else:
        names = rng.sample(known, n)
        about = rng.choices(relations, k=n) if kind == "mixed" else [rng.choice(relations)] * n
    told = [_said(rng, name, relation) for name, relation in zip(names, about, strict=True)]
    rng.shuffle(told)
    return tuple(told)


def _said(rng: Random, name: str, relation: str) -> Said:
    value = rng.choice(OBJECTS[relation])
    sentence = rng.choice(TOLD[relation]).replace("{s}", name).replace("{o}", value)
    return Said(name=name, relation=relation, value=value, sentence=sentence)


def _passage(rng: Random, split: Split, told: tuple[Said, ...]) -> Passage:
    about = rng.randrange(len(told))
    held = {said.name for said in told}
    absent = rng.choice([name for name in NAMES[split] if name not in held])
    relation = told[about].relation
    return Passage(
        facts=told,
        text=" ".join(_joined(said.sentence) for said in told),
        about=about,
        question=question(relation, told[about].name),
        absent=question(relation, absent),
        answer=told[about].value,
        split=split,
    )


def _joined(words: str) -> str:
    return words.replace(" .", ".").replace(" :", ":").replace(" ?", "?")


def _words() -> frozenset[str]:
    values = [value for values in OBJECTS.values() for value in values]
    told = [template for templates in TOLD.values() for template in templates]
    return words_in(" ".join([*EVERYONE, *values, *told, *ASKED.values()]))


def _examine(split: Split, n: int, seed: int) -> list[Question]:
    return [
        Question(
            family="passages",
            split=split,
            prompt=f"{passage.text} {passage.question}",
            accepted=(passage.answer,),
        )
        for passage in passages(split, n, facts=4, seed=seed)
    ]
