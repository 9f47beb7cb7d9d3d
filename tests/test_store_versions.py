"""A store of every released version opens: as it is, copied, and by a catalog of its own time."""

import shutil
from pathlib import Path

import duckdb
import numpy as np
import pytest
from store_samples import SITES, joined, make_batch
from test_store_fold import everything

from store import Store, queries
from store.catalog import FILE
from store.migrations import MIGRATIONS
from store.resuming import resume
from store.verify import findings

RELEASED = sorted((Path(__file__).parent / "fixtures" / "store").iterdir())


@pytest.fixture(params=RELEASED, ids=lambda path: path.name)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return shutil.copytree(request.param, tmp_path / "lab")


def test_every_row_of_an_old_store_is_what_it_was(place: Path) -> None:
    with Store.open(place) as store:
        assert findings(store)[1].num_rows == 0
        for dtype in ("f32", "f16", "bf16"):
            batches = [make_batch([5, 0, 3], seed=seed, dtype=dtype) for seed in range(2)]
            recorded = store.read(dtype)
            assert recorded.status == "sealed"
            assert recorded.prompts == [one for batch in batches for one in batch.prompts]
            for site in SITES:
                assert np.array_equal(recorded.scan(site), joined(batches, site))
        artifact, arrays = store.load_artifact("kind")
        assert (artifact.settings, arrays["resid_post.0"].tolist()) == ({"k": 1}, [*range(8)])
        assert store.sql("SELECT x FROM evaluation").to_pylist() == [{"x": 0.5}]
        assert queries.moments(store, "f32").column("n").to_pylist() == [16, 16, 16]
        with resume(store, "killed") as writer:
            batch = make_batch([2])
            writer.add(batch.tensors, batch.tokens, batch.prompts)
        assert store.read("killed").n_rows == 10


def test_an_old_catalog_and_one_built_anew_say_the_same(place: Path) -> None:
    with Store.open(place) as store:
        kept = everything(store)
        (place / FILE).unlink()
        assert everything(store) == kept
        assert len(kept["run"]) == 4


def test_an_old_store_may_lie_where_nothing_can_be_written(place: Path) -> None:
    with Store.open(place, read_only=True) as store:
        assert store.sql("SELECT count(vec[1]) AS n FROM activation_4").to_pylist() == [{"n": 56}]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_catalog_of_an_older_schema_is_replaced_not_trusted(place: Path, version: int) -> None:
    with Store.open(place) as store:
        expected = everything(store)
    (place / FILE).unlink()
    with duckdb.connect(str(place / FILE)) as con:
        con.execute("CREATE TABLE schema_version(version INTEGER, name VARCHAR)")
        for number, step in enumerate(MIGRATIONS[:version], start=1):
            step(con)
            con.execute("INSERT INTO schema_version VALUES (?, ?)", [number, step.__name__])
    with Store.open(place) as store:
        assert everything(store) == expected
