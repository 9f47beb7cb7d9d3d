"""Where each model family keeps its parts: one table, one row per family.

This module knows names of modules and nothing else. A row is a claim, and `workbench.selfcheck`
tests the claim on the model at hand before anything is labelled with it.
"""

from dataclasses import dataclass

import torch.nn as nn


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The module paths of one model family."""

    family: str
    """The name used in messages; for known families also `config.model_type`."""
    blocks: str
    """Path of the list of transformer blocks."""
    embed: str
    """Path of the token embedding."""
    ln_final: str
    """Path of the norm before the unembedding."""
    unembed: str
    """Path of the unembedding (the language-model head)."""
    attn_out: str
    """Inside a block: the module whose output is attention's contribution to the residual."""
    attn_project: str
    """Inside a block: attention's output projection; its input is `z`, heads side by side."""
    mlp_out: str
    """Inside a block: the module whose output is the MLP's contribution to the residual."""
    mlp_project: str
    """Inside a block: the MLP's output projection; its input is `mlp_post`, the neurons."""


def known() -> tuple[Architecture, ...]:
    """Return the rows of the table, one per family."""
    gpt2 = Architecture(
        family="gpt2",
        blocks="transformer.h",
        embed="transformer.wte",
        ln_final="transformer.ln_f",
        unembed="lm_head",
        attn_out="attn",
        attn_project="attn.c_proj",
        mlp_out="mlp",
        mlp_project="mlp.c_proj",
    )
    gpt_neox = Architecture(
        family="gpt_neox",
        blocks="gpt_neox.layers",
        embed="gpt_neox.embed_in",
        ln_final="gpt_neox.final_layer_norm",
        unembed="lm_head",
        attn_out="attention",
        attn_project="attention.dense",
        mlp_out="mlp",
        mlp_project="mlp.dense_4h_to_h",
    )
    # Gemma 2 normalises each branch before adding it, so the contribution is the norm's output.
    gemma2 = _llama_like(
        "gemma2", attn_out="post_attention_layernorm", mlp_out="post_feedforward_layernorm"
    )
    llama_likes = map(_llama_like, ("llama", "mistral", "qwen2", "qwen3"))
    return (gpt2, gpt_neox, *llama_likes, gemma2)


def _llama_like(family: str, attn_out: str = "self_attn", mlp_out: str = "mlp") -> Architecture:
    return Architecture(
        family=family,
        blocks="model.layers",
        embed="model.embed_tokens",
        ln_final="model.norm",
        unembed="lm_head",
        attn_out=attn_out,
        attn_project="self_attn.o_proj",
        mlp_out=mlp_out,
        mlp_project="mlp.down_proj",
    )


def candidates(model: nn.Module) -> tuple[Architecture, ...]:
    """Return the rows worth trying on a model, the family's own row alone when there is one.

    A model of an unknown family gets every row whose modules it has; the self-check decides.

    Raises:
        LookupError: no row's modules exist in this model.
    """
    family = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    own = tuple(row for row in known() if row.family == family)
    found = own or tuple(row for row in known() if not missing(model, row))
    if not found:
        families = ", ".join(row.family for row in known())
        raise LookupError(
            f"no architecture for {family}: the table has {families}, and none of their module "
            "paths exist in this model; pass architecture=Architecture(...) naming its modules"
        )
    return found


def missing(model: nn.Module, row: Architecture) -> tuple[str, ...]:
    """Return the module paths of a row that a model lacks."""
    outer = (row.blocks, row.embed, row.ln_final, row.unembed)
    absent = tuple(path for path in outer if not has(model, path))
    if absent:
        return absent
    blocks = dict(model.get_submodule(row.blocks).named_children())
    inner = (row.attn_out, row.attn_project, row.mlp_out, row.mlp_project)
    absent = tuple(
        f"{row.blocks}.{i}.{path}"
        for i, block in blocks.items() for path in inner if not has(block, path)
    )  # fmt: skip
    return absent if blocks else (f"{row.blocks}.0",)


def has(module: nn.Module, path: str) -> bool:
    """Say whether a module has a submodule at a dotted path."""
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True
