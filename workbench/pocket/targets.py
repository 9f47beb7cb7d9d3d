"""What each checkpoint is meant to show; the card says which of it the figures bear out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from workbench.pocket.records import Figure

Values = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One claim about a checkpoint's figures on the test split."""

    name: str
    figures: tuple[str, ...]
    """Names of the figures it is about."""
    holds: Callable[..., bool]
    """Tells from the figures' values, in their order, whether it is met."""


def of(checkpoint: str) -> tuple[Target, ...]:
    """Return the targets of a checkpoint."""
    known: dict[str, Callable[[], tuple[Target, ...]]] = {
        "pocket": _pocket,
        "pocket-bind": _bind,
        "pocket-play": _play,
        "pocket-shuffled": _shuffled,
    }
    return known[checkpoint]()


def met(target: Target, figures: Sequence[Figure]) -> bool | None:
    """Tell whether the test figures meet a target; None when one of them was not measured."""
    values = {figure.name: figure.value for figure in figures if figure.split == "test"}
    if not all(name in values for name in target.figures):
        return None
    return target.holds(*(values[name] for name in target.figures))


def _pocket() -> tuple[Target, ...]:
    layers = tuple(
        Target(
            name=f"MLSAE, layer {layer}: FVU ≤ .10 and ≤ a third of PCA's",
            figures=(f"MLSAE, FVU, layer {layer}", f"PCA-16, FVU, layer {layer}"),
            holds=lambda fvu, pca: fvu <= 0.10 and fvu <= pca / 3,
        )
        for layer in range(4)
    )
    sharing = ("MLSAE, entropy over layers", "MLSAE, entropy over layers, layers permuted")
    return (
        _at_least("facts, one hop ≥ .98", "accuracy, facts", 0.98),
        *layers,
        Target(
            name="MLSAE: latents are tied to layers, permuted layers are not",
            figures=sharing,
            holds=lambda found, control: found < 0.9 and control > 0.95,
        ),
    )


def _bind() -> tuple[Target, ...]:
    ranked = "ICR, same-length calibration"
    controls = ("ICR, uncalibrated", "ICR, absent name", "ICR, shuffled facts")
    twice = "ICR, two facts a name"
    return (
        _at_least("first query, single relation, k=4 ≥ .90", "first query, single, k=4", 0.90),
        _at_least("first query, single relation, k=8 ≥ .75", "first query, single, k=8", 0.75),
        _at_least("ICR, recall at 1, k=8 ≥ .60", ranked, 0.60),
        Target(
            name="ICR above uncalibrated, absent-name and shuffled controls",
            figures=(ranked, *controls),
            holds=lambda found, *others: found > max(others),
        ),
        Target(
            name="ICR above words in common where each name has two facts",
            figures=(f"{twice}, same-length calibration", f"{twice}, words in common"),
            holds=lambda found, control: found > control,
        ),
        _at_least(
            "ICR ≥ .60 without the heads whose attention was taught",
            "ICR, without the heads that were aided",
            0.60,
        ),
    )


def _play() -> tuple[Target, ...]:
    lens = tuple(
        Target(
            name=f"Future Lens, N={n}: ≥ .10 above token and token-pair table",
            figures=tuple(
                f"Future Lens N={n}, {which}"
                for which in ("state", "token table", "token-pair table", "shuffled targets")
            ),
            holds=lambda state, *others: state >= max(others) + 0.10,
        )
        for n in (1, 2)
    )
    return (*_facts_of_play(), *lens, *_entropy(), *_memory())


def _facts_of_play() -> tuple[Target, ...]:
    return (
        _at_least("facts, one hop ≥ .98", "accuracy, facts", 0.98),
        Target(
            name="two-hop facts of held-out people: .3 to .6 before injection",
            figures=("accuracy, twohop",),
            holds=lambda value: 0.3 <= value <= 0.6,
        ),
    )


def _entropy() -> tuple[Target, ...]:
    plain, steered = "EAST, entropy, plain", "EAST, entropy, steered"
    kinds = ("shuffled features", "random", "shuffled entropies")
    features, random, entropies = (f"EAST, 95th percentile, {kind}" for kind in kinds)
    arms = ("EAST, left arm, plain", "EAST, left arm, steered")
    return (
        Target(
            name="EAST: entropy + .08 or more",
            figures=(plain, steered),
            holds=lambda before, after: after >= before + 0.08,
        ),
        Target(
            name="EAST: above the 95th percentile of 20 feature-shuffled and of 20 random vectors",
            figures=(steered, features, random),
            holds=lambda found, *others: found > max(others),
        ),
        Target(
            name="EAST: above the 95th percentile of 20 vectors of its norm that are fitted to "
            "shuffled entropies",
            figures=(steered, entropies),
            holds=lambda found, control: found > control,
        ),
        _at_least("EAST: valid actions ≥ .95", "EAST, valid actions, steered", 0.95),
        Target(
            name="EAST: the share of an arm shifts by ≤ .03",
            figures=arms,
            holds=lambda before, after: abs(after - before) <= 0.03,
        ),
    )


def _memory() -> tuple[Target, ...]:
    kinds = ("own name", "name of another", "random")
    closures = tuple(f"memory, gap closure, {kind}" for kind in kinds)
    return (
        _at_least("memory injection: median ratio ≥ 3", "memory, median ratio, own name", 3.0),
        Target(
            name="memory injection: gap closure above every control",
            figures=closures,
            holds=lambda own, *others: own > max(others),
        ),
    )


def _shuffled() -> tuple[Target, ...]:
    return (
        Target(
            name="the control knows no fact",
            figures=("accuracy, facts",),
            holds=lambda value: value <= 0.05,
        ),
    )


def _at_least(name: str, figure: str, least: float) -> Target:
    return Target(name=name, figures=(figure,), holds=lambda value: value >= least)
