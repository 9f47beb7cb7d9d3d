"""workbench store: each command says in words what it did."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from store_samples import make_batch, make_run, record

from store import Store
from workbench.cli import app

BATCHES = [make_batch([5, 3], seed=seed) for seed in range(4)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "lab") as store:
        for name in ("first", "second"):
            record(store, BATCHES, run=make_run(name=name), shard_rows=8)
    return tmp_path / "lab"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Run a command and return its exit code and what it said."""
    with pytest.raises(SystemExit) as end:
        app.main(["store", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(end.value.code or 0), re.sub(r"\s+", " ", printed.out + printed.err)


def test_info_reindex_compact_and_delete_say_what_there_is(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "info", place)
    assert code == 0
    assert "runs 2 prompts 16 tokens 64" in text
    (place / "catalog.duckdb").unlink()
    assert run(capsys, "reindex", place) == (0, "2 runs with 64 tokens are indexed ")
    code, text = run(capsys, "delete", "first", "--store", place)
    assert re.search(r"run:\w{8} is deleted, and [\d,]+ bytes are free again", text)
    assert re.search(
        r"the catalog had [\d,]+ bytes and has [\d,]+", run(capsys, "compact", place)[1]
    )
    code, text = run(capsys, "delete", "first", "--store", place)
    assert (code, "no run 'first'" in text) == (2, True)


def test_verify_and_sweep_name_what_they_find(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "verify", place)
    assert (code, "0 problems" in text) == (0, True)
    with Store.open(place) as store:
        directory = store.read("second").directory
    path = directory / "00001.d8.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    code, text = run(capsys, "verify", place)
    assert (code, "1 problems" in text, "is damaged" in text) == (1, True, True)
    assert run(capsys, "verify", place, "--run", "first")[0] == 0
    (directory / "00009.d8.safetensors.0badcafe.tmp").write_bytes(b"half")
    code, text = run(capsys, "sweep", place)
    assert "removed: 1" in text
    assert "00009.d8.safetensors.0badcafe.tmp" in text.replace(" ", "")


def test_export_writes_parquet_or_a_directory(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "export", "first", tmp_path / "a.parquet", "--store", place)
    assert (code, "32 rows" in text) == (0, True)
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 32
    arguments = ["export", "first", tmp_path / "sae", "--store", place]
    code, text = run(capsys, *arguments)
    assert (code, "a directory holds one site: name it with --site" in text) == (2, True)
    code, text = run(capsys, *arguments, "--site", "z.0.h1", "--context", "2")
    assert (code, "12 items of 2 tokens" in text) == (0, True)
    assert (tmp_path / "sae" / "state.json").exists()
