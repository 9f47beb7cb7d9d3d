"""Files: whoever may not write is told so, and leaves nothing behind."""

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_samples import FINGERPRINT, SITES, make_batch, make_run, record

from store import Artifact, Store, UnwritableError


def make_artifact(name: str = "kind", **settings: object) -> Artifact:
    return Artifact(
        name=name, method="steering:ICV", kind="v", fingerprint=FINGERPRINT, settings=settings
    )


def test_a_store_opened_for_reading_only_answers_and_is_left_untouched(tmp_path: Path) -> None:
    run = record(Store.open(tmp_path), [make_batch([3])])
    before = sorted(tmp_path.rglob("*"))
    with Store.open(tmp_path, read_only=True) as store:
        assert store.sql("SELECT count(vec[1]) AS n FROM activation_4").to_pylist() == [{"n": 3}]
        assert store.read(run.uuid).n_rows == 3
        for write in (
            lambda: store.writer(make_run(), SITES),
            lambda: store.save_artifact(make_artifact(), {}),
            lambda: store.add_results("evaluation", pa.table({"x": [1]}), about={"a": 1}),
        ):
            with pytest.raises(UnwritableError, match="it was opened read-only, or its permission"):
                write()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_user_without_permission_may_read_and_is_told_when_writing() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        place = Path(home) / "s"
        record(Store.open(place), [make_batch([3])])
        for path in (Path(home), place):
            path.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(
                f"""
                import os, sys
                sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
                import pyarrow.parquet
                from store import Store, StoreError, UnwritableError
                from store.store import *
                from store_samples import *
                import duckdb; duckdb.connect().close()
                if os.geteuid() == 0:
                    os.setuid(65534)
                store = Store.open({str(place)!r})
                print(store.sql("SELECT count(vec[1]) AS n FROM activation_8").to_pylist())
                for act in (
                    lambda: store.writer(make_run(), SITES),
                    lambda: Store.open({home!r} + "/new"),
                ):
                    try:
                        act()
                    except UnwritableError as error:
                        print(error)
                """
            )],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for path in (Path(home), place):
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    answer, writing, opening = done.stdout.splitlines()
    assert answer == "[{'n': 6}]"
    assert "its permissions forbid it" in writing
    assert "new: Permission denied; nothing of it was kept" in opening


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.save_artifact(
            Artifact(name="a", method="m:M", kind="v", fingerprint=FINGERPRINT), {"x": np.ones(2)}
        ),
        lambda store: store.add_results("evaluation", pa.table({"x": [1]}), about={"a": 1}),
        lambda store: store.writer(make_run(), SITES),
        lambda store: Store.open(store.path / "another"),
    ],
    ids=["artifact", "results", "run", "store"],
)
def test_a_full_disk_leaves_no_file_of_what_could_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Store], object]
) -> None:
    store = Store.open(tmp_path)
    store.sql("SELECT 1")
    before = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    real = os.fsync

    def full(handle: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112 - not a path of ours
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr("store.files.os.fsync", full)
    with pytest.raises(UnwritableError, match="No space left on device; nothing of it was kept"):
        act(store)
    monkeypatch.undo()
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == before
    assert store.runs() == []
    assert store.artifacts() == []


def test_a_disk_too_full_for_the_catalog_keeps_the_old_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(
            f"""
            import resource, sys
            sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
            from store import Store, UnwritableError
            from store_samples import *
            store = Store.open({str(tmp_path)!r})
            record(store, [make_batch([3])])
            print(store.sql("SELECT count(*) AS n FROM run").to_pylist())
            record(store, [make_batch([3])])
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            try:
                store.sql("SELECT 1")
            except UnwritableError as error:
                print(error)
            """
        )],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "[{'n': 1}]\ncannot write" in done.stdout
    assert not list(tmp_path.glob("*.tmp*"))
    answer = Store.open(tmp_path).sql("SELECT count(*) AS n FROM run")
    assert answer.to_pylist() == [{"n": 2}]
