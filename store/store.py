"""Store: a directory of what was seen and learned; it reads and writes records, and runs SQL.

Questions about them are functions in queries.py. Methods may be called from several threads.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from store import artifacts, runs
from store.catalog import Catalog
from store.errors import NewerFormatError, StoreError, UnwritableError
from store.files import publish_json, read_json, writing
from store.mapping import Recorded
from store.records import Artifact, Run, now
from store.sites import Site
from store.tensors import STORED
from store.writer import Writer

MARKER = "store.json"

FORMAT = 1
"""Version of the directory's layout; a higher one is refused."""

SHARD_BYTES = 64 << 20
"""About how large a shard is when its rows are not chosen: few files, and two fit in memory."""

SHARD_ROWS = 1 << 16
"""At most this many rows in such a shard, however narrow."""


class Store:
    """One store, opened: `Store.open(path)`."""

    def __init__(self, path: Path, catalog: Catalog, private: TemporaryDirectory | None) -> None:
        self.path = path
        self.catalog = catalog
        """The index, for functions of this package."""
        self._private = private

    @staticmethod
    def open(path: str | Path, *, create: bool = True, read_only: bool = False) -> "Store":
        """Open the store in a directory, beginning one where there is nothing yet.

        `read_only` writes nothing there, not even the catalog, of which it then keeps a private
        copy. Raises StoreError for a directory that is something else, NewerFormatError,
        UnwritableError, and LookupError when there is none and none may be made.
        """
        root = Path(path).absolute()
        if not (root / MARKER).exists():
            _begin(root, allowed=create and not read_only)
        _check_format(root / MARKER)
        if not read_only and os.access(root, os.W_OK):
            return Store(root, Catalog(root, root), None)
        private = TemporaryDirectory(prefix="workbench-catalog-")
        return Store(root, Catalog(root, Path(private.name)), private)

    def close(self) -> None:
        """Let go of what is held outside the store; writers are closed by themselves."""
        self.catalog.close()
        if self._private is not None:
            self._private.cleanup()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def writer(
        self, run: Run, sites: Mapping[Site, int], *, shard_rows: int | None = None
    ) -> Writer:
        """Begin a run that records sites of these widths; its provenance is durable at once.

        A shard holds `shard_rows` rows (default: about 64 MB of them), give or take a prompt.
        Raises ValueError for a run that exists, and UnwritableError.
        """
        if not sites or min(sites.values()) < 1 or (shard_rows is not None and shard_rows < 1):
            raise ValueError(
                f"a run needs sites of positive width and shards of at least one row, not "
                f"{ {str(site): d for site, d in sites.items()} } and {shard_rows}"
            )
        row_bytes = sum(sites.values()) * STORED[run.dtype].itemsize
        rows = shard_rows or min(SHARD_ROWS, max(1, SHARD_BYTES // row_bytes))
        opening = runs.Opening(run=run, sites=dict(sites), shard_rows=rows)
        directory = self.writable("runs") / run.uuid
        return Writer(directory, opening, runs.start(directory, opening))

    def runs(self) -> list[Run]:
        """List all runs, oldest first."""
        found = [
            runs.read_opening(directory).run
            for directory in runs.directories(self.path / "runs", runs.RUN)
        ]
        return sorted(found, key=lambda run: run.created_at)

    def run(self, ref: str) -> Run:
        """Find a run: latest, its name (the newest so called) or the beginning of its uuid.

        `run:` may stand in front. Raises LookupError naming the runs there are.
        """
        return runs.resolve(ref, self.runs(), "run")

    def read(self, ref: str) -> Recorded:
        """Open what a run has published so far; raises LookupError, DamagedError."""
        return Recorded(self.path / "runs" / self.run(ref).uuid)

    def sql(self, query: str, params: Sequence[Any] = ()) -> pa.Table:
        """Ask in SQL, over everything published so far; nothing can be changed by it.

        Tables: run, site, prompt, token, shard, shard_file, artifact, direction, result, evaluation
        and other kinds of results; activation_<d> has a `vec` for each site of width d;
        act_dot(run_id, site_id, row, 'artifact/key') is the dot product with a direction.
        Raises ValueError for SQL that does not run.
        """
        self.catalog.refresh()
        return self.catalog.answer(query, params)

    def save_artifact(self, artifact: Artifact, arrays: Mapping[str, np.ndarray]) -> Artifact:
        """Keep what was learned; 1-d float arrays can then be named in SQL as directions.

        Raises ValueError for arrays that safetensors cannot hold, and UnwritableError.
        """
        artifacts.save(self.writable("artifacts") / artifact.uuid, artifact, arrays)
        return artifact

    def load_artifact(self, ref: str) -> tuple[Artifact, dict[str, np.ndarray]]:
        """Read an artifact, found as `run` finds runs, and its arrays; raises LookupError."""
        uuid = runs.resolve(ref, self.artifacts(), "artifact").uuid
        artifact, file = artifacts.read(self.path / "artifacts" / uuid)
        return artifact, artifacts.read_arrays(self.path / "artifacts" / uuid, file)

    def artifacts(self) -> list[Artifact]:
        """List all artifacts, oldest first."""
        found = [
            artifacts.read(directory)[0]
            for directory in runs.directories(self.path / "artifacts", artifacts.ARTIFACT)
        ]
        return sorted(found, key=lambda artifact: artifact.created_at)

    def add_results(self, kind: str, rows: pa.Table, *, about: Mapping[str, Any]) -> str:
        """Keep rows that were measured, and return their uuid; SQL has them in the table `kind`.

        `about` says where they come from (run, artifact, settings). Raises ValueError when they
        do not fit earlier rows of the kind, and UnwritableError.
        """
        home = self.writable("results")
        self.catalog.refresh()
        with self.catalog.asking() as con:
            artifacts.check_result(con, kind, rows)
        return artifacts.save_result(home, kind, rows, about)

    def writable(self, name: str = "") -> Path:
        """Name a directory of the store to write into; raises UnwritableError when read-only."""
        if self._private is not None:
            raise UnwritableError(
                f"cannot write {self.path}: it was opened read-only, or its permissions forbid it; "
                "allow writing there, then open it again"
            )
        return self.path / name


def _begin(root: Path, *, allowed: bool) -> None:
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root} is a file: name a directory")
    if root.exists() and any(not path.name.endswith(".tmp") for path in root.iterdir()):
        raise StoreError(
            f"{root} is not a store, and not empty: it has no {MARKER}; name another directory"
        )
    if not allowed:
        raise LookupError(f"no store at {root}: open it with create=True to begin one")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    publish_json(root / MARKER, {"format": FORMAT, "created_at": now().isoformat()})


def _check_format(marker: Path) -> None:
    version = read_json(marker).get("format")
    if not isinstance(version, int):
        raise StoreError(f"{marker} names no format: this is not a store; name another directory")
    if version > FORMAT:
        raise NewerFormatError(
            f"{marker.parent} has format {version} and this program reads up to {FORMAT}: upgrade"
        )
