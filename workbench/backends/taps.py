"""Permanent hooks on a Hugging Face model, which do nothing until a block of code gives them work.

Hooks that come and go with each call are visible to every thread that runs the model; these stay,
and what they do is held by a `ContextVar`, so that threads cannot see each other's plans.
"""

import threading
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from jaxtyping import Int
from torch import Tensor

from store import Site
from workbench.architectures import Architecture
from workbench.backends.base import Detach, Edit
from workbench.plan import Step

PARTS = (
    "embed", "resid_pre", "z", "attn_out", "mlp_post", "mlp_out", "resid_post", "ln_final",
)  # fmt: skip
"""What can be read and written through hooks, in the order in which a forward pass meets it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What a generation knows and its single passes do not show."""

    n_prompt: Int[Tensor, " batch"]
    """Tokens of each prompt, also where a prompt is fed in pieces."""
    stop: Int[Tensor, " id"]
    """Tokens that a row is fed only once it has ended; they are beside the text, like padding."""


class Taps:
    """The hooks of one model; the object itself is the model's forward pre-hook.

    Use `tap` to get a model's taps: a model that is opened twice shares them.
    """

    def __init__(self, model: nn.Module, row: Architecture) -> None:
        # One pair of variables per model, not per module: contexts keep them only while set.
        self._edits: ContextVar[Mapping[Site, tuple[Edit, ...]] | None] = ContextVar("edits")
        self._step: ContextVar[Step | None] = ContextVar("step")
        self._expected: ContextVar[Expected | None] = ContextVar("expected")
        self._lock = threading.Lock()
        self._users = 0
        self.row = row
        self._handles = [model.register_forward_pre_hook(self, with_kwargs=True)]
        self._install(model)

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the place of the coming forward pass, when anything is attached."""
        if self._edits.get(None) is None:
            return
        past = self._step.get(None)
        self._step.set(_step(args, kwargs, past, self._expected.get(None)))

    def attach(self, site: Site, fn: Edit) -> Detach:
        """Add a function to a site in this context; the returned function takes it away."""
        edits = self._edits.get(None) or {}
        before = edits.get(site, ())
        outer = [self._edits.set({**edits, site: (*before, fn)})]
        step = self._step.set(None) if not edits else None

        def detach() -> None:
            # Twice is harmless, as with torch's own handles.
            if outer:
                self._edits.reset(outer.pop())
                if step is not None:
                    self._step.reset(step)

        return detach

    def expect(self, expected: "Expected") -> Detach:
        """Tell this context what the coming passes are parts of."""
        token = self._expected.set(expected)
        return lambda: self._expected.reset(token)

    def acquire(self) -> "Taps":
        """Count one more user."""
        with self._lock:
            self._users += 1
        return self

    def release(self) -> None:
        """Count one user less; the last one takes the hooks away."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for handle in self._handles:
                    handle.remove()
                self._handles.clear()

    def _run(self, site: Site, fns: tuple[Edit, ...], x: Tensor) -> Tensor:
        step = self._step.get(None)
        if step is None or step.mask.shape != x.shape[:2]:
            raise RuntimeError(
                f"{site} was run outside a forward pass of the whole model: call the model itself, "
                "not one of its modules, while something is attached"
            )
        for fn in fns:
            x = fn(x, step)
        return x

    def _install(self, model: nn.Module) -> None:
        row = self.row
        self._after(model.get_submodule(row.embed), Site("embed"))
        self._after(model.get_submodule(row.ln_final), Site("ln_final"))
        blocks = model.get_submodule(row.blocks)
        for layer, block in enumerate(blocks.children()):
            self._before(block, Site("resid_pre", layer))
            self._before(block.get_submodule(row.attn_project), Site("z", layer))
            self._after(block.get_submodule(row.attn_out), Site("attn_out", layer))
            self._before(block.get_submodule(row.mlp_project), Site("mlp_post", layer))
            self._after(block.get_submodule(row.mlp_out), Site("mlp_out", layer))
            self._after(block, Site("resid_post", layer))

    # The two hooks run for every module at every step, also when nothing is attached: what is
    # looked up there is looked up once, here.

    def _after(self, module: nn.Module, site: Site) -> None:
        edits = self._edits.get

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            active = edits(None)
            if active is None or (fns := active.get(site)) is None:
                return None
            x = output[0] if isinstance(output, tuple) else output
            y = self._run(site, fns, x)
            if y is x:
                return None
            return (y, *output[1:]) if isinstance(output, tuple) else y

        self._handles.append(module.register_forward_hook(hook))

    def _before(self, module: nn.Module, site: Site) -> None:
        edits = self._edits.get

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            active = edits(None)
            if active is None or (fns := active.get(site)) is None:
                return None
            x = args[0] if args else kwargs["hidden_states"]
            y = self._run(site, fns, x)
            if y is x:
                return None
            return ((y, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": y})

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))


def tap(model: nn.Module, row: Architecture) -> Taps:
    """Return the model's taps, installed on first use, with one more user counted."""
    found = installed(model)
    return (found if found is not None else Taps(model, row)).acquire()


def installed(model: nn.Module) -> Taps | None:
    """Return the taps a model already carries, if any."""
    # The model's own hook registry is the register: no global table of models is needed.
    hooks = model._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, Taps)), None)


def per_head(site: Site, fn: Edit, d_head: int) -> tuple[Site, Edit]:
    """Turn a function of one head into a function of the site that holds all heads."""
    if site.head is None:
        return site, fn
    start, stop = site.head * d_head, (site.head + 1) * d_head

    def on_all(x: Tensor, step: Step) -> Tensor:
        own = x[..., start:stop]
        new = fn(own, step)
        if new is own:
            return x
        return torch.cat([x[..., :start], new, x[..., stop:]], dim=-1)

    return Site(site.part, site.layer), on_all


def _step(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    before: Step | None,
    expected: Expected | None,
) -> Step:
    """Work out absolute positions from what transformers passes to the model at every step."""
    fed = args[0] if args else kwargs.get("input_ids")
    fed = kwargs["inputs_embeds"] if fed is None else fed
    batch, width = fed.shape[:2]
    cache = kwargs.get("past_key_values")
    past = 0 if cache is None else int(cache.get_seq_length())
    seen = kwargs.get("attention_mask")
    if seen is None or seen.ndim != 2:
        # transformers drops a mask of ones altogether.
        positions = torch.arange(past, past + width, device=fed.device).expand(batch, width)
        mask, full = torch.ones(batch, width, dtype=torch.bool, device=fed.device), True
    else:
        counted = seen[:, : past + width].cumsum(1)
        positions = (counted[:, past:] - 1).clamp(min=0)
        mask = seen[:, past : past + width].bool()
        full = bool(mask.all())
    if expected is None:
        n_prompt = before.n_prompt if past and before is not None else positions[:, -1] + 1
        return Step(positions=positions, mask=mask, n_prompt=n_prompt, full=full)
    n_prompt = expected.n_prompt
    if len(n_prompt) != batch:
        n_prompt = n_prompt.repeat_interleave(batch // len(n_prompt))
    # Two or three numbers: comparing beats torch.isin by far. Nothing ends while a prompt is fed.
    if past and fed.ndim == 2 and bool((ended := (fed[..., None] == expected.stop).any(-1)).any()):
        mask = mask & ~(ended & (positions >= n_prompt[:, None]))
        full = bool(mask.all())
    return Step(positions=positions, mask=mask, n_prompt=n_prompt, full=full)
