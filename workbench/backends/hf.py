"""Any Hugging Face causal language model, watched and changed through permanent hooks."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn as nn
from jaxtyping import Float, Int
from torch import Tensor

from store import Site
from workbench.architectures import Architecture
from workbench.backends.base import Detach, Edit, ModelSpec
from workbench.backends.sampling import sampled
from workbench.backends.taps import Expected, Taps, per_head
from workbench.batch import Batch


class HFBackend:
    """A Hugging Face model and its tokenizer, with hooks that stay and cost nothing when idle."""

    def __init__(self, model: Any, tokenizer: Any, spec: ModelSpec, taps: Taps) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._spec = spec
        self._taps = taps

    @property
    def spec(self) -> ModelSpec:
        """The sizes and the identity of the model."""
        return self._spec

    def encode(self, texts: Sequence[str]) -> Batch:
        """Turn texts into a batch, special tokens as the tokenizer adds them.

        Raises:
            ValueError: there is no text, a text has no tokens, or one exceeds the context.
        """
        return self.batch(self.tokenize(texts))

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids and check that each fits the context; raises as `encode`."""
        if not texts:
            raise ValueError("no prompts: the list is empty; give at least one text")
        rows = self.tokenizer(list(texts))["input_ids"]
        limit = self.spec.n_ctx
        for i, row in enumerate(rows):
            if not row:
                raise ValueError(f"prompt {i} has no tokens: give it some text")
            if limit is not None and len(row) > limit:
                raise ValueError(
                    f"prompt {i} has {len(row)} tokens: the context of {self.spec.name} is "
                    f"{limit}; shorten it or split it"
                )
        return rows

    def batch(self, rows: Sequence[Sequence[int]]) -> Batch:
        """Pad rows of token ids and put them where the model is."""
        return Batch.pad(rows, pad_id=self.pad_id).to(self.device)

    @property
    def row(self) -> Architecture:
        """Where this model's parts are."""
        return self._taps.row

    def release(self) -> None:
        """Take the hooks off, unless someone else has opened the model too."""
        self._taps.release()

    @property
    def pad_id(self) -> int:
        """The token that fills rows up; its activations are never used."""
        if self.tokenizer.pad_token_id is not None:
            return int(self.tokenizer.pad_token_id)
        return int(self.tokenizer.eos_token_id or 0)

    @property
    def device(self) -> torch.device:
        """Where the model's embedding is."""
        return next(self.model.parameters()).device

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn tokens into text, special tokens left out."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)

    def trimmed(self, tokens: Sequence[int], options: Mapping[str, Any]) -> list[int]:
        """Return generated tokens up to and with the end-of-text token, without filling."""
        ends = self._ends(options)
        for i, token in enumerate(tokens):
            if token in ends:
                return list(tokens[: i + 1])
        return list(tokens)

    def _ends(self, options: Mapping[str, Any]) -> set[int]:
        ends = options.get("eos_token_id", self.model.generation_config.eos_token_id)
        return {ends} if isinstance(ends, int) else set(ends or ())

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Return the text of each token, with the space in front that many tokenizers hide."""
        (anchor,) = self.tokenizer(["a"])["input_ids"]
        texts = {one: self.tokenizer.decode([*anchor, one]) for one in set(tokens)}
        head = self.tokenizer.decode(anchor)
        return [texts[one].removeprefix(head) for one in tokens]

    def continuation(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        """Return the text that tokens add to a prompt, spaces at the seam included."""
        before, whole = self.decode(prompt), self.decode([*prompt, *tokens])
        return whole[len(before) :] if whole.startswith(before) else self.decode(tokens)

    def forward(self, batch: Batch, keep: int = 0) -> Float[Tensor, "batch kept d_vocab"]:
        """Run the model once and return the logits of the last `keep` positions, 0 for all."""
        # A hand-built model need not know the option, so it is passed only when it is asked for.
        kept = {"logits_to_keep": keep} if keep else {}
        return self.model(
            input_ids=batch.tokens,
            attention_mask=batch.mask.long(),
            position_ids=batch.positions,
            use_cache=False,
            **kept,
        ).logits

    def generate(self, batch: Batch, options: Mapping[str, Any]) -> Int[Tensor, "row pos"]:
        """Generate with Hugging Face's own options, and `seed`: one number, or one per prompt.

        When sampling, every row draws from a generator of its own, so that a row of a batch is
        what it is alone. Beam sampling draws from torch's generator, seeded and put back.
        """
        options = dict(options)
        seed = options.pop("seed", 0)
        options.setdefault("pad_token_id", self.pad_id)
        options["return_dict_in_generate"] = False
        with contextlib.ExitStack() as stack:
            stop = torch.tensor(sorted({*self._ends(options), self.pad_id}), device=self.device)
            stack.callback(self._taps.expect(Expected(n_prompt=batch.lengths, stop=stop)))
            devices = [self.device] if self.device.type == "cuda" else []
            stack.enter_context(torch.random.fork_rng(devices=devices))
            if options.get("do_sample"):
                options = self._sampling(options, seed, len(batch.tokens))
            return self.model.generate(
                input_ids=batch.tokens, attention_mask=batch.mask.long(), **options
            )

    def _sampling(
        self, options: dict[str, Any], seed: int | Sequence[int], n_rows: int
    ) -> dict[str, Any]:
        seeds = [seed] * n_rows if isinstance(seed, int) else list(seed)
        if len(seeds) != n_rows:
            raise ValueError(f"{len(seeds)} seeds for {n_rows} prompts: give one, or one each")
        if options.get("num_beams", 1) > 1:
            torch.manual_seed(seeds[0])
            return options
        copies = options.get("num_return_sequences") or 1
        rows = [one + copy for one in seeds for copy in range(copies)]
        return sampled(options, rows, self.tokenizer)

    def attach(self, site: Site, fn: Edit) -> Detach:
        """Let `fn` see, and change, a site in this context until the returned function is called.

        Raises:
            LookupError: the model has no such site.
        """
        (site,) = self.spec.select(site)
        return self._taps.attach(*per_head(site, fn, self.spec.d_head))

    def unembed(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_vocab"]:
        """Turn residual-stream vectors into logits through the final norm and the unembedding."""
        row = self._taps.row
        norm: nn.Module = self.model.get_submodule(row.ln_final)
        head: nn.Module = self.model.get_submodule(row.unembed)
        # forward() itself, since the hooks of these modules expect a pass of the whole model.
        logits = head.forward(norm.forward(x))
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap
