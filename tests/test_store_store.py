"""Store: opened only where it belongs, found by name, and its SQL changes nothing."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_samples import FINGERPRINT, SITES, make_batch, make_run, record

from store import (
    Artifact,
    DamagedError,
    Fingerprint,
    NewerFormatError,
    Run,
    Site,
    Store,
    StoreError,
)


def make_artifact(name: str = "kind", **settings: object) -> Artifact:
    return Artifact(
        name=name, method="steering:ICV", kind="v", fingerprint=FINGERPRINT, settings=settings
    )


def test_a_new_store_is_a_directory_with_a_marker_and_opens_again(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a" / "b") as store:
        assert store.path == tmp_path / "a" / "b"
        assert store.runs() == []
        assert store.artifacts() == []
    assert json.loads((tmp_path / "a" / "b" / "store.json").read_text())["format"] == 1
    assert Store.open(str(tmp_path / "a" / "b"), create=False).runs() == []


def test_what_is_no_store_is_refused_and_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(StoreError, match=r"is not a store, and not empty: it has no store.json"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="is a file: name a directory"):
        Store.open(tmp_path / "mine.txt")
    with pytest.raises(LookupError, match=r"no store at .*: open it with create=True"):
        Store.open(tmp_path / "absent", create=False)
    with pytest.raises(LookupError, match="no store at"):
        Store.open(tmp_path / "absent", read_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ('{"format": 2}', NewerFormatError, "has format 2 and this program reads up to 1: upgrade"),
        ("{}", StoreError, "names no format: this is not a store"),
        ("{", DamagedError, "is not JSON"),
        ("[]", DamagedError, "holds no mapping"),
    ],
)
def test_a_marker_of_a_newer_program_or_of_nonsense_is_refused(
    tmp_path: Path, content: str, kind: type[StoreError], message: str
) -> None:
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(kind, match=message):
        Store.open(tmp_path)


def test_files_of_a_newer_program_are_refused_one_by_one(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    run = record(store, [make_batch([3])])
    path = tmp_path / "runs" / run.uuid / "run.json"
    found = json.loads(path.read_text())
    path.chmod(0o644)
    path.write_text(json.dumps({**found, "format": 2}))
    with pytest.raises(NewerFormatError, match=r"run.json has format 2 and this program reads up"):
        store.read(run.uuid)
    path.write_text(json.dumps({key: value for key, value in found.items() if key != "sites"}))
    with pytest.raises(DamagedError, match="is no run: 'sites'"):
        store.runs()


def test_a_run_is_read_back_as_it_was_given(tmp_path: Path) -> None:
    run = Run(
        name="größe", dtype="f16", model_dtype="bfloat16", code_version="1.2", seed=-3,
        why="to see \0 and ''", config={"at": ["resid_post.*"], "nested": {"x": None}},
        fingerprint=Fingerprint(
            model="gpt2", revision="abc", weights_hash="w", tokenizer_hash="t", basis="folded"
        ),
    )  # fmt: skip
    store = Store.open(tmp_path)
    store.writer(run, SITES).close()
    assert store.runs() == [run]
    assert store.read("latest").run == run
    (row,) = store.sql("SELECT * FROM run").to_pylist()
    assert (row["uuid"], row["name"], row["why"]) == (run.uuid, run.name, run.why)
    assert row["created_at"] == run.created_at.replace(tzinfo=None)
    assert (row["model"], row["basis"], json.loads(row["config"])) == ("gpt2", "folded", run.config)


def test_a_run_is_durable_before_its_first_row_and_its_uuid_is_taken(tmp_path: Path) -> None:
    store, run = Store.open(tmp_path), make_run(name="begun")
    with store.writer(run, SITES):
        other = Store.open(tmp_path)
        assert other.run("begun") == run
        assert (other.read("begun").n_rows, other.read("begun").status) == (0, "open")
        assert other.read("begun").scan("z.0.h1").shape == (0, 4)
        assert other.read("begun").tokens().num_rows == 0
        with pytest.raises(ValueError, match=f"run {run.uuid} exists"):
            other.writer(run, SITES)
    assert store.read("begun").status == "sealed"


def test_runs_are_found_by_latest_name_or_prefix_and_otherwise_listed(tmp_path: Path) -> None:
    store, start = Store.open(tmp_path), datetime(2026, 1, 1, tzinfo=UTC)
    uuids = [f"3f2a000{i}-0000-4000-8000-000000000000" for i in range(3)]
    for i, uuid in enumerate(uuids):
        store.writer(
            Run(uuid=uuid, name="same" if i < 2 else "last", fingerprint=FINGERPRINT, dtype="f32",
                created_at=start + timedelta(hours=i)),
            SITES,
        ).close()  # fmt: skip
    assert [run.uuid for run in store.runs()] == uuids
    for ref, found in [("latest", 2), ("run:latest", 2), ("same", 1), ("run:3f2a0000", 0),
                       (uuids[1], 1), ("last", 2)]:  # fmt: skip
        assert store.run(ref).uuid == uuids[found]
    with pytest.raises(LookupError, match=r"run '3f2a' is ambiguous: .* 3f2a0002 \(last\), 3f2a"):
        store.run("run:3f2a")
    with pytest.raises(LookupError, match=r"no run 'nope': there are 3f2a0002 \(last\), .*\(same"):
        store.read("nope")
    with pytest.raises(LookupError, match="no run '': there are"):
        store.run("")
    with pytest.raises(LookupError, match="no artifact 'x': there is none yet"):
        store.load_artifact("x")


def test_a_name_of_a_user_never_becomes_a_path(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    store.save_artifact(make_artifact("../../evil"), {"../x": np.ones(2)})
    store.writer(make_run(name="../evil"), SITES).close()
    assert store.load_artifact("../../evil")[1].keys() == {"../x"}
    assert store.read("../evil").n_rows == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{outside}'",
        "WITH x AS (COPY run TO '{outside}') SELECT 1",
        "SELECT * FROM read_csv('{inside}')",
        "SELECT * FROM read_text('{inside}')",
        "SELECT * FROM '{inside}'",
        "SELECT * FROM glob('/*')",
        "ATTACH '{outside}' AS other",
        "EXPORT DATABASE '{outside}'",
        "INSERT INTO kept.run SELECT * FROM kept.run",
        "DELETE FROM kept.token",
        "UPDATE kept.run SET why = 'changed'",
        "DROP TABLE kept.token",
        "CREATE TABLE kept.x (a INTEGER)",
        "SET enable_external_access = true",
        "SET memory_limit = '1GB'",
        "INSTALL httpfs",
        "LOAD '{outside}'",
        "SELECT * FROM secret",
        "SELECT * FROM nowhere",
        "SELEC 1",
    ],
)
def test_sql_can_neither_write_nor_reach_outside_the_store(tmp_path: Path, query: str) -> None:
    secret = pa.table({"x": [1]})  # DuckDB would find it by its name, were that not forbidden
    store = Store.open(tmp_path / "s")
    run = record(store, [make_batch([3])])
    before = store.sql("SELECT * FROM run, token").to_pylist()
    outside, inside = tmp_path / "out", tmp_path / "s" / "runs" / run.uuid / "run.json"
    with pytest.raises(ValueError, match="this SQL did not run"):
        store.sql(query.format(outside=outside, inside=inside))
    assert not outside.exists()
    assert store.sql("SELECT * FROM run, token").to_pylist() == before
    assert secret.num_rows == 1


def test_what_sql_creates_in_memory_is_gone_afterwards(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.sql("DROP VIEW run; CREATE TABLE run AS SELECT 1 AS x; SELECT * FROM run")
    assert "uuid" in store.sql("SELECT * FROM run").column_names


def test_parameters_are_values_never_sql(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    text = "'; DROP TABLE run; --"
    assert store.sql("SELECT ? AS x", [text]).to_pylist() == [{"x": text}]
    assert store.sql("SELECT $1 + $2 AS x", (1, 2)).to_pylist() == [{"x": 3}]


@pytest.mark.parametrize("sites", [{}, {Site("embed"): 0}])
def test_a_run_needs_sites_with_a_width(tmp_path: Path, sites: dict[Site, int]) -> None:
    with pytest.raises(ValueError, match="a run needs sites of positive width"):
        Store.open(tmp_path).writer(make_run(), sites)


def test_the_default_shard_is_about_64_mb_of_rows(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for d, rows_wanted in [(8192, 2048), (4, 65536), (2**26, 1)]:
        run = make_run(dtype="f32")
        store.writer(run, {Site("embed"): d}).close()
        found = json.loads((tmp_path / "runs" / run.uuid / "run.json").read_text())
        assert found["shard_rows"] == rows_wanted


def test_the_store_imports_no_torch() -> None:
    code = "import sys, store.queries, store.verify; sys.exit('torch' in sys.modules)"
    root = str(Path(__file__).parents[1])
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
    planted = "import sys; sys.modules['torch'] = sys;" + code
    assert subprocess.run([sys.executable, "-c", planted], cwd=root, check=False).returncode == 1


def test_the_package_offers_what_it_lists_and_says_so_otherwise() -> None:
    import store

    assert len(set(store.__all__)) == len(store.__all__)
    assert all(getattr(store, name) for name in store.__all__)
    with pytest.raises(AttributeError, match="module 'store' has no 'Shop': it has"):
        _ = store.Shop


def test_sql_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this SQL gives no rows: ''; write a SELECT"):
        Store.open(tmp_path).sql("")
