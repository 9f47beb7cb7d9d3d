"""What methods learn, saved and loaded by name without the workbench knowing any method."""

import pkgutil
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, runtime_checkable

import numpy as np

from store import Artifact, Fingerprint


@runtime_checkable
class Savable(Protocol):
    """An artifact: arrays and settings, and the fingerprint of the model they belong to."""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The model it was learned on."""
        ...

    def to_record(self) -> tuple[str, Mapping[str, Any], Mapping[str, np.ndarray]]:
        """Return the method's name, the settings as JSON values, and the arrays."""
        ...

    @classmethod
    def from_record(
        cls,
        method: str,
        settings: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        fingerprint: Fingerprint,
    ) -> Any:
        """Rebuild the artifact from what `to_record` gave."""
        ...


def kind_of(value: Savable) -> str:
    """Return the name under which a class is found again: `steering.vector:SteeringVector`."""
    return f"{type(value).__module__}:{type(value).__qualname__}"


def resolve(name: str, allowed: tuple[str, ...] = ("steering", "probes")) -> Any:
    """Import the thing a file names, if it lives in one of the allowed packages.

    Raises:
        LookupError: the name points elsewhere, or at nothing.
    """
    if not re.fullmatch(rf"({'|'.join(allowed)})(\.[a-z][a-z_]*)*:[A-Za-z]+", name):
        raise LookupError(
            f"{name!r} is not allowed: names look like {allowed[0]}:ICV and lie in "
            f"{', '.join(allowed)}"
        )
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"there is no {name}: {error}") from error
    # What a module has merely imported, such as torch, is reachable under its name too.
    home = getattr(found, "__module__", "")
    if home.split(".")[0] not in allowed:
        raise LookupError(f"{name!r} is not allowed: it is not defined in {', '.join(allowed)}")
    return found


def record(name: str, value: Savable) -> tuple[Artifact, Mapping[str, np.ndarray]]:
    """Turn an artifact into its row of provenance and its arrays.

    Raises:
        TypeError: the value is no artifact.
        ValueError: it does not say which model it belongs to.
    """
    if not isinstance(value, Savable):
        raise TypeError(f"cannot save {type(value).__name__}: it is no artifact of a method")
    if value.fingerprint is None:
        raise ValueError(
            f"cannot save {name!r} without provenance: build it with a method's fit(), or give it "
            "fingerprint=lab.backend.spec.fingerprint"
        )
    method, settings, arrays = value.to_record()
    row = Artifact(
        name=name,
        method=method,
        kind=kind_of(value),
        fingerprint=value.fingerprint,
        settings=settings,
        code_version=code_version(),
    )
    return row, arrays


def code_version() -> str:
    """Return the version of this program, for provenance."""
    try:
        return version("activation-workbench")
    except PackageNotFoundError:
        return "uninstalled"


def same_model(one: Fingerprint, other: Fingerprint) -> bool:
    """Say whether activations of the two are interchangeable, under whatever names.

    A tokenizer counts only where both were opened with one.
    """
    tokenizers = {one.tokenizer_hash, other.tokenizer_hash} - {""}
    same = one.weights_hash == other.weights_hash and one.basis == other.basis
    return same and len(tokenizers) < 2
