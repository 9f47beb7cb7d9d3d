"""The family of plain short stories: who was met comes back by name. Knows no model."""

from random import Random

from workbench.pocket.chance import listed, split_of, words_in
from workbench.pocket.records import Family, Question, Split, Story

ANIMALS: tuple[str, ...] = listed(
    "fox bear rabbit mouse frog wolf goat hen "
    "duck crow deer squirrel badger hedgehog turtle sparrow"
)
TIMES: tuple[str, ...] = ("One day", "One morning", "Last night", "Early in spring", "Long ago")
PLACES: tuple[str, ...] = listed("forest hill lake meadow valley village")
TROUBLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hungry": (("nuts", "berries", "corn", "carrots"), ("full", "merry")),
    "thirsty": (("water", "milk", "juice"), ("well", "merry")),
    "freezing": (("wool", "straw", "leaves"), ("cosy", "thankful")),
    "wounded": (("herbs", "balm"), ("well", "thankful")),
}
"""Trouble: what helps, and how one feels afterwards."""
MEETINGS: tuple[str, ...] = (
    "There it met a {friend}.",
    "On the way, it saw a {friend}.",
    "It found a {friend} under a tree.",
)
GIFTS: tuple[str, ...] = (
    "So the {hero} gave the {friend} some {gift}.",
    "The {hero} quickly brought the {friend} some {gift}.",
)
ENDINGS: tuple[str, ...] = (
    "They became friends.",
    "Then they walked to the {place} together.",
    "After that, they sang until night.",
)


def stories(split: Split, n: int, *, seed: int = 0) -> list[Story]:
    """Draw stories whose pair of hero and friend belongs to the split."""
    rng = Random(f"stories/{split}/{seed}")
    return [_story(rng, split) for _ in range(n)]


def family() -> Family:
    """Describe the family for the registry."""
    return Family(
        name="stories",
        sample=lambda rng, split: _story(rng, split).text,
        words=_words,
        examine=_examine,
    )


def _story(rng: Random, split: Split) -> Story:
    hero, friend = rng.sample(ANIMALS, 2)
    while split_of(f"{hero}/{friend}") != split:
        hero, friend = rng.sample(ANIMALS, 2)
    trouble = rng.choice(list(TROUBLES))
    gifts, moods = TROUBLES[trouble]
    place = rng.choice(PLACES)
    lines = [
        f"{rng.choice(TIMES)}, a {hero} went to the {place}.",
        rng.choice(MEETINGS),
        f"The {friend} was {trouble}." if rng.random() < 0.8 else f"It was {trouble}.",
        rng.choice(GIFTS),
        f"Then the {friend} was {rng.choice(moods)}.",
        rng.choice(ENDINGS),
    ]
    names = {"hero": hero, "friend": friend, "gift": rng.choice(gifts), "place": place}
    said = [line.format_map(names) for line in lines]
    start = " ".join([*said[:3], lines[3].split(" {friend}")[0].format_map(names)])
    return Story(text=" ".join(said), prompt=start, answer=friend, split=split)


def _words() -> frozenset[str]:
    troubles = [
        word for trouble, pair in TROUBLES.items() for word in (trouble, *pair[0], *pair[1])
    ]
    frames = "a went to the . The was . It was . Then the was"
    return words_in(
        " ".join([*ANIMALS, *TIMES, *PLACES, *MEETINGS, *GIFTS, *ENDINGS, *troubles, frames])
    )


def _examine(split: Split, n: int, seed: int) -> list[Question]:
    return [
        Question(family="stories", split=split, prompt=story.prompt, accepted=(story.answer,))
        for story in stories(split, n, seed=seed)
    ]
