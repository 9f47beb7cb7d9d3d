"""What was seen, drawn: a local dashboard over one store and, when there is one, one model.

May import `store`, `workbench`, `steering` and `probes`. Importing it loads no torch: what computes
with the model is imported on the worker's thread, by the first job that needs it. `figures` is
independent of the rest and draws the same pictures in a notebook.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dashboard.app import create_app as create_app
    from dashboard.serving import serve as serve
    from dashboard.worker import Worker as Worker

_HOMES = {
    "Worker": "dashboard.worker",
    "create_app": "dashboard.app",
    "serve": "dashboard.serving",
}

__all__ = ["Worker", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    """Import on first use: figures alone need no Dash."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dashboard' has no {name!r}: it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
