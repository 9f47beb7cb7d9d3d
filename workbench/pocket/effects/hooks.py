"""Reading and writing a GPT-2's activations with plain hooks; no package of ours is used."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from workbench.pocket.model import encode

Network = tuple[GPT2LMHeadModel, Tokenizer]
Edit = Callable[[Float[Tensor, "text pos d_model"]], Float[Tensor, "text pos d_model"]]


@torch.no_grad()
def states(net: Network, texts: Sequence[str]) -> Float[Tensor, "layer text d_model"]:
    """Return every block's output at the last token of each text."""
    model, tokenizer = net
    rows: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _m, _i, out: rows.append(first(out)[:, -1]))
        for block in model.transformer.h
    ]
    for start in range(0, len(texts), 64):
        _run(model, *encode(tokenizer, texts[start : start + 64]))
    for hook in hooks:
        hook.remove()
    n = len(model.transformer.h)
    return torch.stack([torch.cat(rows[layer::n]) for layer in range(n)])


@contextmanager
def edited(model: GPT2LMHeadModel, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Replace the outputs of named modules while inside; they are left as they were."""

    def hook(edit: Edit) -> Callable[..., object]:
        def change(_module: object, _inputs: object, out: Tensor | tuple) -> object:
            return edit(out) if isinstance(out, Tensor) else (edit(out[0]), *out[1:])

        return change

    hooks = [
        model.transformer.get_submodule(name).register_forward_hook(hook(edit))
        for name, edit in edits.items()
    ]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


@torch.no_grad()
def attention(net: Network, text: Int[Tensor, " pos"]) -> Float[Tensor, "layer head pos pos"]:
    """Return the attention pattern of one text's tokens."""
    model = net[0]
    model.set_attn_implementation("eager")
    out = model(input_ids=text[None], output_attentions=True, use_cache=False)
    return torch.stack(out.attentions)[:, 0]


def first(out: Any) -> Tensor:
    """Return a block's output, which some versions wrap in a tuple."""
    return out if isinstance(out, Tensor) else out[0]


def _run(
    model: GPT2LMHeadModel, ids: Int[Tensor, "text pos"], mask: Int[Tensor, "text pos"]
) -> None:
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    model.transformer(input_ids=ids, attention_mask=mask, position_ids=positions)
