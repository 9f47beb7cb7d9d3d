"""The fences: imports point one way, packages load nothing heavy or harmful, code stays small."""

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PACKAGES = ("store", "workbench", "steering", "probes", "dashboard")
RANKS = {
    "store": 0, "workbench": 1, "steering": 2, "probes": 2, "dashboard": 3,
    "workbench.cli": 4, "workbench.__main__": 5,
}  # fmt: skip
"""A module may import what ranks lower, and its own package; siblings rank the same."""


def files(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((root / package).rglob("*.py"))


def home(module: str) -> str | None:
    """Return the part of the architecture that a module belongs to, None for other people's."""
    parts = module.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in RANKS else parts[0] if parts[0] in RANKS else None


def imported(tree: ast.AST) -> Iterator[str]:
    """Name everything that is imported, at the top, late, or for type checkers only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            # "from workbench import cli" imports workbench.cli; a relative import stays at home.
            yield from (f"{node.module}.{one.name}" for one in node.names if not node.level)


def wrong_imports(root: Path) -> list[str]:
    found = []
    for path in files(root):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        own = home(module)
        assert own is not None
        for name in imported(ast.parse(path.read_text())):
            target = home(name)
            if target is not None and target != own and RANKS[target] >= RANKS[own]:
                found.append(f"{module} imports {name}")
    return found


def loaded_after(program: str, folder: Path = ROOT) -> set[str]:
    """Name the modules that are loaded when a program has run in a process of its own."""
    report = "\nimport json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program + report],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout.splitlines()[-1]))


HELP = (
    "import runpy, sys; sys.argv = ['workbench', '--help']\n"
    "try: runpy.run_module('workbench', run_name='__main__')\n"
    "except SystemExit as end: assert not end.code, end.code"
)


def test_imports_point_one_way() -> None:
    assert len(list(files(ROOT))) > 40
    assert wrong_imports(ROOT) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("store/new.py", "import workbench.plan"),
        ("store/new.py", "def f():\n    from steering import ICV"),
        ("workbench/new.py", "from steering.vector import SteeringVector"),
        ("workbench/new.py", "from workbench import cli"),
        ("steering/new.py", "from probes import FutureLens"),
        ("probes/new.py", "import steering"),
        ("steering/new.py", "import dashboard"),
        ("dashboard/new.py", "from workbench.cli.app import main"),
        ("workbench/cli/new.py", "import workbench.__main__"),
    ],
)
def test_a_planted_upward_or_sideways_import_is_found(
    tmp_path: Path, module: str, line: str
) -> None:
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(f"import os\nfrom store import Site\n{line}\n")
    (found,) = wrong_imports(tmp_path)
    assert found.startswith(module.removesuffix(".py").replace("/", "."))


@pytest.mark.parametrize("program", ["import store, store.store, store.queries", HELP])
def test_the_store_and_the_help_load_no_torch(program: str) -> None:
    loaded = loaded_after(program)
    assert "store" in loaded or "workbench.cli.app" in loaded
    assert not {"torch", "transformers", "jax"} & loaded


@pytest.mark.parametrize("program", ["import store", HELP])
def test_a_planted_torch_would_be_found(tmp_path: Path, program: str) -> None:
    (tmp_path / "torch.py").write_text("")
    for package in ("store", "workbench"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("import torch\n")
    (tmp_path / "workbench" / "__main__.py").write_text("")
    assert "torch" in loaded_after(program, tmp_path)


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_sorted_and_importable_and_others_are_refused(name: str) -> None:
    package = importlib.import_module(name)
    public = getattr(package, "__all__", [])
    # Constants, then classes, then functions, as ruff sorts them.
    assert public == sorted(public, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert all(getattr(package, one) is not None for one in public)
    with pytest.raises(AttributeError, match=name):
        _ = package.no_such_name


def test_importing_everything_leaves_torch_alone() -> None:
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    # nnsight, for one, replaces it on import.
    assert torch.Tensor.backward.__module__ == "torch._tensor"
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


def test_no_file_is_over_400_lines() -> None:
    assert [str(p) for p in files(ROOT) if len(p.read_text().splitlines()) > 400] == []


def test_no_function_outside_the_command_line_takes_over_seven_things_without_a_reason() -> None:
    found = []
    for path in files(ROOT):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef) and path.parent.name != "cli":
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = sum(one.arg not in ("self", "cls") for one in given)
                reason = lines[node.lineno - 1].partition("# noqa: PLR0913  ")[2]
                if count > 7 and not reason:
                    found.append(f"{path.name}: {node.name} takes {count}")
    assert found == []
