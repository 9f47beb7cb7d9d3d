"""What was seen: immutable files are the truth, DuckDB the index. Knows no model, imports no torch.

May import numpy, duckdb, pyarrow, safetensors and xxhash, and nothing of ours.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from store.sites import PARTS, Site, select

if TYPE_CHECKING:
    from store.errors import (
        BusyError,
        DamagedError,
        NewerFormatError,
        StoreError,
        UnwritableError,
        WorkbenchError,
    )
    from store.mapping import Recorded
    from store.records import Artifact, Fingerprint, Prompt, Run, TokenRows
    from store.store import Store
    from store.writer import Writer

_HOMES = {
    "Artifact": "records", "Fingerprint": "records", "Prompt": "records", "Run": "records",
    "TokenRows": "records",
    "Recorded": "mapping", "Store": "store", "Writer": "writer",
    "BusyError": "errors", "DamagedError": "errors", "NewerFormatError": "errors",
    "StoreError": "errors", "UnwritableError": "errors", "WorkbenchError": "errors",
}  # fmt: skip

__all__ = [
    "PARTS", "Artifact", "BusyError", "DamagedError", "Fingerprint", "NewerFormatError", "Prompt",
    "Recorded", "Run", "Site", "Store", "StoreError", "TokenRows", "UnwritableError",
    "WorkbenchError", "Writer", "select",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is heavy only when it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'store' has no {name!r}: it has {', '.join(__all__)}")
    return getattr(import_module(f"store.{_HOMES[name]}"), name)
