"""What was captured before under the same circumstances, so that it need not be computed again.

The circumstances are the weights, tokenizer, basis and dtype of the model, the sites, the stored
dtype, and where in a text it was captured; a model's name is none of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from store import runs
from store.errors import StoreError
from store.mapping import Recorded
from store.records import Run, TokenRows
from store.sites import Site
from store.store import Store


@dataclass(frozen=True, kw_only=True, eq=False)
class Earlier:
    """The rows of a prompt that was captured before."""

    recorded: Recorded
    prompt: int
    """Its number in that run."""

    @property
    def rows(self) -> range:
        """Which rows of that run are its own."""
        first, end = self.recorded.offsets[self.prompt : self.prompt + 2].tolist()
        return range(first, end)


def circumstances(run: Run, sites: Mapping[Site, int]) -> str:
    """Hash all that a captured row depends on, apart from the text."""
    model = run.fingerprint
    parts = [
        model.weights_hash, model.tokenizer_hash, model.basis, run.model_dtype, run.dtype,
        run.config.get("where"), [[str(site), d] for site, d in sites.items()],
    ]  # fmt: skip
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


def find(
    store: Store, run: Run, sites: Mapping[Site, int], texts: Sequence[str]
) -> dict[str, Earlier]:
    """Find the texts that sealed runs have already, begun and sealed before `run` was.

    Only these, so that a resumed capture finds what it found at first. A damaged run is passed by.
    """
    wanted, found = set(texts), {}
    for recorded in _alike(store, run, sites):
        for index, prompt in enumerate(recorded.prompts):
            if prompt.text in wanted and prompt.text not in found:
                found[prompt.text] = Earlier(recorded=recorded, prompt=index)
    return found


def take(
    earlier: Sequence[Earlier], sites: Sequence[Site]
) -> tuple[dict[Site, np.ndarray], TokenRows]:
    """Read the rows of several prompts of one or more runs, as `Writer.add` takes them."""
    tables = [one.recorded.prompt_tokens(one.prompt) for one in earlier]
    tensors = {
        site: np.concatenate([one.recorded.prompt(one.prompt, site) for one in earlier])
        for site in sites
    }

    def column(name: str) -> np.ndarray:
        parts = [table.column(name).to_numpy(zero_copy_only=False) for table in tables]
        return np.concatenate(parts)

    tokens = TokenRows(
        prompt=np.repeat(np.arange(len(earlier)), [len(one.rows) for one in earlier]),
        pos=column("pos"),
        token_id=column("token_id"),
        token_str=column("token_str"),
    )
    return tensors, tokens


def _alike(store: Store, run: Run, sites: Mapping[Site, int]) -> Iterator[Recorded]:
    """Sealed runs of the same circumstances, the newest first."""
    key = circumstances(run, sites)
    for directory in sorted(runs.directories(store.path / "runs", runs.RUN), reverse=True):
        try:
            opening, ending = runs.read_opening(directory), runs.read_ending(directory)
            same = circumstances(opening.run, opening.sites) == key
            if same and ending and ending.status == "sealed" and ending.at < run.created_at:
                yield Recorded(directory)
        except StoreError:
            continue
