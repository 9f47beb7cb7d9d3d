"""Runs for other programs: Parquet that any reader takes, and `datasets` as SAELens caches them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store.files import writing
from store.mapping import Recorded
from store.sites import Site
from store.tensors import to_float32

CHUNK = 4096
"""Rows decoded at a time, so that a large shard needs little memory."""


def to_parquet(recorded: Recorded, file: Path, sites: Sequence[Site | str] = ()) -> int:
    """Write a run, or some of its sites, as one Parquet file, and return its rows.

    A row is a token: row, prompt_id, pos, token_id, token_str and a list of float32 for each site.
    Raises ValueError when the file is there already, LookupError and UnwritableError.
    """
    wanted = [recorded.site(site) for site in sites] or list(recorded.sites)
    fields = [(str(site), pa.list_(pa.float32(), recorded.sites[site])) for site in wanted]
    tokens = recorded.tokens()
    rows = pa.array(np.arange(recorded.n_rows))
    head = tokens.add_column(0, "row", rows)
    schema = pa.schema([*head.schema, *map(pa.field, *zip(*fields, strict=True))])
    _new(file)
    with writing(file), pq.ParquetWriter(file, schema, compression="none") as out:
        for start in range(0, recorded.n_rows, CHUNK):
            part = np.arange(start, min(start + CHUNK, recorded.n_rows))
            columns = [_vectors(recorded, site, part) for site in wanted]
            here = head.slice(start, len(part)).combine_chunks()
            out.write_table(pa.table([*here.columns, *columns], schema=schema))
    return recorded.n_rows


def to_dataset(
    recorded: Recorded, directory: Path, site: Site | str, *, context: int, hook: str
) -> int:
    """Write one site as a `datasets` directory that SAELens trains from; returns its items' number.

    An item is `context` consecutive tokens of one prompt, as SAELens's cached activations: column
    `hook` (what its config calls hook_name) [context, d] in float32, and token_ids. What a prompt
    has beyond a multiple of `context` is left out. Raises ValueError when the directory is there
    already or no prompt is that long, LookupError and UnwritableError.
    """
    from datasets import Array2D, Dataset, Features, List, Value  # it takes a second to import

    at = recorded.site(site)
    starts = _starts(recorded, context)
    if not len(starts):
        raise ValueError(f"no prompt has {context} recorded tokens in a row: choose a shorter one")
    ids_type = List(Value("int32"), length=context)
    vectors_type = Array2D(shape=(context, recorded.sites[at]), dtype="float32")
    features = Features({hook: vectors_type, "token_ids": ids_type})
    ids = recorded.tokens().column("token_id").to_numpy()

    def items() -> Iterator[dict[str, np.ndarray]]:
        for start in starts:
            rows = np.arange(start, start + context)
            yield {hook: to_float32(recorded.gather(at, rows)), "token_ids": ids[rows]}

    _new(directory)
    with writing(directory), _quietly(), TemporaryDirectory(dir=directory.parent) as cache:
        made = Dataset.from_generator(items, features=features, cache_dir=cache)
        made.save_to_disk(str(directory))
    return len(starts)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the progress bars of `datasets`, which are on for the whole process or off."""
    from datasets.utils.logging import (
        disable_progress_bar,
        enable_progress_bar,
        is_progress_bar_enabled,
    )

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def _starts(recorded: Recorded, context: int) -> list[int]:
    offsets = recorded.offsets.tolist()
    return [
        start
        for first, end in pairwise(offsets)
        for start in range(first, end - context + 1, context)
    ]


def _vectors(recorded: Recorded, site: Site, rows: np.ndarray) -> pa.Array:
    values = to_float32(recorded.gather(site, rows))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _new(path: Path) -> None:
    if path.exists():
        raise ValueError(f"{path} exists, and an export replaces nothing: name another")
