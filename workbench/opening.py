"""Open a model by name, directory or object: find its architecture, check it, fingerprint it."""

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import xxhash
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError

from store import Fingerprint, Store
from workbench import pocket, selfcheck
from workbench.architectures import Architecture, candidates, missing
from workbench.backends.base import ModelSpec
from workbench.backends.hf import HFBackend
from workbench.backends.taps import PARTS, installed, tap
from workbench.session import Session

_SIZES = ("num_attention_heads", "hidden_size", "vocab_size")
"""What a model's config must say; the rest is counted."""


def open(
    model: str | Path | nn.Module = "pocket",
    *,
    store: str | Path | Store | None = None,
    tokenizer: Any = None,
    device: str | None = None,
    dtype: torch.dtype = torch.float32,
    architecture: Architecture | None = None,
) -> Session:
    """Open a model: the embedded "pocket", a hub id, a local directory, or a module.

    A module needs its `tokenizer`; it stays the user's own object, with hooks on it until the
    session is closed. `store` is a directory, made when there is none. The model computes in
    float32 unless `dtype` says otherwise. `architecture` names the modules of a hand-built model.

    Raises:
        LookupError: there is no such model, or its architecture is unknown or fails the check.
        ValueError: a module comes without its tokenizer, or in training mode.
        StoreError: the store cannot be opened.
    """
    if isinstance(model, nn.Module) and tokenizer is None:
        raise ValueError(
            f"{type(model).__name__} came as a module: pass tokenizer= with the one that fits it"
        )
    # The store first: it fails in milliseconds, a model loads for seconds.
    opened = Store.open(store) if isinstance(store, str | Path) else store
    try:
        backend = backend_for(
            model, tokenizer=tokenizer, device=device, dtype=dtype, architecture=architecture
        )
    except BaseException:
        if opened is not None and opened is not store:
            opened.close()
        raise
    return Session(backend, opened)


def backend_for(
    model: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    device: str | None = None,
    dtype: torch.dtype = torch.float32,
    architecture: Architecture | None = None,
) -> HFBackend:
    """Load a model if need be and put hooks on it; `release()` takes them off again.

    A module may come without its tokenizer where no text is read or written.

    Raises:
        LookupError: there is no such model, or its architecture is unknown or fails the check.
        ValueError: a module is in training mode.
    """
    if isinstance(model, nn.Module):
        name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
        if model.training:
            raise ValueError(f"{name} is in training mode, where dropout acts: call model.eval()")
    else:
        name = str(model)
        model, tokenizer = _load(name, tokenizer, device, dtype)
    module: nn.Module = model
    return _hooked(module, tokenizer, name, architecture)


def _load(
    name: str, tokenizer: Any, device: str | None, dtype: torch.dtype
) -> tuple[nn.Module, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # 1 s, and not for --help

    source = str(pocket.path(name)) if name in pocket.names() else name
    try:
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LookupError(
            f"no model {name!r}: there is the embedded 'pocket', any local directory with a "
            f"config.json, and any Hugging Face id when the hub can be reached or has it cached "
            f"({first})"
        ) from error
    return model.to(device or "cpu").eval(), tokenizer


def _hooked(
    model: nn.Module, tokenizer: Any, name: str, architecture: Architecture | None
) -> HFBackend:
    """Try the rows that fit; the last one's complaint is the user's error."""
    shared = installed(model)
    rows = (architecture,) if architecture is not None else candidates(model)
    rows = rows if shared is None else (shared.row,)
    for row in rows[:-1]:
        with contextlib.suppress(LookupError):
            return _checked(model, tokenizer, name, row)
    return _checked(model, tokenizer, name, rows[-1])


def _checked(model: nn.Module, tokenizer: Any, name: str, row: Architecture) -> HFBackend:
    absent = missing(model, row)
    if absent:
        listed = ", ".join(absent[:4]) + (", …" if len(absent) > 4 else "")
        raise LookupError(
            f"{name} is no {row.family}: it has no {listed}; pass architecture=Architecture(...) "
            "with paths that exist in it"
        )
    spec = _spec(model, tokenizer, name, row)
    backend = HFBackend(model, tokenizer, spec, tap(model, row))
    try:
        selfcheck.verify(backend)
    except BaseException:
        backend.release()
        raise
    return backend


def _spec(model: nn.Module, tokenizer: Any, name: str, row: Architecture) -> ModelSpec:
    config = _config(model, name)
    n_heads, d_model = config.num_attention_heads, config.hidden_size
    # Counted, not read from the config: a user may have cut layers off.
    block, *others = model.get_submodule(row.blocks).children()
    return ModelSpec(
        name=name,
        family=row.family,
        n_layers=1 + len(others),
        n_heads=n_heads,
        d_model=d_model,
        d_head=getattr(config, "head_dim", None) or d_model // n_heads,
        d_mlp=_inputs(block.get_submodule(row.mlp_project)),
        d_vocab=config.vocab_size,
        n_ctx=getattr(config, "max_position_embeddings", None),
        parts=PARTS,
        fingerprint=fingerprint(model, tokenizer, name),
    )


def _config(model: Any, name: str) -> Any:
    """Return the text part of a model's config."""
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    lacking = [one for one in _SIZES if not hasattr(config, one)]
    if lacking:
        raise LookupError(
            f"{name} does not say its {', '.join(lacking)}: give it a config, as transformers' "
            "models have, with those attributes"
        )
    return config


def _inputs(projection: nn.Module) -> int:
    """Width of a projection's input, for nn.Linear and for GPT-2's transposed Conv1D alike."""
    if isinstance(projection, nn.Linear):
        return projection.in_features
    return int(projection.get_parameter("weight").shape[0])


def fingerprint(model: nn.Module, tokenizer: Any, name: str) -> Fingerprint:
    """Identify a model by the bytes of its weights and the contents of its tokenizer."""
    digest = xxhash.xxh3_128()
    for key, value in sorted(model.named_parameters()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        raw = value.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return Fingerprint(
        model=name,
        revision=_revision(name),
        weights_hash=digest.hexdigest(),
        tokenizer_hash=_tokenizer_hash(tokenizer),
    )


def _revision(name: str) -> str | None:
    """Return the commit of a hub id, which is the name of its folder in the local cache."""
    if name in pocket.names() or Path(name).exists():
        return None
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no hub id: the name of a class, or a path that is gone
        return None
    return Path(cached).parent.name if isinstance(cached, str) else None


def _tokenizer_hash(tokenizer: Any) -> str:
    if tokenizer is None:
        return ""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(fast.to_str()) if fast is not None else tokenizer.get_vocab()
    # How the tokenizer was last called to pad is no part of what it is.
    content = {key: value for key, value in content.items() if key not in ("padding", "truncation")}
    return xxhash.xxh3_128(json.dumps(content, sort_keys=True).encode()).hexdigest()
