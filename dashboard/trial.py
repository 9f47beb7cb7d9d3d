"""One steering trial: what the address of the page asks for, and what came of it. Values only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode

SCALES: dict[str, tuple[float, float, str]] = {
    "icv": (1.0, 0.05, "λ"),
    "add": (4.0, 0.1, "raw"),
    "add_relative": (1.0, 0.05, "multiples of the norm"),
}
"""For each rule: how far the slider goes on both sides, its step, and the unit of strength."""

LONGEST = 512
"""Most new tokens that a page may ask for."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a trial is made from; the address of the page holds all of it."""

    prompt: str
    vector: str
    """Name of a saved vector, or the beginning of its uuid."""
    strength: float
    max_new_tokens: int = 40
    temperature: float = 0.0
    """0 takes the likeliest token each time; above it, tokens are drawn with `seed`."""
    seed: int = 0
    """Also chooses the random direction."""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("there is no prompt: write one, the model continues it")
        if not self.vector:
            raise ValueError("there is no vector: choose one of those in the store")
        if not math.isfinite(self.strength):
            raise ValueError(f"strength {self.strength} is no finite number")
        if not 1 <= self.max_new_tokens <= LONGEST:
            raise ValueError(f"{self.max_new_tokens} new tokens: choose 1 to {LONGEST}")
        if not 0 <= self.temperature <= 5:
            raise ValueError(f"temperature {self.temperature}: choose 0 (greedy) to 5")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed {self.seed}: choose a whole number from 0 to 2³²−1")

    @classmethod
    def from_query(cls, query: str) -> "Ask | None":
        """Read a query string as `query` writes it; None when it asks for nothing.

        Raises:
            ValueError: a value is missing, or out of its range.
        """
        given = {key: values[-1] for key, values in parse_qs(query.lstrip("?")).items()}
        if not {"prompt", "vector"} & set(given):
            return None
        values = {"prompt": given.get("prompt", ""), "vector": given.get("vector", "")}
        return cls(strength=_number(given, "strength", 0.0), **values, **_options(given))

    @property
    def generation(self) -> dict[str, Any]:
        """The keywords of `Session.generate` that this asks for."""
        options: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "seed": self.seed}
        if self.temperature > 0:
            options |= {"do_sample": True, "temperature": self.temperature}
        return options


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of a text, and how much steering changed the activations at it."""

    text: str
    id: int
    position: int
    generated: bool
    change: float | None = None
    """Mean over sites of ‖Δ‖/‖x‖; None where nothing was fed, or steering does not act."""


@dataclass(frozen=True, kw_only=True)
class Act:
    """What steering did at one site."""

    site: str
    positions: int
    change: float
    """Mean ‖Δ‖/‖x‖ over positions."""
    angle: float
    """Mean angle between before and after, in degrees."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One continuation of the prompt."""

    text: str
    """The new text, without the prompt."""
    tokens: tuple[Token, ...]
    acts: tuple[Act, ...] = ()
    divergence: int | None = None
    """Position of the first token that differs: from the unsteered text's, and in the unsteered
    text itself from the steered one's; None when none does."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The same prompt unsteered, steered, and steered in a random direction of equal size."""

    ask: Ask
    model: str
    """As it was opened."""
    unit: str
    """Of the strength."""
    saved_strength: float
    """The vector's own strength, which the asked one replaced."""
    default: Column
    steered: Column
    control: Column


def query(values: Mapping[str, Any]) -> str:
    """Write the values of an ask, checked or not, as a query string; what is None is left out."""
    texts = {key: f"{v:.10g}" if isinstance(v, float) else v for key, v in values.items()}
    return "?" + urlencode({key: text for key, text in texts.items() if text is not None})


def _options(given: dict[str, str]) -> dict[str, Any]:
    whole = {name: _whole(given, name) for name in ("max_new_tokens", "seed") if name in given}
    return whole | {"temperature": _number(given, "temperature", 0.0)}


def _number(given: dict[str, str], name: str, default: float) -> float:
    try:
        return float(given.get(name, default))
    except ValueError:
        raise ValueError(f"{name}={given[name]!r} in the address is no number") from None


def _whole(given: dict[str, str], name: str) -> int:
    try:
        return int(given[name])
    except ValueError:
        raise ValueError(f"{name}={given[name]!r} in the address is no whole number") from None
