"""What panels draw from: the store, and the worker that owns the model, if there is one."""

from dataclasses import dataclass

from dashboard.worker import Worker
from store import Fingerprint, Store


@dataclass(frozen=True, kw_only=True)
class Source:
    """A store to read and, when a model is open, the worker to ask."""

    store: Store
    worker: Worker | None = None
    fingerprint: Fingerprint | None = None
    """Of the worker's model."""
