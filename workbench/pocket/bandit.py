"""The family of bandit games: two fixed arms, played by an over-confident Thompson sampler.

The imitated player doubles its counts (methods of arXiv 2406.00244 want an agent whose action
entropy collapses early). Arms are balanced: each game is as likely as its mirror image.
"""

from random import Random

from workbench.pocket.chance import split_of, words_in
from workbench.pocket.records import Family, Play, Question, Split

ARMS: tuple[str, str] = ("left", "right")
PAID: tuple[str, str] = ("fails", "pays")
HEADER = "Game:"
STEPS = 24
MEANS: tuple[tuple[float, float], ...] = ((0.5, 0.5), (0.3, 0.7), (0.4, 0.6), (0.25, 0.75))
"""Chances to pay; half of the games have them the other way round."""
CONFIDENCE = 2.0
"""What the player multiplies its counts by before it draws."""


def plays(
    split: Split, n: int, *, seed: int = 0, means: tuple[float, float] | None = None
) -> list[Play]:
    """Draw games of the split, with given chances to pay or with those of training."""
    rng = Random(f"bandit/{split}/{seed}/{means}")
    return [_play(rng, split, means) for _ in range(n)]


def mirrored(play: Play) -> Play:
    """Return the same game with the arms' names exchanged: it is matched but for its labels."""
    arms = tuple(1 - arm for arm in play.arms)
    return _said(arms, play.paid, (play.means[1], play.means[0]), play.split)


def continued(arms: tuple[int, ...], paid: tuple[bool, ...]) -> str:
    """Say a game up to the next choice."""
    said = [f"{ARMS[arm]} {PAID[win]}" for arm, win in zip(arms, paid, strict=True)]
    return " ".join([HEADER, *said])


def family() -> Family:
    """Describe the family for the registry."""
    return Family(
        name="bandit",
        sample=lambda rng, split: _play(rng, split, None).text,
        words=lambda: words_in(" ".join([HEADER, *ARMS, *PAID])),
        examine=_examine,
    )


def _play(rng: Random, split: Split, means: tuple[float, float] | None) -> Play:
    while True:
        chosen = means or rng.choice(MEANS)
        play = _game(rng, chosen if rng.random() < 0.5 else (chosen[1], chosen[0]), split)
        if split_of(continued(play.arms[:10], play.paid[:10])) == split:
            return play


def _game(rng: Random, means: tuple[float, float], split: Split) -> Play:
    arms: list[int] = []
    paid: list[bool] = []
    wins, losses = [0, 0], [0, 0]
    for _ in range(STEPS):
        drawn = [
            rng.betavariate(1 + CONFIDENCE * win, 1 + CONFIDENCE * loss)
            for win, loss in zip(wins, losses, strict=True)
        ]
        arm = int(drawn[1] > drawn[0])
        win = rng.random() < means[arm]
        (wins if win else losses)[arm] += 1
        arms.append(arm)
        paid.append(win)
    return _said(tuple(arms), tuple(paid), means, split)


def _said(
    arms: tuple[int, ...], paid: tuple[bool, ...], means: tuple[float, float], split: Split
) -> Play:
    return Play(
        arms=arms,
        paid=paid,
        means=means,
        text=f"{continued(arms, paid)}.",
        prompts=tuple(continued(arms[:step], paid[:step]) for step in range(len(arms))),
        split=split,
    )


def _examine(split: Split, n: int, seed: int) -> list[Question]:
    """Ask for the next arm where one has paid and never failed, and the other the reverse."""
    rng = Random(f"clear/{split}/{seed}")
    found: list[Question] = []
    while len(found) < n:
        arm, times = rng.randrange(2), rng.randint(2, 5)
        pulls = [(arm, True)] * times + [(1 - arm, False)] * rng.randint(2, 4)
        rng.shuffle(pulls)
        arms, paid = zip(*pulls, strict=True)
        prompt = continued(arms, paid)
        if split_of(prompt) == split:
            found.append(
                Question(family="bandit", split=split, prompt=prompt, accepted=(ARMS[arm],))
            )
    return found
