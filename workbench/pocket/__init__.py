"""The embedded models: small GPT-2s trained on grammars of our own, and how they are made."""

from pathlib import Path

_FOLDERS = {
    "pocket": ".",
    "pocket-bind": "bind",
    "pocket-play": "play",
    "pocket-shuffled": "shuffled",
}


def names() -> tuple[str, ...]:
    """Return the names of the committed checkpoints; "pocket" is the one opened by default."""
    return tuple(_FOLDERS)


def path(name: str = "pocket") -> Path:
    """Return the directory of a checkpoint's committed weights, in Hugging Face format.

    Its card lies beside the directory. Raises LookupError for a name that is none of `names()`.
    """
    if name not in _FOLDERS:
        raise LookupError(
            f"no checkpoint {name!r}: there are {', '.join(_FOLDERS)}; name one of them"
        )
    return Path(__file__).parent / _FOLDERS[name] / "weights"
