"""catalog.duckdb, derived from the published files: refreshed, rebuilt, and opened to be asked.

Nobody writes to a catalog that others can see. A refresh works on a copy, which is then renamed
over the old one: readers never wait, never see half a refresh, and keep the file they opened.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from uuid import uuid4

import duckdb
import numpy as np
from jaxtyping import Float32

from store import fold, migrations
from store.changes import Known, find_work, known
from store.errors import BusyError, UnwritableError
from store.files import alone, sync, writing
from store.mapping import Recorded
from store.vectors import Vectors, find_direction

logger = logging.getLogger(__name__)

FILE = "catalog.duckdb"

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "temp_directory": "",
}

_LOCKS = ("SET enable_external_access = false", "SET lock_configuration = true")

_VIEW = """
    CREATE VIEW activation_{d} AS
    SELECT t.run_id, r.uuid AS run, r.name AS run_name, r.model,
           s.site_id, s.site, s.part, s.layer, s.head,
           t.row, t.prompt_id, t.pos, t.token_id, t.token_str, p.text, p.tags, p.meta,
           act_{d}(t.run_id, s.site_id, t.row) AS vec
    FROM kept.token t
    JOIN kept.prompt p USING (run_id, prompt_id)
    JOIN kept.site s USING (run_id)
    JOIN kept.run r USING (run_id)
    WHERE s.d = {d}
"""


class Catalog:
    """The index of one store; its file lies in `home`, the store itself or a private place."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.file = root, home / FILE
        self._recorded: dict[str, Recorded] = {}
        self._refused: set[Path] = set()
        self._seen: tuple[tuple[int, ...], Known | None] = ((), None)
        self._lock = Lock()

    def refresh(self) -> None:
        """Bring the catalog up to date with the published files.

        Raises NewerFormatError, BusyError or UnwritableError. A catalog that is lost, damaged
        or of an older schema is built anew.
        """
        if not self._stale():
            return
        with alone(self.file.with_suffix(".lock")):
            if self._stale():
                self._replace()

    @contextmanager
    def asking(self, functions: Vectors | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection of its own that can read the catalog and vectors, and nothing else."""
        con = duckdb.connect(":memory:", config=_CLOSED)
        names: list[str] = []
        try:
            self._attach(con)
            tables = _column(con, "SELECT table_name FROM duckdb_tables()")
            views = [
                f'CREATE VIEW "{table}" AS SELECT * FROM kept.main."{table}"' for table in tables
            ]
            widths = _column(con, "SELECT DISTINCT d FROM kept.site ORDER BY d")
            names = (functions or self.vectors()).register(con, widths)
            views += [_VIEW.format(d=d) for d in widths]
            con.execute(";".join([*views, *_LOCKS]))
            yield con
        finally:
            for name in names:
                con.remove_function(name)
            con.close()

    def vectors(self) -> Vectors:
        """Make the functions for one connection."""
        runs: dict[int, str] = {}

        def recorded(run_id: int, row: int) -> Recorded:
            if not runs:
                runs.update(self._fetch("SELECT run_id, uuid FROM kept.run"))
            return self._open(runs[run_id], row)

        return Vectors(recorded, self._direction)

    def _open(self, uuid: str, row: int) -> Recorded:
        """A run that reaches to this row; opened again only when it has grown."""
        found = self._recorded.get(uuid)
        if found is None or found.n_rows <= row:
            found = self._recorded[uuid] = Recorded(self.root / "runs" / uuid)
        return found

    def _direction(self, name: str) -> Float32[np.ndarray, " d"]:
        rows = self._fetch(
            """
            SELECT artifact, direction.name, vec FROM kept.direction
            JOIN kept.artifact ON artifact.uuid = direction.artifact
            WHERE direction.name = $1 OR artifact.name = $1
            ORDER BY created_at DESC, artifact, direction.name
            """,
            name,
        )
        newest = {key: vec for artifact, key, vec in rows if artifact == rows[0][0]}
        return find_direction(newest, name)

    def _fetch(self, query: str, *params: object) -> list[tuple]:
        con = duckdb.connect(":memory:", config=_CLOSED)
        try:
            self._attach(con)
            return con.execute(query, params).fetchall()
        finally:
            con.close()

    def _attach(self, con: duckdb.DuckDBPyConnection) -> None:
        quoted = str(self.file).replace("'", "''")
        try:
            con.execute(f"ATTACH '{quoted}' AS kept (READ_ONLY)")
        except duckdb.Error as error:
            raise BusyError(
                f"{self.file} cannot be opened: {error}; close the program that holds it, or "
                "delete the file, which is rebuilt from the others"
            ) from error

    def _stale(self) -> bool:
        known = self._known()
        return known is None or bool(find_work(self.root, known, frozenset(self._refused)))

    def _known(self) -> Known | None:
        """What the catalog has, or None when there is none to build on; read once per file."""
        with self._lock:
            if not self.file.exists():
                return None
            stat = self.file.stat()
            signature = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if self._seen[0] != signature:
                self._seen = (signature, self._look())
            return self._seen[1]

    def _look(self) -> Known | None:
        con = duckdb.connect(":memory:", config=_CLOSED)
        try:
            self._attach(con)
            if migrations.version(con, "kept.main") < len(migrations.MIGRATIONS):
                return None
            return known(con, "kept.main")
        except (duckdb.Error, BusyError) as error:
            logger.warning("%s is unreadable and will be built anew: %s", self.file, error)
            return None
        finally:
            con.close()

    def _replace(self) -> None:
        for left in self.file.parent.glob(f"{FILE}.*.tmp*"):  # of a process that was killed
            left.unlink()
        temporary = self.file.with_name(f"{FILE}.{uuid4().hex[:8]}.tmp")
        try:
            with writing(self.file):
                if self._known() is not None:
                    shutil.copyfile(self.file, temporary)
                self._fill(temporary)
                sync(temporary)
                temporary.replace(self.file)
                sync(self.file.parent)
        finally:
            for left in (temporary, temporary.with_name(temporary.name + ".wal")):
                left.unlink(missing_ok=True)

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


def _column(con: duckdb.DuckDBPyConnection, query: str) -> list:
    return [value for (value,) in con.execute(query).fetchall()]
