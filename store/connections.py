"""Connections that can read one catalog and the vectors, and nothing else; kept while it stays.

Preparing one costs far more than most questions, so idle ones are used again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa

from store.errors import BusyError
from store.vectors import Vectors

IDLE = 4
"""At most this many connections are kept for the next question."""

Config = dict[str, str | bool | int | float | list[str]]

CLOSED: Config = {
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

Signature = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A connection, the catalog file it reads, and the functions it has."""

    con: duckdb.DuckDBPyConnection
    functions: Vectors
    names: list[str]
    signature: Signature

    def close(self) -> None:
        """Let go of it; its functions first, which would otherwise be leaked."""
        with suppress(duckdb.Error):  # whoever asks may have removed them, or closed it
            for name in self.names:
                self.con.remove_function(name)
        self.con.close()


def prepare(
    file: Path, signature: Signature, functions: Vectors, extra: Config | None = None
) -> Prepared:
    """Open a connection that has the catalog's tables, the views of vectors, and act_dot.

    Raises BusyError when the catalog cannot be opened.
    """
    con = duckdb.connect(":memory:", config={**CLOSED, **(extra or {})})
    made = Prepared(con=con, functions=functions, names=[], signature=signature)
    try:
        attach(con, file)
        tables = _column(con, "SELECT table_name FROM duckdb_tables()")
        views = [f'CREATE VIEW "{table}" AS SELECT * FROM kept.main."{table}"' for table in tables]
        widths = _column(con, "SELECT DISTINCT d FROM kept.site ORDER BY d")
        made.names.extend(functions.register(con, widths))
        views += [_VIEW.format(d=d) for d in widths]
        con.execute(";".join([*views, *_LOCKS]))
    except BaseException:
        made.close()
        raise
    return made


class Idle:
    """Connections waiting for the next question."""

    def __init__(self) -> None:
        self._waiting: list[Prepared] = []
        self._lock = Lock()

    @contextmanager
    def borrowed(self, signature: Signature, make: Callable[[], Prepared]) -> Iterator[Prepared]:
        """Lend a connection to the catalog of this signature; it forgets what it is made to do."""
        found = self._take(signature) or make()
        kept = False
        found.con.execute("BEGIN")
        try:
            yield found
        finally:
            found.functions.failure = None
            with suppress(duckdb.Error):
                found.con.execute("ROLLBACK")
                kept = self._give(found)
            if not kept:
                found.close()

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.close()

    def _take(self, signature: Signature) -> Prepared | None:
        with self._lock:
            outdated = [one for one in self._waiting if one.signature != signature]
            self._waiting = [one for one in self._waiting if one.signature == signature]
            found = self._waiting.pop() if self._waiting else None
        for one in outdated:
            one.close()
        return found

    def _give(self, one: Prepared) -> bool:
        with self._lock:
            if len(self._waiting) >= IDLE:
                return False
            self._waiting.append(one)
            return True


def ask(prepared: Prepared, query: str, params: Sequence[Any]) -> pa.Table:
    """Run a query; raises ValueError for SQL that does not run, and what a function raised."""
    try:
        answer = prepared.con.sql(query, params=list(params))
        if answer is None:
            raise ValueError(f"this SQL gives no rows: {query!r}; write a SELECT")
        return answer.to_arrow_table()
    except duckdb.Error as error:
        if prepared.functions.failure is not None:
            raise prepared.functions.failure from error
        raise ValueError(f"this SQL did not run: {error}") from error


def only_selects(con: duckdb.DuckDBPyConnection, query: str) -> bool:
    """Tell whether a query is one SELECT, which cannot leave anything behind once rolled back."""
    with suppress(duckdb.Error):  # what is no SQL is said when it is asked
        kinds = [statement.type for statement in con.extract_statements(query)]
        return kinds == [duckdb.StatementType.SELECT]
    return False


def attach(con: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Attach a catalog as `kept`, read-only; raises BusyError when it cannot be opened."""
    quoted = str(file).replace("'", "''")
    try:
        con.execute(f"ATTACH '{quoted}' AS kept (READ_ONLY)")
    except duckdb.Error as error:
        raise BusyError(
            f"{file} cannot be opened: {error}; close the program that holds it, or "
            "delete the file, which is rebuilt from the others"
        ) from error


def _column(con: duckdb.DuckDBPyConnection, query: str) -> list:
    return [value for (value,) in con.execute(query).fetchall()]
