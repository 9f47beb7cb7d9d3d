"""The catalog: derived, replaceable, never in the way; vectors in SQL are read only when wanted."""

import subprocess
import sys
import textwrap
from pathlib import Path
from threading import Thread

import duckdb
import numpy as np
import pytest
from store_samples import Batch, make_batch, make_run, record

from store import BusyError, NewerFormatError, Site, Store
from store.catalog import FILE, Catalog
from store.locks import alone
from store.migrations import MIGRATIONS, TABLES, migrate

POST = Site("resid_post", 0)


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


def test_a_damaged_catalog_is_built_anew(
    tmp_path: Path, batches: list[Batch], caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(tmp_path)
    record(store, batches)
    before = everything(store)
    (tmp_path / FILE).write_bytes(b"not a database")
    assert everything(store) == before
    assert "is unreadable and will be built anew" in caplog.text


def test_a_catalog_of_a_newer_program_is_refused_and_not_overwritten(
    tmp_path: Path, batches: list[Batch]
) -> None:
    store = Store.open(tmp_path)
    record(store, batches)
    everything(store)
    con = duckdb.connect(str(tmp_path / FILE))
    con.execute("INSERT INTO schema_version (version, name) VALUES (999, 'of the future')")
    con.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(NewerFormatError, match=r"schema 999 .* knows up to \d+: upgrade it, or d"):
        Store.open(tmp_path).sql("SELECT 1")
    assert (tmp_path / FILE).read_bytes() == before


def test_migrations_are_recorded_by_name_and_applied_once(tmp_path: Path) -> None:
    con = duckdb.connect(str(tmp_path / "c.duckdb"))
    migrate(con)
    migrate(con)
    rows = con.execute("SELECT version, name FROM schema_version ORDER BY version").fetchall()
    con.close()
    assert rows == [(i, step.__name__) for i, step in enumerate(MIGRATIONS, start=1)]


def test_a_catalog_of_an_older_schema_is_brought_up_to_date(
    tmp_path: Path, batches: list[Batch]
) -> None:
    store = Store.open(tmp_path)
    record(store, batches)
    before = everything(store)
    con = duckdb.connect(str(tmp_path / FILE))
    con.execute("DELETE FROM schema_version")
    con.close()
    assert everything(Store.open(tmp_path)) == before


def test_what_a_killed_refresh_left_is_swept_by_the_next(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    left = tmp_path / f"{FILE}.0badcafe.tmp"
    left.write_bytes(b"half")
    record(store, [make_batch([2])])
    store.sql("SELECT 1")
    assert not left.exists()


def test_two_that_refresh_at_once_wait_for_each_other_and_at_last_say_who_is_waited_for(
    tmp_path: Path,
) -> None:
    with (
        alone(tmp_path / "lock"),
        pytest.raises(BusyError, match=r"lock has been held for 0.05 s"),
        alone(tmp_path / "lock", patience=0.05),
    ):
        pass
    with alone(tmp_path / "lock", patience=0):
        pass


def test_a_reader_keeps_the_catalog_it_opened_while_another_refreshes(
    tmp_path: Path, batches: list[Batch]
) -> None:
    store, catalog = Store.open(tmp_path), Catalog(tmp_path, tmp_path)
    record(store, batches)
    catalog.refresh()
    with catalog.asking() as con:
        assert con.sql("SELECT count(*) FROM token").fetchall() == [(50,)]
        record(store, batches)
        assert store.sql("SELECT count(*) AS n FROM token").to_pylist() == [{"n": 100}]
        assert con.sql("SELECT count(*) FROM token").fetchall() == [(50,)]


def test_sql_answers_while_another_process_writes_and_sees_only_whole_prompts(
    tmp_path: Path,
) -> None:
    Store.open(tmp_path)
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(
            f"""
            import sys; sys.path[:0] = {places!r}
            from store import Store
            from store_samples import *
            store = Store.open({str(tmp_path)!r})
            with store.writer(make_run(name="theirs"), SITES, shard_rows=8) as writer:
                for seed in range(40):
                    batch = make_batch([5, 3], seed=seed)
                    writer.add(batch.tensors, batch.tokens, batch.prompts)
                    store.sql("SELECT 1") if seed % 10 == 0 else None
            """
        )],
    )  # fmt: skip
    store, counts = Store.open(tmp_path), []
    while child.poll() is None:
        (row,) = store.sql(
            "SELECT (SELECT count(*) FROM token) AS tokens, (SELECT sum(n) FROM prompt) AS owed, "
            "(SELECT count(vec[1]) FROM activation_8 WHERE site_id = 0) AS vectors"
            if counts and counts[-1]
            else "SELECT count(*) AS tokens, count(*) AS owed, count(*) AS vectors FROM token"
        ).to_pylist()
        assert row["tokens"] == row["owed"] == row["vectors"]
        assert row["tokens"] % 8 == 0
        counts.append(row["tokens"])
    assert child.returncode == 0
    assert counts == sorted(counts)
    assert store.sql("SELECT count(*) AS n FROM token").to_pylist() == [{"n": 320}]
    assert store.read("theirs").n_rows == 320


def test_several_threads_ask_and_read_while_one_writes(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    record(store, [make_batch([8])], run=make_run(name="first"))
    expected, wrong = make_batch([8]).tensors[POST], []

    def reads() -> None:
        for _ in range(6):
            answer = store.sql(
                "SELECT vec FROM activation_8 WHERE run_name = 'first' AND site_id = 0 ORDER BY row"
            )
            got = answer.column("vec").combine_chunks().flatten().to_numpy().reshape(-1, 8)
            if not (np.array_equal(got, expected) and store.read("first").n_rows == 8):
                wrong.append(got)

    threads = [Thread(target=reads) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(6):
        record(store, [make_batch([5, 3], seed=seed)])
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.sql("SELECT count(*) AS n FROM run").to_pylist() == [{"n": 7}]


def test_sql_answers_though_another_program_holds_the_catalog_for_writing(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    record(store, [make_batch([3])])
    answer = store.sql("SELECT count(*) AS n FROM token")
    store.close()  # DuckDB lets nobody write a file that an idle connection still reads
    code = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / FILE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            catalog = Catalog(tmp_path, tmp_path)
            with (
                pytest.raises(BusyError, match="close the program that holds it, or delete"),
                catalog.asking(),
            ):
                pass
            with Store.open(tmp_path) as another:
                assert another.sql("SELECT count(*) AS n FROM token") == answer
        finally:
            child.communicate(b"\n")
    assert child.returncode == 0
    assert store.sql("SELECT count(*) AS n FROM token") == answer
    store.close()
