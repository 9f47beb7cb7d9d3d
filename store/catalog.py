"""catalog.duckdb, derived from the published files: refreshed, rebuilt, and opened to be asked.

Nobody writes to a catalog that others can see. A refresh works on a copy, which is then renamed
over the old one: readers never wait, never see half a refresh, and keep the file they opened.
"""

import logging
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa

from store import connections, fold, migrations
from store.changes import Known, find_work, known
from store.errors import BusyError, UnwritableError
from store.files import sync, writing
from store.locks import alone
from store.sources import Sources
from store.vectors import Vectors

logger = logging.getLogger(__name__)

FILE = "catalog.duckdb"


class Catalog:
    """The index of one store; its file lies in `home`, the store itself or a private place."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.file = root, home / FILE
        self._sources = Sources(root, self.file)
        self._refused: set[Path] = set()
        self._seen: tuple[connections.Signature, Known | None] = ((), None)
        self._lock = Lock()
        self._idle = connections.Idle()
        weakref.finalize(self, self._idle.close)

    def refresh(self) -> None:
        """Bring the catalog up to date with the published files.

        Raises NewerFormatError, BusyError or UnwritableError. A catalog that is lost, damaged
        or of an older schema is built anew.
        """
        if not self._stale():
            return
        with writing(self.file), alone(self.file.with_suffix(".lock")):
            if self._stale():
                self._replace(self._bring_up_to_date)

    def rebuild(self) -> None:
        """Build the catalog anew from the published files; raises as refresh does."""
        self._refused.clear()
        with writing(self.file), alone(self.file.with_suffix(".lock")):
            self._replace(self._fill)

    def compact(self) -> None:
        """Copy the catalog into a file without the room that deleted rows left; as refresh."""
        self.refresh()
        with writing(self.file), alone(self.file.with_suffix(".lock")):
            self._replace(self._copy_rows)

    @contextmanager
    def prepared(
        self, extra: connections.Config | None = None, functions: Vectors | None = None
    ) -> Iterator[connections.Prepared]:
        """Prepare a connection of its own, with further settings of DuckDB's."""
        made = connections.prepare(self.file, self._signature(), functions or self.vectors(), extra)
        try:
            yield made
        finally:
            made.close()

    @contextmanager
    def asking(self, functions: Vectors | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection of its own that can read the catalog and vectors, and nothing else."""
        with self.prepared(functions=functions) as made:
            yield made.con

    def answer(self, query: str, params: Sequence[Any]) -> pa.Table:
        """Ask the catalog as it is; raises as `connections.ask` does.

        One SELECT is asked over a connection that is used again; whatever else on a fresh one.
        """
        signature = self._signature()

        def make() -> connections.Prepared:
            return connections.prepare(self.file, signature, self.vectors())

        with self._idle.borrowed(signature, make) as prepared:
            if connections.only_selects(prepared.con, query):
                return connections.ask(prepared, query, params)
        with self.prepared() as fresh:
            return connections.ask(fresh, query, params)

    def close(self) -> None:
        """Close the connections that wait for the next question."""
        self._idle.close()

    def vectors(self) -> Vectors:
        """Make the functions for one connection."""
        return Vectors(self._sources.reader(), self._sources.direction)

    def _stale(self) -> bool:
        known = self._known()
        return known is None or bool(find_work(self.root, known, frozenset(self._refused)))

    def _known(self) -> Known | None:
        """What the catalog has, or None when there is none to build on; read once per file."""
        with self._lock:
            if not self.file.exists():
                return None
            signature = self._signature()
            if self._seen[0] != signature:
                self._seen = (signature, self._look())
            return self._seen[1]

    def _look(self) -> Known | None:
        con = duckdb.connect(":memory:", config=connections.CLOSED)
        try:
            connections.attach(con, self.file)
            if migrations.version(con, "kept.main") < len(migrations.MIGRATIONS):
                return None
            return known(con, "kept.main")
        except (duckdb.Error, BusyError) as error:
            logger.warning("%s is unreadable and will be built anew: %s", self.file, error)
            return None
        finally:
            con.close()

    def _signature(self) -> connections.Signature:
        stat = self.file.stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _replace(self, make: Callable[[Path], None]) -> None:
        self.clear()
        temporary = self.file.with_name(f"{FILE}.{uuid4().hex[:8]}.tmp")
        try:
            make(temporary)
            sync(temporary)
            temporary.replace(self.file)
            sync(self.file.parent)
        finally:
            for left in (temporary, temporary.with_name(temporary.name + ".wal")):
                left.unlink(missing_ok=True)

    def clear(self) -> list[Path]:
        """Remove what a killed refresh left; only for who holds the catalog's lock."""
        left = list(self.file.parent.glob(f"{FILE}.*.tmp*"))
        for path in left:
            path.unlink()
        return left

    def _bring_up_to_date(self, file: Path) -> None:
        if self._known() is not None:
            shutil.copyfile(self.file, file)
        self._fill(file)

    def _copy_rows(self, file: Path) -> None:
        with duckdb.connect(":memory:", config=connections.CLOSED) as con:
            connections.attach(con, self.file)
            con.execute(f"ATTACH '{str(file).replace(chr(39), 2 * chr(39))}' AS small")
            con.execute("COPY FROM DATABASE kept TO small")

    def _fill(self, file: Path) -> None:
        try:
            con = duckdb.connect(str(file))
            try:
                migrations.migrate(con)
                work = find_work(self.root, known(con, "main"), frozenset(self._refused))
                self._refused.update(fold.fold(con, self.root, work))
            finally:
                con.close()
        except duckdb.IOException as error:
            raise UnwritableError(
                f"cannot write {file}: {error}; the old catalog is as it was. Free space there"
            ) from error
