"""A language model and a store: what a user holds in the hand.

Eight public methods, none named after a paper: methods take the session, never the reverse.
"""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from jaxtyping import Int
from torch import Tensor

from store import Prompt, Site, Store
from workbench import artifacts, engine, recall
from workbench.backends.hf import HFBackend
from workbench.batch import Batch
from workbench.capture import Capture, Progress, Wanted, capture, new_run
from workbench.generation import Comparison, Generation
from workbench.plan import Plan, Steer, Where, as_plan


class Session:
    """A model that is watched and changed, and the store that remembers it."""

    def __init__(self, backend: HFBackend, store: Store | None = None) -> None:
        """Hold a backend and a store; without a store, captures go to a temporary one."""
        self.backend = backend
        self._owned = contextlib.ExitStack()
        self._owned.callback(backend.release)
        self._store = store
        if store is not None:
            self._owned.callback(store.close)
        self._closed = False

    @property
    def store(self) -> Store:
        """The store; a temporary one, deleted on closing, when none was named."""
        self._require_open()
        if self._store is None:
            folder = tempfile.TemporaryDirectory(prefix="workbench-")
            self._owned.callback(folder.cleanup)
            self._store = Store.open(Path(folder.name) / "store")
            self._owned.callback(self._store.close)
        return self._store

    def capture(  # noqa: PLR0913  one call says what, where from, and how it is kept
        self,
        texts: str | Sequence[str | Prompt],
        at: str | Site | Sequence[str | Site] = "resid_post.*",
        *,
        where: Where = Where(),
        tags: Sequence[str] = (),
        name: str | None = None,
        why: str = "",
        dtype: str = "bf16",
        again: bool = False,
        resume: str | None = None,
        progress: Progress | None = None,
    ) -> Capture:
        """Run texts through the model and store what the sites held.

        Texts may be `Prompt`s that carry tags of their own; `tags` are added to all of them.
        `dtype` is how rows are stored: bf16, f16 or f32. `why` is kept with the run. Texts that
        the store has captured alike are taken from there, unless `again`. `resume` names a run
        that was cut short, and goes on with it.

        Raises:
            ValueError: there is no text, one is longer than the context, `where` selects none, or
                the run to resume was of something else.
            LookupError: the model has no such site.
            UnwritableError: the disk cannot hold it.
        """
        self._require_open()
        prompts = _prompts(texts, tuple(tags))
        wanted = Wanted(sites=self.backend.spec.select(at), where=where, again=again)
        run = new_run(self.backend, wanted, name=name, dtype=dtype, why=why)
        if resume is not None:
            run = recall.cut_short(self.store, resume, run, prompts)
        return capture(self.backend, self.store, prompts, run, wanted, progress)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        steer: Steer = None,
        seed: int | Sequence[int] = 0,
        **generation: Any,
    ) -> Any:
        """Generate text under a plan; every Hugging Face generation keyword passes through.

        A string gives one `Generation`, a list gives a list (with `num_return_sequences=n`, n per
        prompt, in order). `max_new_tokens` is 32 unless a length is given. `seed` may be one
        number or one per prompt: a row of a batch is what it is alone, sampled too.

        Raises:
            ValueError: there is no prompt, it does not fit the context, a per-row plan does not
                fit the prompts, or an intervention touched nothing.
            LookupError: an intervention names a site the model lacks.
        """
        self._require_open()
        single = isinstance(prompts, str)
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        batch = self.backend.encode(texts)
        options = _lengths(generation)
        self._require_room(batch, options)
        with engine.attached(self.backend, steer, n_rows=len(texts)) as block:
            rows = self.backend.generate(batch, {**options, "seed": seed})
        out = self._generations(texts, batch, rows, block, {**options, "seed": seed})
        return out[0] if single and len(out) == 1 else out

    def compare(
        self, prompt: str, *, generation: Mapping[str, Any] | None = None, **variants: Steer
    ) -> Comparison:
        """Generate from one prompt under several plans; the keywords are the columns' titles.

        Generation keywords go into `generation={}`.

        Raises:
            ValueError: no variant was named, or one holds plans for several rows.
        """
        if not variants:
            raise ValueError("nothing to compare: name variants, as in plain=None, mild=0.1 * v")
        options = dict(generation or {})
        plans = {name: as_plan(steer) for name, steer in variants.items()}
        for plan in plans.values():
            plan.check_rows(1)
        if options.get("num_return_sequences", 1) != 1:
            raise ValueError("a comparison shows one text per variant: generate() returns several")
        rows = Plan(tuple(plan.for_row(0) for plan in plans.values()), per_row=True)
        made = self.generate([prompt] * len(plans), steer=rows, **options)
        return Comparison(dict(zip(plans, made, strict=True)))

    def save(self, name: str, value: artifacts.Savable) -> None:
        """Save what a method learned under a name, with its provenance.

        Raises:
            TypeError: the value is no artifact.
            ValueError: it does not say which model it belongs to.
        """
        row, arrays = artifacts.record(name, value)
        self.store.save_artifact(row, arrays)

    def load(self, name: str, *, force: bool = False) -> Any:
        """Load an artifact by name or UUID prefix.

        Raises:
            LookupError: there is none of that name.
            ValueError: it belongs to another model; `force=True` takes it all the same.
        """
        row, arrays = self.store.load_artifact(name)
        own = self.backend.spec.fingerprint
        if not force and not artifacts.same_model(row.fingerprint, own):
            raise ValueError(
                f"{name!r} belongs to {row.fingerprint.model} (weights "
                f"{row.fingerprint.weights_hash[:8]}), this is {own.model} "
                f"({own.weights_hash[:8]}); pass force=True to use it all the same"
            )
        kind = artifacts.resolve(row.kind)
        return kind.from_record(row.method, row.settings, arrays, own if force else row.fingerprint)

    def sql(self, query: str, params: Sequence[Any] = ()) -> pa.Table:
        """Ask the store a question in SQL and return an Arrow table."""
        return self.store.sql(query, params)

    def describe(self) -> str:
        """Say what model this is, which sites it has, and where its store is."""
        spec = self.backend.spec
        where = "a temporary directory" if self._store is None else str(self._store.path)
        return (
            f"{spec.name} ({spec.family}): {spec.n_layers} layers, d_model {spec.d_model}, "
            f"{spec.n_heads} heads, context {spec.n_ctx}\n"
            f"sites: {', '.join(spec.parts)} in layers 0-{spec.n_layers - 1}\n"
            f"store: {where}"
        )

    def close(self) -> None:
        """Close the store and leave the model's hooks as they were; twice is harmless."""
        self._closed = True
        self._owned.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("this session is closed: open the model again with workbench.open()")

    def _require_room(self, batch: Batch, options: Mapping[str, Any]) -> None:
        limit, longest = self.backend.spec.n_ctx, int(batch.lengths.max())
        config = options.get("generation_config")
        # The first of these that is set is the one that transformers goes by.
        for name, fed in (("max_new_tokens", longest), ("max_length", 0)):
            given = options.get(name) or getattr(config, name, None)
            if given and limit is not None and fed + given > limit:
                raise ValueError(
                    f"{longest} prompt tokens and {name}={given} exceed the context of "
                    f"{self.backend.spec.name}, {limit}: shorten one of them"
                )
            if given:
                return

    def _generations(
        self,
        texts: Sequence[str],
        batch: Batch,
        rows: Int[Tensor, "row pos"],
        block: engine.Attached,
        options: Mapping[str, Any],
    ) -> list[Generation]:
        copies = len(rows) // len(texts)
        seed = options["seed"] if options.get("do_sample") else None
        out = []
        for i, row in enumerate(rows.tolist()):
            prompt, copy = divmod(i, copies)
            tokens = self.backend.trimmed(row[batch.tokens.shape[1] :], options)
            own = batch.tokens[prompt][batch.mask[prompt]].tolist()
            base = seed if seed is None or isinstance(seed, int) else seed[prompt]
            made = Generation(
                prompt=texts[prompt],
                text=self.backend.continuation(own, tokens),
                prompt_tokens=tuple(own),
                tokens=tuple(tokens),
                receipt=block.receipts(prompt),
                seed=None if base is None else base + copy,
            )
            out.append(made)
        return out


def _prompts(texts: str | Sequence[str | Prompt], tags: tuple[str, ...]) -> list[Prompt]:
    given = [texts] if isinstance(texts, str) else list(texts)
    if not given:
        raise ValueError("no prompts: the list is empty; give at least one text")
    prompts = [one if isinstance(one, Prompt) else Prompt(text=one) for one in given]
    return [replace(one, tags=(*one.tags, *tags)) for one in prompts]


def _lengths(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Give generation a length when the user gave none: transformers' own default warns."""
    given = {"max_new_tokens", "max_length", "generation_config", "max_time"} & set(generation)
    return dict(generation) if given else {"max_new_tokens": 32, **generation}
