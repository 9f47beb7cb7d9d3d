"""What the store costs, beside what else one might use, as ratios to limits of the same run.

The same rows (Gaussian, with outlier dimensions) are written and read by each design: this store,
SAELens's cached activations (`datasets` with Array2D), a tuned DuckDB table of FLOAT[d], Parquet
with fixed-size binary. Every design's answers are compared with the rows. Smallest of a few
repeats for reads, one run for writes, all made durable; seconds of wall clock.

    python -m benchmarks.store [rows] [sites] [width] [folder]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch

from benchmarks import store_designs as designs
from benchmarks.store_designs import Rows
from benchmarks.store_others import OTHERS

Work = Callable[[], object]


def main(rows: int = 102_400, sites: int = 6, d: int = 768, folder: str | None = None) -> None:
    """Print the table of ratios."""
    rows -= rows % designs.BATCH
    made = Rows(rows=rows, sites=sites, d=d)
    print(
        f"{rows} rows x {sites} sites x {d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(dir=folder) as home:
        for dtype in ("f32", "bf16"):
            limits(made, Path(home), dtype)
        several(Path(home))


def limits(made: Rows, home: Path, dtype: str) -> None:
    """Compare the store with the limits of the machine, then with the other designs."""
    print(f"\n{dtype}, {made.bytes(dtype) / 1e6:,.0f} MB")
    raw = min(once(lambda: designs.save_arrays(made, home / "raw", dtype)) for _ in range(2))
    size = made.bytes(dtype)
    line("np.save + fsync", raw, size / raw / 1e6, "MB/s")
    ours = designs.Ours(made, home / f"ours-{dtype}", dtype)
    with peak() as extra:
        writing = once(ours.write)
    line("store: write, durable", writing, raw / writing, "x np.save")
    print(f"{'store: peak extra memory while writing':44}{extra() / 1e6:10,.0f} MB")
    reading(made, ours, dtype)
    if dtype == "f32":
        beside(made, home, ours, writing)
    ours.close()


def reading(made: Rows, ours: "designs.Ours", dtype: str) -> None:
    """Scan, gather and ask, beside torch on the same rows in memory."""
    held = ours.scan(1)
    out, mapped = np.empty_like(held), ours.mapped(1)
    scan, copy = best(lambda: ours.scan(1, out)), best(lambda: np.copyto(out, mapped))
    line("store: scan of a site, warm", scan, copy / scan, "x speed of a mapped copy")
    rows = np.random.default_rng(1).integers(0, made.rows, 4096)
    ram, few = (
        torch.from_numpy(held.view(np.int16) if dtype == "bf16" else held),
        np.empty_like(held[:4096]),
    )
    index = torch.from_numpy(rows)
    taken = torch.empty(4096, made.d, dtype=ram.dtype)
    gather = best(lambda: ours.gather(1, rows, few))
    memory = best(lambda: torch.index_select(ram, 0, index, out=taken))
    line("store: gather of 4,096 rows", gather, gather / memory, "x time of the gather in RAM")
    direction = torch.from_numpy(made.direction)
    tensor = torch.from_numpy(held).view(torch.bfloat16) if dtype == "bf16" else ram
    top = best(lambda: ours.top(1))
    plain = best(lambda: torch.topk(tensor.float() @ direction, 10))
    line("store: top 10 by direction, SQL", top, top / plain, "x time of torch in RAM")
    expected = torch.topk(tensor.float() @ direction, 10).values.numpy()
    np.testing.assert_allclose(ours.top(1), expected, rtol=1e-4)
    with peak() as extra:
        norms = best(ours.norms, 2)
    line("store: mean norm of all sites, SQL", norms, made.bytes("f32") / norms / 1e6, "MB/s")
    print(f"{'store: peak extra memory while reading':44}{extra() / 1e6:10,.0f} MB")
    ours.norm_seconds = norms


def beside(made: Rows, home: Path, ours: "designs.Ours", writing: float) -> None:
    """Write and read the same rows with the other designs."""
    rows = np.random.default_rng(1).integers(0, made.rows, 4096)
    figures = {"store": (writing, *three(made, ours, rows))}
    for name, kind in OTHERS.items():
        other = kind(made, home / name.replace(" ", "-"))
        seconds = once(other.write)
        assert np.array_equal(other.prompt(2), ours.prompt(2).view(np.float32)), name
        figures[name] = (seconds, *three(made, other, rows))
        if isinstance(other, designs.Native):
            native = best(other.norms, 2)
            line("native table: mean norm of all sites", native, ours.norm_seconds / native,
                 "= store's time / this")  # fmt: skip
        other.close()
    print(f"\n{'':28}{'write':>10}{'scan':>10}{'gather':>10}{'prompt':>10}   seconds, fp32")
    for name, row in figures.items():
        print(f"{name:28}" + "".join(f"{seconds:10.4f}" for seconds in row))
    others = np.array([row for name, row in figures.items() if name != "store"]).min(0)
    ahead = others / np.array(figures["store"])
    print(f"{'best other / store':28}" + "".join(f"{ratio:10.1f}" for ratio in ahead))


def three(made: Rows, design: "designs.Design", rows: np.ndarray) -> tuple[float, float, float]:
    """Scan a site into memory that is there, gather rows of it, and read a prompt at all sites."""
    whole = np.empty((made.rows, made.d), np.float32)
    some = whole[: len(rows)].copy()
    if isinstance(design, designs.Ours):
        scan, gather = (lambda: design.scan(1, whole)), (lambda: design.gather(1, rows, some))
    else:
        scan = lambda: np.copyto(whole, design.scan(1))  # noqa: E731
        gather = lambda: design.gather(1, rows)  # noqa: E731
    return best(scan, 3), best(gather, 3), best(lambda: design.prompt(2), 3)


def several(home: Path) -> None:
    """Compare opening a store of 1,000 shards with one of 10, and with reading its sidecars."""
    times = {n: designs.opening(home / f"shards-{n}", n) for n in (10, 1000)}
    for n, (opening, sidecars) in times.items():
        line(f"opening {n} shards", opening, opening / (2 * times[10][0] + sidecars),
             "x (2 x opening 10 + sidecar reads)")  # fmt: skip


def once(work: Work) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best(work: Work, repeats: int = 5) -> float:
    """Time the quickest of some calls, after one that warms up."""
    work()
    return min(once(work) for _ in range(repeats))


class peak:
    """Watch the private memory of this process: its peak above the beginning."""

    def __enter__(self) -> Callable[[], int]:
        self._start, self._most, self._end = private(), 0, Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return lambda: max(0, self._most - self._start)

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.005):
            self._most = max(self._most, private())


def private() -> int:
    """Return the bytes of anonymous memory this process has; mapped files are the page cache's."""
    text = Path("/proc/self/status").read_text()
    (line_,) = [row for row in text.splitlines() if row.startswith("RssAnon:")]
    return int(line_.split()[1]) * 1024


def line(what: str, seconds: float, ratio: float, unit: str) -> None:
    """Print one measurement."""
    print(f"{what:44}{seconds * 1e3:10,.1f} ms {ratio:10,.2f} {unit}")


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:4]]
    main(*numbers, **({"folder": sys.argv[4]} if len(sys.argv) > 4 else {}))
