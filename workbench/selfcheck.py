"""One forward pass that tests whether an architecture's row tells the truth about a model."""

import torch
from torch import Tensor

from store import Site
from workbench import engine
from workbench.backends.hf import HFBackend
from workbench.batch import Batch

TOLERANCE = 1e-3
"""Relative to the residual's size; float32 gives 1e-6, bfloat16 rounds at 4e-3 of each addend."""


def verify(backend: HFBackend) -> None:
    """Check `resid_post == resid_pre + attn_out + mlp_out` and the chain from block to block.

    Raises:
        LookupError: an identity fails; the text says which.
    """
    parts = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    layers = range(backend.spec.n_layers)
    sites = [Site(part, layer) for layer in layers for part in parts]
    seen = engine.run(backend, _probe(backend), reads=sites).reads
    tolerance = TOLERANCE if seen[sites[0]].dtype == torch.float32 else 30 * TOLERANCE
    for layer in layers:
        pre, attn, mlp, post = (seen[Site(part, layer)] for part in parts)
        _compare(
            backend, f"resid_post.{layer} is not resid_pre + attn_out + mlp_out of its layer",
            _gap(post, pre + attn + mlp), tolerance,
        )  # fmt: skip
        if layer:
            _compare(
                backend, f"resid_pre.{layer} is not resid_post.{layer - 1}",
                _gap(pre, seen[Site("resid_post", layer - 1)]), tolerance,
            )  # fmt: skip


def _probe(backend: HFBackend) -> Batch:
    tokens = torch.arange(6) % backend.spec.d_vocab
    return Batch.pad([tokens.tolist()], pad_id=0).to(backend.device)


def _gap(x: Tensor, y: Tensor) -> float:
    x, y = x.double(), y.double()
    return float((x - y).norm() / y.norm().clamp(min=1e-30))


def _compare(backend: HFBackend, claim: str, gap: float, tolerance: float) -> None:
    # "not <=" also refuses NaN.
    if not gap <= tolerance:
        raise LookupError(
            f"{backend.spec.name} fails the self-check of {backend.row.family}: {claim} "
            f"(relative difference {gap:.2g}); its blocks are built differently, "
            "pass architecture=Architecture(...) naming the right modules"
        )
