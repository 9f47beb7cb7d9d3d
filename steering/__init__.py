"""Methods that change the forward pass.

May import `store` and `workbench`, never `probes`: the two meet through plain tensors.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steering.generate import steered as steered
    from steering.icv import ICV as ICV
    from steering.vector import SteeringVector as SteeringVector

_HOMES = {
    "ICV": "steering.icv",
    "SteeringVector": "steering.vector",
    "steered": "steering.generate",
}

__all__ = ["ICV", "SteeringVector", "steered"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch and transformers take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'steering' has no {name!r}: it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
