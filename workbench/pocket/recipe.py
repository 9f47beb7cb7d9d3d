"""The recipe: shape of the model, stages of the curriculum, gates. `train` carries it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workbench.pocket.corpus import MIXTURE

AIDED: Mapping[str, tuple[int, int]] = {"previous": (0, 0), "name": (0, 1), "match": (1, 0)}
"""By aid, layer and head: one head back, one to the latest name, one to the answer."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the curriculum; ends when its gates are passed or its share of tokens is used."""

    name: str
    share: float
    """Share of the token budget it may use at most."""
    rows: int = 16
    """Packed rows in a step, of the mixture's texts; may be 0 beside binding families."""
    row: int = 256
    """Tokens in a row."""
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(MIXTURE))
    """Share of the texts by family."""
    gates: Mapping[str, float] = field(default_factory=dict)
    """Development accuracy that ends the stage early, by family; none: no early end."""
    bound: Mapping[str, int] = field(default_factory=dict)
    """By binding family, documents in a step; each has a row of its own."""
    room: int = 128
    """Most tokens of such a document."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """By binding family, weight of its loss; 1 if not named. The packed rows' weight is 1."""
    aids: tuple[str, ...] = ()
    """Aids that are on: kinds of `Aim`."""
    rate: tuple[float, float] = (1.0, 1.0)
    """Learning rate at the stage's start and at its end, in multiples of the recipe's."""

    @property
    def families(self) -> tuple[str, ...]:
        """Name the families that the stage trains."""
        return (*(self.mixture if self.rows else ()), *self.bound)

    @property
    def tokens(self) -> int:
        """Return the tokens of a step, padding included."""
        return self.rows * self.row + sum(self.bound.values()) * self.room


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides a training run, but the seed."""

    tokens: int = 8_000_000
    """Budget in tokens; the schedule depends on it and never on the clock."""
    n_layers: int = 4
    d_model: int = 128
    n_heads: int = 4
    context: int = 256
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient."""
    warm_up: int = 50
    """Steps over which the learning rate rises from zero."""
    every: int = 100
    """Steps between two examinations; a checkpoint is written after each."""
    questions: int = 200
    """Development questions per family in an examination."""
    shuffled: bool = False
    """Whether to train the negative control: the same words, all structure shuffled away."""
    init: float = 0.02
    """Standard deviation of the first weights; at these widths, induction needs about 0.1."""
    half: bool = False
    """Whether matrices are multiplied in bfloat16; weights and moments stay single precision."""
    heads: Mapping[str, tuple[int, int]] = field(default_factory=lambda: dict(AIDED))
    """By aid, the layer and head whose attention is taught."""
    aid: float = 0.5
    """Weight of an aid's loss: -log of the attention paid to the position aimed for."""
    stages: tuple[Stage, ...] = ()

    @property
    def families(self) -> tuple[str, ...]:
        """Name the families of all stages; their words are the vocabulary."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.families))

    def steps(self, stage: Stage) -> int:
        """Return the most steps the stage may take."""
        return max(1, round(self.tokens * stage.share / stage.tokens))


def first_cut(tokens: int = 8_000_000, *, shuffled: bool = False) -> Recipe:
    """Return the recipe of `pocket`: the full mix until it is known, then annealing."""
    gates = {"facts": 0.99, "reviews": 0.99, "styles": 0.99, "stories": 0.95}
    stages = (
        Stage(name="learn", share=0.7, gates=gates),
        Stage(name="anneal", share=0.3, rate=(1.0, 0.02)),
    )
    return Recipe(tokens=tokens, shuffled=shuffled, stages=stages)


def bind(tokens: int = 5_500_000) -> Recipe:
    """Return the recipe of `pocket-bind`: repeats, then pairs, then passages with questions."""
    both = {"passages": 1.0, "pairs": 0.2, "repeats": 0.2}
    mixed = {"passages": 24, "pairs": 3, "repeats": 5}
    stages = (
        Stage(
            name="repeats",
            share=0.25,
            rows=0,
            bound={"repeats": 32},
            aids=("previous", "match"),
            gates={"repeats": 0.95},
        ),
        Stage(
            name="pairs",
            share=0.08,
            rows=0,
            bound={"pairs": 24, "repeats": 8},
            aids=("previous", "match"),
            gates={"pairs": 0.95},
        ),
        Stage(
            name="passages, aided",
            share=0.22,
            rows=0,
            bound=mixed,
            weights=both,
            aids=("name", "match"),
        ),
        Stage(
            name="passages",
            share=0.45,
            rows=0,
            bound=mixed,
            weights=both,
            rate=(1.0, 0.02),
        ),
    )
    return Recipe(
        tokens=tokens,
        n_layers=3,
        d_model=96,
        context=128,
        every=50,
        init=0.1,
        half=True,
        stages=stages,
    )


def play(tokens: int = 6_000_000) -> Recipe:
    """Return the recipe of `pocket-play`: facts, two hops, aliases, bandit games and entities."""
    mixture = {"facts": 0.35, "twohop": 0.1, "aliases": 0.25, "bandit": 0.12, "entities": 0.18}
    gates = {"facts": 0.99, "twohop": 0.95, "aliases": 0.99, "bandit": 0.95, "entities": 0.99}
    stages = (
        Stage(name="learn", share=0.7, rows=32, row=128, mixture=mixture, gates=gates),
        Stage(name="anneal", share=0.3, rows=32, row=128, mixture=mixture, rate=(1.0, 0.02)),
    )
    return Recipe(
        tokens=tokens,
        n_layers=3,
        d_model=96,
        context=128,
        init=0.1,
        half=True,
        stages=stages,
    )


RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "pocket": first_cut,
    "pocket-bind": bind,
    "pocket-play": play,
    "pocket-shuffled": lambda: first_cut(600_000, shuffled=True),
}
"""By name of the checkpoint, its recipe."""


def of(name: str) -> Recipe:
    """Return a checkpoint's recipe. Raises LookupError for an unknown name."""
    if name not in RECIPES:
        raise LookupError(f"no recipe {name!r}: there are {', '.join(RECIPES)}; name one of them")
    return RECIPES[name]()
