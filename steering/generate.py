"""Steer any Hugging Face model for one block of code; no session and no store needed."""

import contextlib
from collections.abc import Iterator

import torch.nn as nn

from workbench import engine
from workbench.opening import backend_for
from workbench.plan import Steer


@contextlib.contextmanager
def steered(model: nn.Module, steer: Steer) -> Iterator[engine.Attached]:
    """Steer a model for one block: `with steered(model, 0.1 * kind): model.generate(**inputs)`.

    Gives the block, whose `receipts()` say what was done. The model's hooks are afterwards what
    they were. Threads started inside carry the plan with `contextvars.copy_context()`.

    Raises:
        LookupError: the model's architecture is unknown, or it lacks a site.
        ValueError: a vector belongs to another model, or touched nothing in the block.
    """
    backend = backend_for(model)
    try:
        with engine.attached(backend, steer) as block:
            yield block
    finally:
        backend.release()
