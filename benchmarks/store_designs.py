"""The designs that benchmarks/store.py compares: the same rows, written and read in each."""

import os
import shutil
import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa

from store import Artifact, Fingerprint, Prompt, Run, Site, Store, TokenRows
from store.mapping import Recorded
from store.shards import commits, read_commit

LENGTH = 128
"""Tokens of a prompt."""

BATCH = 4096
"""Rows of a capture batch."""

FINGERPRINT = Fingerprint(model="none", weights_hash="w", tokenizer_hash="t")


class Rows:
    """Rows to write: four batches of Gaussian values, again and again, so that RAM stays small."""

    def __init__(self, *, rows: int, sites: int, d: int) -> None:
        rng = np.random.default_rng(0)
        self.rows, self.sites, self.d = rows, sites, d
        scale = rng.uniform(0.5, 2, d).astype(np.float32)
        scale[:4] *= 30
        values = rng.standard_normal((4, sites, BATCH, d), dtype=np.float32) * scale
        self.direction = rng.normal(size=d).astype(np.float32)
        self._held = {
            "f32": values,
            "bf16": (values.view(np.uint32) >> 16).astype(np.uint16),
        }

    def bytes(self, dtype: str) -> int:
        """Count the bytes of all rows."""
        return self.rows * self.sites * self.d * self._held[dtype].itemsize

    def batches(self, dtype: str) -> Iterator[np.ndarray]:
        """Give [site, row, d] for every batch, without copying."""
        for number in range(self.rows // BATCH):
            yield self._held[dtype][number % 4]

    def tokens(self) -> tuple[TokenRows, list[Prompt]]:
        """Give the tokens and prompts of a batch."""
        rows = np.arange(BATCH)
        tokens = TokenRows(prompt=rows // LENGTH, pos=rows % LENGTH, token_id=rows % 50_000,
                           token_str=np.full(BATCH, " the"))  # fmt: skip
        return tokens, [Prompt(text=f"text {i}", tags=("a",)) for i in range(BATCH // LENGTH)]


class Design(Protocol):
    """A way to keep rows."""

    @abstractmethod
    def write(self) -> None:
        """Write all rows, durably."""

    @abstractmethod
    def scan(self, site: int) -> np.ndarray:
        """Read a site."""

    @abstractmethod
    def gather(self, site: int, rows: np.ndarray) -> np.ndarray:
        """Read some rows of a site."""

    @abstractmethod
    def prompt(self, index: int) -> np.ndarray:
        """Read one prompt at every site."""

    @abstractmethod
    def close(self) -> None:
        """Remove it."""


def save_arrays(made: Rows, folder: Path, dtype: str) -> None:
    """Write every batch with np.save and fsync: the limit."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, batch in enumerate(made.batches(dtype)):
        with (folder / f"{number}.npy").open("wb") as file:
            np.save(file, batch)
            file.flush()
            os.fsync(file.fileno())
    shutil.rmtree(folder)


@dataclass(eq=False)
class Ours:
    """This store."""

    made: Rows
    path: Path
    dtype: str
    norm_seconds: float = 0.0

    def write(self) -> None:
        """Write and seal a run."""
        sites = [Site("resid_post", layer) for layer in range(self.made.sites)]
        tokens, prompts = self.made.tokens()
        self.store = Store.open(self.path)
        run = Run(fingerprint=FINGERPRINT, dtype=self.dtype)
        with self.store.writer(run, dict.fromkeys(sites, self.made.d)) as writer:
            for batch in self.made.batches(self.dtype):
                writer.add(dict(zip(sites, batch, strict=True)), tokens, prompts)
        artifact = Artifact(name="q", method="m:M", kind="v", fingerprint=FINGERPRINT)
        self.store.save_artifact(artifact, {"x": self.made.direction})
        self.recorded = self.store.read("latest")

    def scan(self, site: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read a site."""
        return self.recorded.scan(Site("resid_post", site), out)

    def mapped(self, site: int) -> np.ndarray:
        """Map one file of a site's bytes: the limit of a scan."""
        path = self.path / "mapped.npy"
        np.save(path, self.scan(site))
        return np.load(path, mmap_mode="r")

    def gather(self, site: int, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Read some rows."""
        return self.recorded.gather(Site("resid_post", site), rows, out)

    def prompt(self, index: int) -> np.ndarray:
        """Read one prompt at every site."""
        return np.stack([self.recorded.prompt(index, site) for site in self.recorded.sites])

    def top(self, site: int) -> np.ndarray:
        """Find how far the ten rows reach that reach furthest along the direction, in SQL."""
        query = (
            f"SELECT row, act_dot(run_id, {site}::USMALLINT, row, 'q') AS x FROM token "
            "ORDER BY x DESC LIMIT 10"
        )
        return self.store.sql(query).column("x").to_numpy()

    def norms(self) -> None:
        """Average the norms of every site in SQL."""
        self.store.sql(
            "SELECT site_id, avg(sqrt(array_inner_product(vec, vec))) "
            f"FROM activation_{self.made.d} GROUP BY site_id"
        )

    def close(self) -> None:
        """Remove it."""
        self.store.close()
        shutil.rmtree(self.path)


class Native:
    """A DuckDB table of FLOAT[d], uncompressed, with row groups that suit it."""

    def __init__(self, made: Rows, path: Path) -> None:
        self.made, self.path = made, path

    def write(self) -> None:
        """Insert batch by batch, each committed."""
        self.path.mkdir()
        self.con = duckdb.connect(config={"preserve_insertion_order": "true"})
        self.con.execute("SET force_compression = 'uncompressed'")
        self.con.execute(f"ATTACH '{self.path / 'x.duckdb'}' AS t (ROW_GROUP_SIZE 24576)")
        self.con.execute(f"CREATE TABLE t.x(site USMALLINT, row BIGINT, vec FLOAT[{self.made.d}])")
        for number, batch in enumerate(self.made.batches("f32")):
            for site, rows in enumerate(batch):
                vec = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), self.made.d)
                ids = np.arange(number * BATCH, (number + 1) * BATCH)
                sites = pa.array(np.full(BATCH, site, np.uint16))
                self.con.register("b", pa.table({"site": sites, "row": ids, "vec": vec}))
                self.con.execute("INSERT INTO t.x SELECT * FROM b")
                self.con.unregister("b")
        self.con.execute("CHECKPOINT t")

    def scan(self, site: int) -> np.ndarray:
        """Read a site."""
        return self._vectors(f"SELECT vec FROM t.x WHERE site = {site}")

    def gather(self, site: int, rows: np.ndarray) -> np.ndarray:
        """Read some rows, in no order."""
        self.con.register("wanted", pa.table({"row": np.unique(rows)}))
        query = f"SELECT vec FROM t.x JOIN wanted USING (row) WHERE site = {site}"
        return self._vectors(query)

    def prompt(self, index: int) -> np.ndarray:
        """Read one prompt at every site."""
        first = index * LENGTH
        query = (
            f"SELECT vec FROM t.x WHERE row BETWEEN {first} AND {first + LENGTH - 1} "
            "ORDER BY site, row"
        )
        return self._vectors(query).reshape(self.made.sites, LENGTH, self.made.d)

    def norms(self) -> None:
        """Average the norms of every site."""
        query = "SELECT site, avg(sqrt(array_inner_product(vec, vec))) FROM t.x GROUP BY site"
        self.con.execute(query).fetchall()

    def close(self) -> None:
        """Remove it."""
        self.con.close()
        shutil.rmtree(self.path)

    def _vectors(self, query: str) -> np.ndarray:
        column = self.con.sql(query).to_arrow_table().column("vec").combine_chunks()
        return column.flatten().to_numpy().reshape(-1, self.made.d)


def opening(path: Path, shards: int) -> tuple[float, float]:
    """Write small shards; time opening their run, and reading the commit records alone."""
    with Store.open(path) as store:
        site = Site("embed")
        with store.writer(Run(fingerprint=FINGERPRINT, dtype="f32"), {site: 4}, shard_rows=1) as to:
            one = TokenRows(prompt=np.zeros(1, np.int64), pos=np.zeros(1, np.int64),
                            token_id=np.zeros(1, np.int64), token_str=["a"])  # fmt: skip
            for _ in range(shards):
                to.add({site: np.ones((1, 4), np.float32)}, one, [Prompt(text="a")])
        directory = store.read("latest").directory
        best = [float("inf"), float("inf")]
        for _ in range(3):
            times = [time.perf_counter()]
            Recorded(directory)
            times.append(time.perf_counter())
            [read_commit(file) for file in commits(directory)]
            times.append(time.perf_counter())
            best = [min(a, b) for a, b in zip(best, np.diff(times), strict=True)]
    return best[0], best[1]
