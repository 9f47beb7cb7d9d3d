"""SQL that strangers type, in a process of its own that can take little and do nothing.

The connection is closed to files, settings, extensions and Python, as every connection here is;
the process can write no file, and it is killed when it takes too long or too much memory.
DuckDB promises no boundary inside its engine, so the process is the boundary.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from store import connections
from store.catalog import Catalog
from store.store import Store


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one question may take."""

    seconds: float = 5.0
    """Of wall-clock time, starting the process included."""
    memory: int = 1 << 30
    """Bytes the process may allocate; mapped shards do not count."""
    rows: int = 10_000
    """Rows returned; the rest is cut off."""


def ask(
    store: Store, query: str, params: Sequence[Any] = (), *, limits: Limits = Limits()
) -> pa.Table:
    """Answer a question as `Store.sql` does, apart from this process and within limits.

    Parameters must be JSON values. Raises ValueError for SQL that does not run or takes more than
    it may.
    """
    store.catalog.refresh()
    request = {
        "root": str(store.path), "home": str(store.catalog.file.parent),
        "query": query, "params": list(params), "limits": asdict(limits),
    }  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-m", "store.sandbox"],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=limits.seconds,
            cwd=Path(__file__).parents[1],
            env=ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"this SQL took longer than {limits.seconds:g} s and was stopped: ask for less"
        ) from None
    if done.returncode == 0:
        return pa.ipc.open_stream(done.stdout).read_all()
    if done.returncode == REFUSED:
        raise ValueError(done.stdout.decode())
    raise ValueError(
        f"this SQL took more than {limits.memory / 1e6:,.0f} MB, or ended its process (code "
        f"{done.returncode}): ask for less"
    )


ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"}
"""All the process is told: no secrets, and allocators that reserve no gigabytes beforehand."""

REFUSED = 3
"""Exit code of a process whose question did not run; the reason is what it printed."""


def confine(limits: Limits) -> None:
    """Give up, for good, what no question needs; imports are done, and pipes are no files."""
    import resource  # only where there are such limits

    for kind, most in [
        # Private memory alone: shards are mapped shared, and count for nothing.
        (resource.RLIMIT_DATA, limits.memory), (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, int(limits.seconds) + 1),
    ]:  # fmt: skip
        resource.setrlimit(kind, (most, most))


def config(limits: Limits) -> connections.Config:
    """Say the limits to DuckDB, which keeps most of them by itself."""
    return {
        "memory_limit": f"{limits.memory // 2}B",
        "threads": 1,
        "max_temp_directory_size": "0KB",
        "max_execution_time": str(int(limits.seconds * 1000)),
    }


def _answer(request: dict[str, Any]) -> pa.Table:
    limits = Limits(**request["limits"])
    catalog = Catalog(Path(request["root"]), Path(request["home"]))
    confine(limits)
    with catalog.prepared(config(limits)) as prepared:
        table = connections.ask(prepared, request["query"], request["params"])
        return table.slice(0, limits.rows)


def _main() -> int:
    """Read a question from standard input and print its answer as an Arrow stream."""
    out = sys.stdout.buffer
    try:
        table = _answer(json.load(sys.stdin))
    except MemoryError:
        out.write(b"this SQL took more memory than it may: ask for less")
        return REFUSED
    except Exception as error:
        out.write(str(error).encode())
        return REFUSED
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return 0


if __name__ == "__main__":
    # Without the interpreter's own end, whose report on DuckDB's leaks nobody reads.
    code = _main()
    sys.stdout.flush()
    os._exit(code)
