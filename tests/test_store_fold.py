"""Folding: the catalog is what the files say, however it came about."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_samples import FINGERPRINT, Batch, make_batch, make_run, record

from store import Artifact, DamagedError, NewerFormatError, Store
from store.catalog import FILE, Catalog
from store.migrations import TABLES


@pytest.fixture
def batches() -> list[Batch]:
    return [make_batch([3, 0, 5, 2], seed=seed) for seed in range(5)]


def everything(store: Store) -> dict[str, list[dict]]:
    """Every row of every table."""
    catalog = Catalog(store.path, store.path)
    catalog.refresh()
    with catalog.asking() as con:
        kinds = [kind for (kind,) in con.sql("SELECT DISTINCT kind FROM result").fetchall()]
        return {
            table: sorted(con.sql(f'SELECT * FROM "{table}"').to_arrow_table().to_pylist(), key=str)
            for table in (*TABLES, *kinds)
            if table != "schema_version"
        }


def test_a_deleted_catalog_is_rebuilt_equal(tmp_path: Path, batches: list[Batch]) -> None:
    store = Store.open(tmp_path)
    record(store, batches[:2], run=make_run(name="first"))
    assert store.sql("SELECT count(*) AS n FROM run").to_pylist() == [{"n": 1}]
    record(store, batches, run=make_run(name="second", dtype="f32"), shard_rows=4)
    store.save_artifact(
        Artifact(name="a", method="m:M", kind="v", fingerprint=FINGERPRINT),
        {"z.0.h1": np.arange(4.0), "matrix": np.eye(3)},
    )
    store.add_results("evaluation", pa.table({"x": [1.5, None]}), about={"run": "first"})
    store.add_results("latents", pa.table({"x": ["a"]}), about={"run": "second"})
    grown = everything(store)
    assert {table: len(rows) for table, rows in grown.items()} == {
        "run": 2, "site": 6, "prompt": 28, "token": 70, "shard": 17, "shard_file": 34,
        "shard_stat": 51, "artifact": 1, "direction": 1, "result": 2, "evaluation": 2, "latents": 1,
    }  # fmt: skip
    (tmp_path / FILE).unlink()
    assert everything(store) == grown


def test_folding_again_changes_nothing_and_leaves_the_file_alone(
    tmp_path: Path, batches: list[Batch]
) -> None:
    store = Store.open(tmp_path)
    record(store, batches)
    before = everything(store)
    inode = (tmp_path / FILE).stat().st_ino
    assert everything(store) == before
    assert everything(Store.open(tmp_path)) == before
    assert (tmp_path / FILE).stat().st_ino == inode
    assert not list(tmp_path.glob("*.tmp*"))


def test_a_run_that_is_deleted_disappears_from_sql(tmp_path: Path, batches: list[Batch]) -> None:
    store = Store.open(tmp_path)
    run, kept = record(store, batches), record(store, batches[:1])
    result = store.add_results("evaluation", pa.table({"x": [1]}), about={"run": run.uuid})
    assert len(everything(store)["token"]) == 60
    for path in (tmp_path / "runs" / run.uuid).iterdir():
        path.unlink()
    (tmp_path / "runs" / run.uuid).rmdir()
    (tmp_path / "results" / f"{result}.parquet").unlink()
    left = everything(store)
    assert [row["uuid"] for row in left["run"]] == [kept.uuid]
    assert (len(left["token"]), len(left["site"]), len(left["result"])) == (10, 3, 0)
    assert store.sql("SELECT count(*) AS n FROM evaluation").to_pylist() == [{"n": 0}]


def test_a_damaged_run_is_left_out_of_sql_with_a_warning_and_the_others_stay(
    tmp_path: Path, batches: list[Batch], caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(tmp_path)
    bad, good = record(store, batches), record(store, batches)
    path = tmp_path / "runs" / bad.uuid / "00000.tokens.parquet"
    path.chmod(0o644)
    path.write_bytes(b"PAR1 nothing")
    assert [row["uuid"] for row in everything(store)["run"]] == [good.uuid]
    assert caplog.text.count("left out of SQL") == 1
    assert "00000.tokens.parquet is damaged" in caplog.text


@pytest.mark.parametrize("module", ["shards", "runs", "artifacts"])
def test_files_of_a_newer_program_are_left_out_of_sql_and_refused_when_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    module: str,
) -> None:
    store = Store.open(tmp_path)
    monkeypatch.setattr(f"store.{module}.FORMAT", 2)
    if module == "artifacts":
        store.add_results("evaluation", pa.table({"x": [1]}), about={"a": 1})
    else:
        record(store, [make_batch([3])])
    monkeypatch.undo()
    rows = everything(store)
    assert rows["run"] == rows["result"] == rows["token"] == []
    assert "left out of SQL" in caplog.text
    assert "upgrade" in caplog.text
    if module != "artifacts":
        with pytest.raises(NewerFormatError, match="upgrade"):
            store.read("latest")


def test_an_ending_that_says_nothing_is_damage(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    run = record(store, [make_batch([3])])
    path = tmp_path / "runs" / run.uuid / "end.json"
    path.chmod(0o644)
    path.write_text('{"format": 1}')
    with pytest.raises(DamagedError, match=r"end.json is no ending: 'commits'"):
        store.read(run.uuid)
