"""Shapes and types are checked in tests; each test leaves the process as it found it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from jaxtyping import install_import_hook

install_import_hook(
    ["store", "workbench", "steering", "probes", "dashboard"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

import duckdb
import tiny
import torch

import workbench
from workbench.backends.taps import installed

SHARED = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(autouse=True)
def leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that changes torch's global modes or leaves a DuckDB connection open."""
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    opened: list[duckdb.DuckDBPyConnection] = []
    connect = duckdb.connect

    def recorded(*args: Any, **kwargs: Any) -> duckdb.DuckDBPyConnection:
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(duckdb, "connect", recorded)
    yield
    assert torch.is_grad_enabled() == grad, "the test changed grad mode"
    assert torch.get_default_dtype() == dtype, "the test changed the default dtype"
    left = sum(map(_is_open, opened))
    for connection in opened:
        connection.close()
    assert not left, f"the test left {left} DuckDB connections open"


def _is_open(connection: duckdb.DuckDBPyConnection) -> bool:
    try:
        connection.execute("select 1").fetchall()
    except duckdb.ConnectionException:
        return False
    return True


def hooks(model: Any) -> int:
    """Count every hook on a model."""
    registries = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(m, r)) for m in model.modules() for r in registries)


@pytest.fixture
def shared() -> Path:
    """The folder of shared models and data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}; set WORKBENCH_SHARED")
    return SHARED


@pytest.fixture
def open_tiny(tmp_path: Path) -> Iterator[Callable[..., workbench.Session]]:
    """Open tiny models by family; afterwards no hook is left on any of them."""
    opened: list[tuple[workbench.Session, Any]] = []

    def make(family: str = "gpt2", *, store: bool = False, seed: int = 0) -> workbench.Session:
        model = tiny.model(family, seed)
        folder = tmp_path / f"store-{len(opened)}" if store else None
        session = workbench.open(model, tokenizer=tiny.tokenizer(), store=folder)
        opened.append((session, model))
        return session

    yield make
    for session, model in opened:
        session.close()
        assert installed(model) is None
        assert hooks(model) == 0, "closing the session left hooks behind"
