"""The recipe: shape of the model, stages of the curriculum, gates. `train` carries it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.pocket.corpus import MIXTURE


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the curriculum; ends when its gates are passed or its share of tokens is used."""

    name: str
    share: float
    """Share of the token budget it may use at most."""
    rows: int = 16
    """Rows in a step."""
    row: int = 256
    """Tokens in a row."""
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(MIXTURE))
    """Share of the texts by family."""
    gates: Mapping[str, float] = field(default_factory=dict)
    """Development accuracy that ends the stage early, by family; none: no early end."""
    rate: tuple[float, float] = (1.0, 1.0)
    """Learning rate at the stage's start and at its end, in multiples of the recipe's."""


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
    stages: tuple[Stage, ...] = ()

    def steps(self, stage: Stage) -> int:
        """Return the most steps the stage may take."""
        return max(1, round(self.tokens * stage.share / (stage.rows * stage.row)))


def first_cut(tokens: int = 8_000_000, *, shuffled: bool = False) -> Recipe:
    """Return the committed model's recipe: the full mix until it is known, then annealing."""
    gates = {"facts": 0.99, "reviews": 0.99, "styles": 0.99, "stories": 0.95}
    stages = (
        Stage(name="learn", share=0.7, gates=gates),
        Stage(name="anneal", share=0.3, rate=(1.0, 0.02)),
    )
    return Recipe(tokens=tokens, shuffled=shuffled, stages=stages)
