"""Immutable shards of a run: one safetensors file per width and two sidecars, published as one.

The tokens sidecar is renamed into place last and is the commit record: what it names is complete.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store import tensors
from store.errors import NewerFormatError
from store.files import (
    FileRecord,
    check_size,
    damaged,
    publish,
    publish_table,
    sync,
    writing,
)
from store.records import Prompt, as_json
from store.sites import Site
from store.stats import Moments, to_table

FORMAT = 1
"""Version of the files of a run; a reader refuses a higher one."""

COMMIT = ".tokens.parquet"
"""How the name of a commit record ends."""

_KEY = b"workbench.shard"


@dataclass(frozen=True, kw_only=True)
class SeriesFile:
    """The rows of all sites of one width in one shard."""

    d: int
    file: FileRecord
    data_off: int
    """Byte at which the first site's rows begin; the others follow without a gap."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One commit record."""

    run: str
    shard: int
    row0: int
    n: int
    prompt0: int
    n_prompts: int
    prompts: FileRecord
    stats: FileRecord
    series: tuple[SeriesFile, ...]

    @property
    def bytes(self) -> int:
        """Count the bytes of its tensors."""
        return sum(series.file.bytes for series in self.series)


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """What a shard holds, before it is written."""

    arrays: Mapping[Site, np.ndarray]
    tokens: pa.Table
    """Columns prompt_id (within the run), pos, token_id, token_str."""
    prompts: Sequence[Prompt]
    lengths: Sequence[int]
    """Rows of each prompt."""
    moments: Mapping[Site, Moments]
    """What the rows of each site add up to."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in its run a shard begins."""

    run: str
    shard: int = 0
    row0: int = 0
    prompt0: int = 0

    def after(self, content: Content) -> "Place":
        """Give the place behind this shard."""
        return Place(
            run=self.run,
            shard=self.shard + 1,
            row0=self.row0 + len(content.tokens),
            prompt0=self.prompt0 + len(content.prompts),
        )


def publish_shard(directory: Path, place: Place, dtype: str, content: Content) -> FileRecord:
    """Make a shard durable and visible, tensors first, commit record last, which is returned.

    Raises UnwritableError when the disk refuses; files that went before it are removed again.
    """
    stem, made = f"{place.shard:05d}", []
    try:
        series = []
        for d, arrays in _by_width(content.arrays).items():
            path = directory / f"{stem}.d{d}.safetensors"
            made.append(path)
            series.append(_publish_series(path, place, dtype, arrays))
        made.append(directory / f"{stem}.prompts.parquet")
        prompts = publish_table(made[-1], _prompt_table(place, content), keep_name=False)
        made.append(directory / f"{stem}.stats.parquet")
        stats = publish_table(made[-1], to_table(content.moments), keep_name=False)
        shard = Shard(
            **asdict(place),
            n=len(content.tokens),
            n_prompts=len(content.prompts),
            prompts=prompts,
            stats=stats,
            series=tuple(series),
        )
        with writing(directory):
            sync(directory)  # the names of all that the commit record vouches for
        return publish_table(directory / f"{stem}{COMMIT}", _token_table(shard, content.tokens))
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise


def read_commit(path: Path) -> Shard:
    """Read a commit record without its rows.

    Raises NewerFormatError, or DamagedError when the file is no commit record.
    """
    try:
        found = json.loads((pq.read_schema(path).metadata or {})[_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise damaged(path, "it is no commit record") from error
    if found.pop("format") > FORMAT:
        raise NewerFormatError(f"{path} was written by a later version: upgrade to read it")
    try:
        series = tuple(
            SeriesFile(**{**item, "file": FileRecord(**item["file"])})
            for item in found.pop("series")
        )
        prompts, stats = FileRecord(**found.pop("prompts")), FileRecord(**found.pop("stats"))
        return Shard(**found, prompts=prompts, stats=stats, series=series)
    except (KeyError, TypeError) as error:
        raise damaged(path, f"it is no commit record ({error})") from error


def commits(directory: Path) -> list[Path]:
    """List the commit records of a run, in order; other files there are not yet published."""
    return sorted(
        path for path in directory.glob(f"*{COMMIT}") if path.name[: -len(COMMIT)].isdecimal()
    )


def check_sizes(directory: Path, shard: Shard) -> None:
    """Check that its files are there and whole; raises DamagedError."""
    for file in files(shard):
        check_size(directory, file)


def files(shard: Shard) -> list[FileRecord]:
    """List the files that a commit record vouches for."""
    return [*(series.file for series in shard.series), shard.prompts, shard.stats]


def _by_width(arrays: Mapping[Site, np.ndarray]) -> dict[int, dict[str, np.ndarray]]:
    widths: dict[int, dict[str, np.ndarray]] = {}
    for site, array in arrays.items():
        widths.setdefault(array.shape[1], {})[str(site)] = array
    return widths


def _publish_series(
    path: Path, place: Place, dtype: str, arrays: Mapping[str, np.ndarray]
) -> SeriesFile:
    metadata = {key: str(value) for key, value in asdict(place).items()}
    head = tensors.header(arrays, dtype.upper(), metadata)
    file = publish(path, lambda out: tensors.write(out, head, arrays), keep_name=False)
    d = next(iter(arrays.values())).shape[1]
    return SeriesFile(d=d, file=file, data_off=len(head))


def _prompt_table(place: Place, content: Content) -> pa.Table:
    count, ends = len(content.prompts), list(accumulate(content.lengths, initial=place.row0))
    return pa.table(
        {
            "prompt_id": pa.array(range(place.prompt0, place.prompt0 + count), pa.int32()),
            "text": pa.array([prompt.text for prompt in content.prompts], pa.string()),
            "tags": pa.array(
                [list(prompt.tags) for prompt in content.prompts], pa.list_(pa.string())
            ),
            "meta": pa.array(
                [as_json("meta", prompt.meta) for prompt in content.prompts], pa.string()
            ),
            "row0": pa.array(ends[:-1], pa.int64()),
            "n": pa.array(content.lengths, pa.int32()),
        }
    )


def _token_table(shard: Shard, tokens: pa.Table) -> pa.Table:
    record = json.dumps({"format": FORMAT, **asdict(shard)})
    return tokens.replace_schema_metadata({_KEY: record.encode()})
