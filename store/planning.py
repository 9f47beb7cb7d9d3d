"""What a capture will take, known before it begins: rows, bytes, and whether the disk has room."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from store.errors import UnwritableError
from store.sites import Site
from store.store import Store
from store.tensors import STORED

PER_TOKEN = 40
"""Bytes that a token's row may take in sidecars and the catalog, generously."""

SPARE = 64 << 20
"""Bytes that must stay free beside a capture."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is about to be written."""

    rows: int
    prompts: int
    bytes: int
    """Of tensors and sidecars."""
    free: int
    """Bytes that the disk can still take."""
    path: str

    def __str__(self) -> str:
        return (
            f"{self.prompts} prompts, {self.rows} rows, {_mb(self.bytes)} to write; "
            f"{_mb(self.free)} free at {self.path}"
        )

    def require_room(self) -> None:
        """Raise UnwritableError when the disk cannot hold it."""
        if self.bytes + SPARE > self.free:
            raise UnwritableError(
                f"a capture of {self.rows} rows takes {_mb(self.bytes)} and {_mb(SPARE)} to "
                f"spare, and {_mb(self.free)} are free at {self.path}: capture fewer sites or "
                "texts, store them as bf16, or free space"
            )


def plan(store: Store, sites: Mapping[Site, int], dtype: str, *, rows: int, prompts: int) -> Plan:
    """Say what recording so many rows at these sites takes; raises ValueError for the dtype."""
    if dtype not in STORED:
        raise ValueError(f"rows cannot be stored as {dtype!r}: choose f32, f16 or bf16")
    row_bytes = sum(sites.values()) * STORED[dtype].itemsize + PER_TOKEN
    return Plan(
        rows=rows,
        prompts=prompts,
        bytes=rows * row_bytes,
        free=shutil.disk_usage(store.path).free,
        path=str(store.path),
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
