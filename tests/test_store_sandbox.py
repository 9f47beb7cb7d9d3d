"""The sandbox: what strangers type can read the store within limits, and nothing more."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_samples import FINGERPRINT, make_batch, make_run, record

from store import Artifact, Store, connections
from store.sandbox import ENVIRONMENT, Limits, ask, config

BATCH = make_batch([5, 3])

ATTACKS = {
    "read a file": "SELECT * FROM read_csv('/etc/passwd')",
    "read a file by name": "SELECT * FROM '/etc/passwd'",
    "read text": "SELECT * FROM read_text('{shard}')",
    "read bytes": "SELECT * FROM read_blob('{shard}')",
    "read parquet": "SELECT * FROM read_parquet('{inside}/*.parquet')",
    "glob": "SELECT * FROM glob('/*')",
    "copy out": "COPY (SELECT 1) TO '{outside}'",
    "overwrite a shard": "COPY (SELECT 1) TO '{shard}'",
    "writing CTE": "WITH x AS (COPY run TO '{outside}') SELECT 1",
    "writing CTE over a shard": "WITH x AS (COPY run TO '{shard}') SELECT 1",
    "inserting CTE": "WITH x AS (INSERT INTO kept.run SELECT * FROM kept.run RETURNING 1) SELECT 1",
    "explain analyze insert": "EXPLAIN ANALYZE INSERT INTO kept.run SELECT * FROM kept.run",
    "export": "EXPORT DATABASE '{outside}'",
    "import": "IMPORT DATABASE '{inside}'",
    "attach": "ATTACH '{outside}' AS other",
    "attach the catalog": "ATTACH '{catalog}' AS other (READ_WRITE)",
    "install": "INSTALL httpfs",
    "load": "LOAD '{outside}'",
    "unlock": "SET lock_configuration = false",
    "external access": "SET enable_external_access = true",
    "more memory": "SET memory_limit = '100GB'",
    "no time limit": "SET max_execution_time = 0",
    "temp directory": "SET temp_directory = '{outside}'",
    "python variables": "SELECT * FROM request",
    "environment": "SELECT getenv('HOME')",
    "log to a file": "CALL enable_logging(storage = 'file', storage_path = '{outside}')",
    "profile to a file": "PRAGMA profiling_output = '{outside}'",
    "delete": "DELETE FROM kept.token",
    "update": "UPDATE kept.run SET why = 'changed'",
    "drop": "DROP TABLE kept.token",
    "create": "CREATE TABLE kept.x (a INTEGER)",
    "secret": "CREATE PERSISTENT SECRET s (TYPE s3)",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("sandbox") / "lab") as opened:
        record(opened, [BATCH], run=make_run(name="mine"))
        made = Artifact(name="kind", method="m:M", kind="v", fingerprint=FINGERPRINT)
        opened.save_artifact(made, {"resid_post.0": np.ones(8, np.float32)})
        opened.catalog.refresh()
        yield opened


def test_a_question_is_answered_as_the_store_answers_it(store: Store) -> None:
    query = (
        "SELECT row, vec, act_dot(run_id, 0::USMALLINT, row, 'kind') AS x FROM activation_8 "
        "WHERE site_id = 0 AND row < $1 ORDER BY row"
    )
    assert ask(store, query, [5]) == store.sql(query, [5])
    store.catalog.close()
    assert ask(store, "SELECT row FROM token", limits=Limits(rows=3)).num_rows == 3


HARMLESS = ["DETACH kept", "FORCE CHECKPOINT kept", "CREATE TABLE mine AS SELECT 1 AS x"]
"""They run, in a process that ends right after, and change nothing that stays."""


def refused(store: Store, outside: Path, answer: Callable[[str], pa.Table]) -> None:
    """Try every attack: all are refused, and no file is changed, or made elsewhere."""
    inside = store.read("mine").directory
    names = {
        "shard": inside / "00000.d8.safetensors", "inside": inside,
        "outside": outside / "out", "catalog": store.catalog.file,
    }  # fmt: skip
    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    for attack in ATTACKS.values():
        with pytest.raises(ValueError, match="this SQL"):
            answer(attack.format(**names))
    for query in HARMLESS:
        with suppress(ValueError):
            answer(query)
    assert list(outside.iterdir()) == []
    after = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    assert after == before


def test_the_connection_alone_writes_nothing_and_reads_nothing_outside(
    store: Store, tmp_path: Path
) -> None:
    def answer(query: str) -> pa.Table:
        with store.catalog.prepared(config(Limits())) as prepared:
            return connections.ask(prepared, query, [])

    refused(store, tmp_path, answer)


@pytest.mark.slow
def test_nothing_can_be_written_and_nothing_outside_be_read(store: Store, tmp_path: Path) -> None:
    refused(store, tmp_path, lambda query: ask(store, query))


def test_the_process_can_write_no_file_and_knows_no_secrets(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    with pytest.raises(ValueError, match="this SQL did not run"):
        ask(store, f"WITH x AS (COPY run TO '{tmp_path / 'out'}') SELECT 1")
    code = (
        "import os; from store.sandbox import Limits, confine; confine(Limits())\n"
        f"try: open({str(tmp_path / 'out')!r}, 'wb', 0).write(b'x')\n"
        "except OSError as error: print(error)"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stdout
    assert "SECRET" not in ENVIRONMENT


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ("SELECT repeat('a', 2000000000) AS x", Limits(memory=1 << 29)),
        ("SELECT list(a.i) FROM range(100000000) a(i)", Limits(memory=1 << 29)),
        ("WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT max(i) FROM t",
         Limits(seconds=2)),
        ("SELECT count(*) FROM range(1000000) a, range(1000000) b", Limits(seconds=2)),
    ],
    ids=["one huge value", "a huge list", "endless recursion", "a huge join"],
)  # fmt: skip
def test_a_question_that_takes_too_much_is_stopped_and_the_next_is_answered(
    store: Store, query: str, limits: Limits
) -> None:
    with pytest.raises(ValueError, match="this SQL (took|did not run)"):
        ask(store, query, limits=limits)
    assert ask(store, "SELECT count(*) AS n FROM token").to_pylist() == [{"n": 8}]


def test_a_process_that_dies_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.sandbox.sys.executable", "/bin/false")
    with pytest.raises(ValueError, match=r"or ended its process \(code 1\): ask for less"):
        ask(store, "SELECT 1")
