"""What the store holds, one frozen value per table; no behaviour beyond checking itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from jaxtyping import Integer

from store.sites import PARTS, Site, select

__all__ = [
    "PARTS", "Artifact", "Fingerprint", "Prompt", "Run", "Site", "TokenRows", "now", "select",
    "unique",
]  # fmt: skip

DTYPES: tuple[str, ...] = ("f32", "f16", "bf16")
"""How rows may be stored; bf16 travels as its bits in uint16."""


def unique() -> str:
    """Make a new identifier, a random UUID."""
    return str(uuid4())


def now() -> datetime:
    """Tell the time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Which model it was: equal fingerprints mean interchangeable activations."""

    model: str
    """Name or path, as the user gave it."""
    revision: str | None = None
    """Commit of the hub repository, when there is one."""
    weights_hash: str
    tokenizer_hash: str
    basis: str = "raw"
    """How weights were processed before running; raw is not at all."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row of provenance: a capture, and everything needed to do it again."""

    uuid: str = field(default_factory=unique)
    name: str | None = None
    """The user's name for it; need not be unique, the newest is meant."""
    fingerprint: Fingerprint
    dtype: str
    """How rows are stored: f32, f16 or bf16."""
    model_dtype: str = "float32"
    """What the model computed in."""
    code_version: str = ""
    seed: int | None = None
    why: str = ""
    """The reason, in the user's words."""
    created_at: datetime = field(default_factory=now)
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Anything else, as JSON."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"rows cannot be stored as {self.dtype!r}: choose f32, f16 or bf16")
        _check(self.uuid, self.created_at)
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed} does not fit 64 bits: choose a smaller one")
        checked_text("the name of a run", self.name or "")
        as_json("config of a run", self.config)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text that was seen."""

    text: str
    tags: tuple[str, ...] = ()
    """Labels to filter by."""
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Anything else, as JSON."""

    def __post_init__(self) -> None:
        checked_text("text of a prompt", self.text)
        for tag in self.tags:
            checked_text("tag of a prompt", tag)
        as_json("meta of a prompt", self.meta)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What a method learned: settings and provenance; its arrays are saved beside it."""

    uuid: str = field(default_factory=unique)
    name: str
    """The user's name for it; need not be unique, the newest is meant."""
    method: str
    """Where the method lives, as data: steering:ICV."""
    kind: str
    """What the arrays are: steering_vector."""
    fingerprint: Fingerprint
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    run: str | None = None
    """UUID of the run it was learned from, when there is one."""
    code_version: str = ""
    created_at: datetime = field(default_factory=now)

    def __post_init__(self) -> None:
        _check(self.uuid, self.created_at)
        checked_text("the name of an artifact", self.name)
        if not self.name:
            raise ValueError("an artifact needs a name: give one, it is how it is loaded again")
        as_json("settings of an artifact", self.settings)


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenRows:
    """Which token each row of a batch of activations belongs to; parallel, one entry per row."""

    prompt: Integer[np.ndarray, " row"]
    """Index among the prompts of the same batch; never decreasing."""
    pos: Integer[np.ndarray, " row"]
    """Absolute position in the prompt, padding not counted."""
    token_id: Integer[np.ndarray, " row"]
    token_str: Sequence[str] | np.ndarray

    def __post_init__(self) -> None:
        lengths = {
            name: len(getattr(self, name)) for name in ("prompt", "pos", "token_id", "token_str")
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"token rows must be parallel, but their lengths are {lengths}")
        if np.any(np.diff(self.prompt) < 0):
            raise ValueError("rows of one prompt must lie together: sort the rows by prompt")
        for text in self.token_str:
            checked_text("token_str", str(text))

    def __len__(self) -> int:
        return len(self.prompt)


def as_json(what: str, value: Mapping[str, Any]) -> str:
    """Print a mapping as JSON; raises ValueError when it cannot be read back the same."""
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what} must be JSON (texts, numbers, lists, mappings): {error}"
        ) from error
    return checked_text(what, text)


def checked_text(what: str, text: str) -> str:
    """Return the text; raises ValueError when it holds half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} holds a lone surrogate at character {error.start}, which no file can keep: "
            "decode the source with errors='replace'"
        ) from None
    return text


def _check(uuid: str, created_at: datetime) -> None:
    if str(UUID(uuid)) != uuid:
        raise ValueError(f"{uuid!r} is not a UUID in its usual form: leave it out to get one")
    if created_at.tzinfo is None:
        raise ValueError(f"{created_at} has no time zone: use datetime.now(UTC)")
