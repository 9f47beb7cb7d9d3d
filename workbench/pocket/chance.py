"""Deterministic splits, and word lists: the small change of every family."""

import re
import zlib

from workbench.pocket.records import Split


def bucket(key: str, n: int) -> int:
    """Return a stable number in [0, n) for the key, the same in every process."""
    return zlib.crc32(key.encode()) % n


def split_of(key: str, n: int = 10) -> Split:
    """Assign a combination to test or development, one in n each, or else to training."""
    number = bucket(key, n)
    if number == 0:
        return "test"
    return "development" if number == 1 else "train"


def words_in(text: str) -> frozenset[str]:
    """Return the words of a text or template; slots in braces are left out."""
    return frozenset(re.findall(r"[A-Za-z']+", re.sub(r"\{[^}]*\}", " ", text)))


def listed(words: str) -> tuple[str, ...]:
    """Return the words of a list written as one string with spaces between them."""
    return tuple(words.split())
