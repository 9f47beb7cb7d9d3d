"""How a model is watched and changed: sites, plans, backends and the session.

May import `store`, and knows no method: `steering` and `probes` bring their methods to a session.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store import Prompt as Prompt
    from store import Site as Site
    from workbench.architectures import Architecture as Architecture
    from workbench.capture import Capture as Capture
    from workbench.generation import Comparison as Comparison
    from workbench.generation import Generation as Generation
    from workbench.opening import open as open
    from workbench.plan import Plan as Plan
    from workbench.plan import Receipt as Receipt
    from workbench.plan import Where as Where
    from workbench.plan import each as each
    from workbench.session import Session as Session

_HOMES = {
    "Architecture": "workbench.architectures", "Capture": "workbench.capture",
    "Comparison": "workbench.generation", "Generation": "workbench.generation",
    "Plan": "workbench.plan", "Prompt": "store", "Receipt": "workbench.plan",
    "Session": "workbench.session", "Site": "store", "Where": "workbench.plan",
    "each": "workbench.plan", "open": "workbench.opening",
}  # fmt: skip

__all__ = [
    "Architecture", "Capture", "Comparison", "Generation", "Plan", "Prompt", "Receipt", "Session",
    "Site", "Where", "each", "open",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use: torch and transformers take seconds, and `--help` needs neither."""
    if name not in _HOMES:
        raise AttributeError(f"module 'workbench' has no {name!r}: it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
