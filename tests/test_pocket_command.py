"""`workbench pocket` trains and measures from the command line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench import pocket
from workbench.cli.pocket import app


def test_evaluate_prints_each_figure_with_its_interval() -> None:
    done = CliRunner().invoke(app, ["evaluate", "pocket", "--questions", "12"])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert any(line.startswith("accuracy, facts, test: 1.000 [") for line in lines)
    assert all("n " in line for line in lines if line.startswith("perplexity"))


@pytest.mark.slow
def test_evaluate_measures_other_weights_split_and_methods() -> None:
    options = ["--questions", "3", "--split", "development", "--effects"]
    where = ["--weights", str(pocket.path("pocket-bind"))]
    done = CliRunner().invoke(app, ["evaluate", "pocket-bind", *options, *where])
    assert done.exit_code == 0
    assert "ICR, same-length calibration, development: " in done.output


@pytest.mark.parametrize(("name", "split"), [("pocket-giant", "test"), ("pocket", "exam")])
def test_evaluate_refuses_what_it_does_not_know(name: str, split: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", name, "--split", split])
    assert isinstance(done.exception, LookupError)


def test_train_writes_weights_that_evaluate_measures(tmp_path: Path) -> None:
    fixed = ["--tokens", "64", "--seed", "3", "--threads", "1", "--device", "cpu"]
    options = [*fixed, "--minutes", "1", "--control", "shuffled"]
    done = CliRunner().invoke(app, ["train", str(tmp_path), "pocket-play", *options])
    assert done.exit_code == 0, done.output
    where = ["--weights", str(tmp_path / "weights"), "--questions", "3"]
    assert CliRunner().invoke(app, ["evaluate", "pocket-play", *where]).exit_code == 0
