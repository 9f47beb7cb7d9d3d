"""What each method does to a checkpoint, measured with plain hooks and beside its controls.

The figures go into the checkpoint's card, and a test measures them again.
"""

from collections.abc import Callable, Mapping

from workbench.pocket.corpus import MIXTURE
from workbench.pocket.effects import autoencoder, entropy, lens, memory, rerank
from workbench.pocket.effects.hooks import Network
from workbench.pocket.records import Figure, Split

Measure = Callable[[Network, Split], list[Figure]]


def of(name: str) -> Mapping[str, Measure]:
    """Return the methods that a checkpoint has families for, each with what measures it."""
    known: dict[str, dict[str, Measure]] = {
        "pocket": {"MLSAE": lambda net, split: autoencoder.measure(net, MIXTURE, split)},
        "pocket-bind": {"ICR": rerank.measure},
        "pocket-play": {
            "EAST": entropy.measure,
            "Future Lens": lens.measure,
            "memory injection": memory.measure,
        },
    }
    return known.get(name, {})
