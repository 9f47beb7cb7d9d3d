"""What users write on the command line and in its files, read with errors that say where."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints


def lines(path: Path) -> list[str]:
    """Read one text per line; empty lines are left out.

    Raises:
        ValueError: the file cannot be read, is not UTF-8, or holds no text.
    """
    return [line for _, line in _numbered(path)]


def pairs(path: Path) -> list[tuple[str, str]]:
    """Read (before, after) pairs from JSON lines.

    Raises:
        ValueError: a line is not JSON, or lacks a field; the line is named.
    """
    found = []
    for number, line in _numbered(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _no_pair(path, number, f"this is no JSON: {error}") from error
        if not isinstance(row, dict) or not {"before", "after"} <= row.keys():
            raise _no_pair(path, number, f"there is {line.strip()[:60]}")
        if not all(isinstance(row[side], str) for side in ("before", "after")):
            raise _no_pair(path, number, "both must be texts")
        found.append((row["before"], row["after"]))
    return found


def _no_pair(path: Path, number: int, why: str) -> ValueError:
    return ValueError(f'{path}, line {number}: expected {{"before": "…", "after": "…"}}; {why}')


def _numbered(path: Path) -> list[tuple[int, str]]:
    """Read the lines that are not empty, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror}; name a text file in UTF-8"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"cannot read {path}: it is not UTF-8 (byte {error.start}); convert it first"
        ) from error
    # Not splitlines(), which also cuts at characters that JSON and prose may hold, as U+2028.
    rows = enumerate(text.split("\n"), start=1)
    found = [(number, line) for number, line in rows if line.strip()]
    if not found:
        raise ValueError(f"{path} holds no text: give it at least one line")
    return found


def configured(method: Any, settings: Sequence[str]) -> Any:
    """Make a method from `name=value` settings.

    Raises:
        LookupError: what was named is no method.
        ValueError: the method has no such setting, or the value is not of its type.
    """
    if not (isinstance(method, type) and hasattr(method, "fit")):
        name = getattr(method, "__name__", method)
        raise LookupError(f"{name} is no method: it has no fit(); name one that has, steering:ICV")
    known = {field.name for field in dataclasses.fields(method)}
    types = get_type_hints(method)
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"no setting {setting!r}: {method.__name__} takes "
                f"{', '.join(f'{one}=…' for one in sorted(known))}"
            )
        values[name] = _typed(name, value, types[name])
    return method(**values)


def _typed(name: str, value: str, kind: Any) -> Any:
    if kind not in (int, float, bool):
        return value
    try:
        found = json.loads(value.lower())
    except ValueError:
        found = None
    # bool is an int to Python; what was written must be what is meant.
    accepted = (int, float) if kind is float else (kind,)
    if type(found) not in accepted:
        raise ValueError(f"{name}={value}: {name} is of type {kind.__name__}")
    return found


def strength(text: str) -> tuple[str, float]:
    """Read `name=strength`; the strength is 1 when it is left out.

    Raises:
        ValueError: the strength is no number.
    """
    name, equals, value = text.partition("=")
    try:
        return name, float(value) if equals else 1.0
    except ValueError as error:
        raise ValueError(f"--steer {text}: write name=strength, as in kind=0.1") from error
