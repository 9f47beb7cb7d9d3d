"""The embedded model: a small GPT-2 trained on a grammar of our own, and how it is made."""

from pathlib import Path


def path() -> Path:
    """Return the directory of the committed weights, in Hugging Face format."""
    return Path(__file__).parent / "weights"
