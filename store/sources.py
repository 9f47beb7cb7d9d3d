"""What the functions of SQL read: runs by their number in the catalog, and directions by name."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
from jaxtyping import Float32

from store.connections import CLOSED, attach
from store.mapping import Recorded
from store.vectors import find_direction


class Sources:
    """The runs and directions of one store; shared by all its connections, owns none of them."""

    def __init__(self, root: Path, file: Path) -> None:
        self._root, self._file = root, file
        self._recorded: dict[str, Recorded] = {}

    def reader(self) -> Callable[[int, int], Recorded]:
        """Make what opens a run by its number, far enough to reach a row; for one catalog file."""
        runs: dict[int, str] = {}

        def recorded(run_id: int, row: int) -> Recorded:
            if not runs:
                runs.update(self._fetch("SELECT run_id, uuid FROM kept.run"))
            return self._open(runs[run_id], row)

        return recorded

    def direction(self, name: str) -> Float32[np.ndarray, " d"]:
        """Find a direction: artifact/key, or the artifact alone; raises LookupError."""
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

    def _open(self, uuid: str, row: int) -> Recorded:
        """A run that reaches to this row; opened again only when it has grown."""
        found = self._recorded.get(uuid)
        if found is None or found.n_rows <= row:
            found = self._recorded[uuid] = Recorded(self._root / "runs" / uuid)
        return found

    def _fetch(self, query: str, *params: object) -> list[tuple]:
        con = duckdb.connect(":memory:", config=CLOSED)
        try:
            attach(con, self._file)
            return con.execute(query, params).fetchall()
        finally:
            con.close()
