"""What need not be computed: texts captured before, and the beginning of a run cut short."""

from collections.abc import Mapping, Sequence

import numpy as np

from store import Prompt, Run, Site, Store, TokenRows, Writer, reuse
from store.resuming import resume


def find(
    store: Store, run: Run, widths: Mapping[Site, int], prompts: Sequence[Prompt]
) -> dict[str, reuse.Earlier]:
    """Find the texts that the store has captured under the same circumstances before this run."""
    return reuse.find(store, run, widths, [prompt.text for prompt in prompts])


def begin(store: Store, run: Run, widths: Mapping[Site, int]) -> Writer:
    """Open a writer: of a new run, or of one that the store has and that was cut short."""
    if any(one.uuid == run.uuid for one in store.runs()):
        return resume(store, run.uuid)
    return store.writer(run, widths)


def cut_short(store: Store, ref: str, wanted: Run, prompts: Sequence[Prompt]) -> Run:
    """Find a run to go on with, of the same model, sites and dtype, that began with these prompts.

    Raises:
        ValueError: it was of something else.
        LookupError: there is none of that name.
    """
    recorded = store.read(ref)
    # The sites are among the circumstances by name; their widths follow from the model.
    widths = {Site.parse(text): 0 for text in wanted.config["at"]}
    had = dict.fromkeys(recorded.sites, 0)
    checks = {
        "texts": recorded.prompts == list(prompts[: len(recorded.prompts)]),
        "model, sites, dtype or where": reuse.circumstances(recorded.run, had)
        == reuse.circumstances(wanted, widths),
    }
    other = [what for what, same in checks.items() if not same]
    if other:
        raise ValueError(
            f"run {recorded.run.uuid[:8]} was of other {' and other '.join(other)}: resume it as "
            "it was begun, or capture anew"
        )
    return recorded.run


def after(
    n_prompts: int, tensors: Mapping[Site, np.ndarray], tokens: TokenRows
) -> tuple[dict[Site, np.ndarray], TokenRows]:
    """Leave out the rows of the first prompts of a batch."""
    keep = slice(int(np.searchsorted(tokens.prompt, n_prompts)), None)
    rows = TokenRows(
        prompt=tokens.prompt[keep] - n_prompts,
        pos=tokens.pos[keep],
        token_id=tokens.token_id[keep],
        token_str=tokens.token_str[keep],
    )
    return {site: array[keep] for site, array in tensors.items()}, rows
