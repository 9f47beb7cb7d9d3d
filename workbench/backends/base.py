"""The face that every backend shows, whichever library runs the model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from store import Fingerprint, Site, select
from workbench.batch import Batch
from workbench.plan import Step

Edit = Callable[[Tensor, Step], Tensor]
"""What is attached to a site: gets the activations and the step, returns them or a changed copy."""

Detach = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The sizes of a model, and what identifies it."""

    name: str
    family: str
    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int | None
    """The longest sequence, in tokens; None when the model sets no limit."""
    parts: tuple[str, ...]
    """The kinds of site that this backend reads and writes."""
    fingerprint: Fingerprint

    def select(self, at: str | Site | Sequence[str | Site]) -> tuple[Site, ...]:
        """Return the sites of this model that a selection names.

        Raises:
            LookupError: the model has no such site.
            ValueError: the text is no site.
        """
        chosen = select(at, n_layers=self.n_layers, n_heads=self.n_heads)
        for site in chosen:
            if site.part not in self.parts:
                raise LookupError(
                    f"no site {site}: {self.name} has layers 0-{self.n_layers - 1} "
                    f"and parts {', '.join(self.parts)}"
                )
        return chosen

    def width(self, site: Site) -> int:
        """Return the width of the activations at a site."""
        if site.part == "z":
            return self.d_head if site.head is not None else self.d_head * self.n_heads
        return self.d_mlp if site.part == "mlp_post" else self.d_model


@runtime_checkable
class Backend(Protocol):
    """One language model behind one face. Seven members; quirks live in `architectures`."""

    @property
    def spec(self) -> ModelSpec:
        """The sizes and the identity of the model."""
        ...

    def encode(self, texts: Sequence[str]) -> Batch:
        """Turn texts into a batch, special tokens as the tokenizer adds them."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn tokens into text, special tokens left out."""
        ...

    def forward(self, batch: Batch, keep: int = 0) -> Float[Tensor, "batch kept d_vocab"]:
        """Run the model once and return the logits of the last `keep` positions, 0 for all."""
        ...

    def generate(self, batch: Batch, options: Mapping[str, Any]) -> Int[Tensor, "row pos"]:
        """Generate with Hugging Face's own options and return prompt and new tokens."""
        ...

    def attach(self, site: Site, fn: Edit) -> Detach:
        """Let `fn` see, and change, a site until the returned function is called."""
        ...

    def unembed(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_vocab"]:
        """Turn residual-stream vectors into logits through the final norm and the unembedding."""
        ...
