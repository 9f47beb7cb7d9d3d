"""More designs for benchmarks/store.py: Parquet, and the layout SAELens caches activations in."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.store_designs import BATCH, LENGTH, Native, Rows


class Parquet:
    """One Parquet file per batch, a column of fixed-size binary per site, 512-row groups."""

    def __init__(self, made: Rows, path: Path) -> None:
        self.made, self.path = made, path

    def write(self) -> None:
        """Write and sync every file."""
        self.path.mkdir()
        kind = pa.binary(4 * self.made.d)
        for number, batch in enumerate(self.made.batches("f32")):
            columns = [pa.Array.from_buffers(kind, BATCH, [None, pa.py_buffer(rows)])
                       for rows in batch]  # fmt: skip
            with (self.path / f"{number:05d}.parquet").open("wb") as file:
                table = pa.table(columns, names=[str(i) for i in range(len(columns))])
                pq.write_table(table, file, compression="none", use_dictionary=False,
                               row_group_size=512)  # fmt: skip
                file.flush()
                os.fsync(file.fileno())

    def scan(self, site: int) -> np.ndarray:
        """Read a site."""
        parts = [pq.read_table(path, columns=[str(site)]) for path in sorted(self.path.iterdir())]
        return np.concatenate([self._matrix(table.column(0)) for table in parts])

    def gather(self, site: int, rows: np.ndarray) -> np.ndarray:
        """Read the row groups that some rows are in."""
        out = np.empty((len(rows), self.made.d), np.float32)
        group = rows // 512
        for one in np.unique(group):
            out[group == one] = self._group(int(one), [site])[0][rows[group == one] % 512]
        return out

    def prompt(self, index: int) -> np.ndarray:
        """Read one prompt at every site."""
        first = index * LENGTH
        columns = self._group(first // 512, range(self.made.sites))
        return np.stack([rows[first % 512 : first % 512 + LENGTH] for rows in columns])

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path)

    def _group(self, group: int, sites: "range | list[int]") -> list[np.ndarray]:
        per_file = BATCH // 512
        file = pq.ParquetFile(self.path / f"{group // per_file:05d}.parquet")
        table = file.read_row_group(group % per_file, columns=[str(site) for site in sites])
        return [self._matrix(column) for column in table.columns]

    def _matrix(self, column: pa.ChunkedArray) -> np.ndarray:
        parts = [np.frombuffer(chunk.buffers()[1], np.float32)
                 .reshape(-1, self.made.d)[chunk.offset : chunk.offset + len(chunk)]
                 for chunk in column.chunks]  # fmt: skip
        return np.concatenate(parts)


class SAELens:
    """`datasets` with an Array2D of [context, d] per prompt; one directory per site, as it has."""

    def __init__(self, made: Rows, path: Path) -> None:
        self.made, self.path = made, path

    def write(self) -> None:
        """Write each site as the cached-activations runner does: an Arrow file per site."""
        from datasets import Array2D, Dataset, Features
        from datasets.arrow_writer import ArrowWriter

        features = Features({"x": Array2D(shape=(LENGTH, self.made.d), dtype="float32")})
        self.sets = []
        self.path.mkdir()
        files = [self.path / f"{site}.arrow" for site in range(self.made.sites)]
        writers = [ArrowWriter(features=features, path=str(file)) for file in files]
        for batch in self.made.batches("f32"):
            for writer, rows in zip(writers, batch, strict=True):
                writer.write_batch({"x": rows.reshape(-1, LENGTH, self.made.d)})
        for writer, file in zip(writers, files, strict=True):
            writer.finalize()
            with file.open("rb") as written:
                os.fsync(written.fileno())
            self.sets.append(Dataset.from_file(str(file)).with_format("numpy"))

    def scan(self, site: int) -> np.ndarray:
        """Read a site."""
        return np.asarray(self.sets[site][:]["x"]).reshape(-1, self.made.d)

    def gather(self, site: int, rows: np.ndarray) -> np.ndarray:
        """Read the prompts that some rows are in."""
        prompts, where = np.unique(rows // LENGTH, return_inverse=True)
        return np.asarray(self.sets[site][prompts]["x"])[where, rows % LENGTH]

    def prompt(self, index: int) -> np.ndarray:
        """Read one prompt at every site."""
        return np.stack([np.asarray(one[index]["x"]) for one in self.sets])

    def close(self) -> None:
        """Remove it."""
        self.sets = []
        shutil.rmtree(self.path)


OTHERS = {"DuckDB FLOAT[d]": Native, "Parquet fixed binary": Parquet, "SAELens datasets": SAELens}
