"""Artifacts and results: kept as given, found by name, refused when nobody could read them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_samples import FINGERPRINT

from store import (
    Artifact,
    DamagedError,
    Store,
    TokenRows,
)

DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32",
          "uint16", "uint8", "bool"]  # fmt: skip


def make_artifact(name: str = "kind", **settings: object) -> Artifact:
    return Artifact(
        name=name, method="steering:ICV", kind="v", fingerprint=FINGERPRINT, settings=settings
    )


def rows(**columns: object) -> TokenRows:
    usual = {"prompt": np.array([0, 1]), "pos": np.zeros(2, int), "token_id": np.zeros(2, int),
             "token_str": ["a", "b"]}  # fmt: skip
    return TokenRows(**{**usual, **columns})


@settings(max_examples=15, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.data())
def test_arrays_of_any_dtype_and_shape_come_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    names = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda n: n != "__metadata__")
    arrays = {}
    for key in data.draw(st.lists(names, max_size=4, unique=True)):
        shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
        count = int(np.prod(shape))
        raw = np.arange(count * 8, dtype=np.uint8) * 37 % 2
        dtype = data.draw(st.sampled_from(DTYPES))
        arrays[key] = raw.view("uint8")[:count].astype(dtype).reshape(shape)
        if data.draw(st.booleans()) and arrays[key].dtype.itemsize > 1:
            arrays[key] = arrays[key].astype(arrays[key].dtype.newbyteorder(">"))
    store = Store.open(tmp_path_factory.mktemp("s"))
    made = store.save_artifact(make_artifact(k=1), arrays)
    found, got = store.load_artifact("artifact:kind")
    assert found == made
    assert got.keys() == arrays.keys()
    for key, array in arrays.items():
        assert got[key].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(got[key], array)


def test_artifacts_of_one_name_keep_their_history_and_the_newest_is_meant(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    first = store.save_artifact(make_artifact(strength=1), {"resid_post.0": np.ones(8)})
    second = store.save_artifact(make_artifact(strength=2), {"resid_post.0": np.zeros(8)})
    assert store.artifacts() == [first, second]
    assert store.load_artifact("kind")[0] == second
    assert store.load_artifact(first.uuid)[1]["resid_post.0"].tolist() == [1.0] * 8
    with pytest.raises(ValueError, match=f"artifact {first.uuid} exists"):
        store.save_artifact(first, {"x": np.ones(1)})
    rows = store.sql("SELECT name, site, d, vec FROM direction ORDER BY vec").to_pylist()
    assert [row["vec"][0] for row in rows] == [0.0, 1.0]
    assert rows[0]["name"] == "kind/resid_post.0"
    assert (rows[0]["site"], rows[0]["d"]) == ("resid_post.0", 8)


def test_a_damaged_artifact_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    artifact = store.save_artifact(make_artifact(), {"x": np.ones(4)})
    path = tmp_path / "artifacts" / artifact.uuid / "arrays.safetensors"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1] + b"\0")
    with pytest.raises(DamagedError, match=r"arrays.safetensors is damaged: its xxh3 is"):
        store.load_artifact("kind")


def test_an_artifact_that_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with pytest.raises(ValueError, match="array 'c' is complex128: safetensors hold"):
        store.save_artifact(make_artifact(), {"c": np.ones(2, complex)})
    with pytest.raises(ValueError, match="cannot be called __metadata__"):
        store.save_artifact(make_artifact(), {"__metadata__": np.ones(2)})
    assert store.artifacts() == []


def test_results_are_rows_of_a_table_of_their_kind_with_what_they_are_about(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    assert store.sql("SELECT * FROM evaluation").num_rows == 0
    first = store.add_results("evaluation", pa.table({"x": [1, 2]}), about={"run": "r1"})
    half = pa.table({"x": [0.5], "y": np.array([0.25], np.float16)})
    second = store.add_results("evaluation", half, about={"run": "r2", "why": "ü"})
    rows = store.sql("SELECT * FROM evaluation ORDER BY x").to_pylist()
    assert rows == [
        {"result": second, "x": 0.5, "y": 0.25},
        {"result": first, "x": 1.0, "y": None},
        {"result": first, "x": 2.0, "y": None},
    ]
    answer = store.sql(
        "SELECT x, about->>'run' AS run FROM evaluation JOIN result ON result.uuid = result "
        "WHERE kind = ? ORDER BY x", ["evaluation"],
    )  # fmt: skip
    assert answer.column("run").to_pylist() == ["r2", "r1", "r1"]


@pytest.mark.parametrize(
    ("kind", "rows", "about", "message"),
    [
        ("run", {"x": [1]}, {"a": 1}, "results cannot be called 'run'"),
        ("activation_8", {"x": [1]}, {"a": 1}, "results cannot be called 'activation_8'"),
        ("../x", {"x": [1]}, {"a": 1}, "use small letters, digits and _"),
        ("evaluation", {"x": [1]}, {}, "evaluation rows say nothing about themselves"),
        ("evaluation", {"x": [1]}, {"a": np.ones(1)}, "about must be JSON"),
        ("evaluation", {"result": [1]}, {"a": 1}, "none of them called result"),
        ("evaluation", {}, {"a": 1}, "a result table needs columns"),
        ("evaluation", {"score": [{"a": 1}]}, {"a": 1}, "score was DOUBLE and is STRUCT"),
    ],
)
def test_results_that_sql_could_not_show_are_refused(
    tmp_path: Path, kind: str, rows: dict, about: dict, message: str
) -> None:
    store = Store.open(tmp_path)
    store.add_results("evaluation", pa.table({"score": [1.0]}), about={"run": "r1"})
    with pytest.raises(ValueError, match=message):
        store.add_results(kind, pa.table(rows), about=about)
    assert store.sql("SELECT count(*) AS n FROM result").to_pylist() == [{"n": 1}]


def test_arrays_come_back_in_the_order_they_were_saved_in(tmp_path: Path) -> None:
    keys = [f"resid_post.{i}" for i in (7, 3, 11, 0, 5, 2, 9, 1)]
    made = Artifact(name="a", method="m:M", kind="v", fingerprint=FINGERPRINT)
    with Store.open(tmp_path) as store:
        store.save_artifact(made, {key: np.ones(2) for key in keys})
        for _ in range(3):
            assert list(store.load_artifact("a")[1]) == keys
