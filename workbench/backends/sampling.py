"""Sampling that gives every row of a batch its own random numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteriaList, StopStringCriteria


class RowSampler(LogitsProcessor):
    """Choose each row's next token with that row's own generator.

    Adding Gumbel noise to the logits and taking the maximum samples from their softmax. The choice
    is handed on as the only token with probability, so the caller's own draw cannot change it.
    It must come last, after temperature and the cuts.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(
        self,
        input_ids: Int[Tensor, "row pos"],  # noqa: ARG002  transformers' signature
        scores: Float[Tensor, "row d_vocab"],
    ) -> Float[Tensor, "row d_vocab"]:
        """Return scores that leave one token per row."""
        noise = torch.stack(
            [torch.rand(scores.shape[1], generator=one) for one in self._generators]
        ).to(scores.device)
        gumbel = -torch.log(-torch.log(noise.clamp(min=1e-20)))
        chosen = (scores.float() + gumbel).argmax(-1, keepdim=True)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, chosen, 0.0)


def sampled(options: dict[str, Any], seeds: Sequence[int], tokenizer: Any) -> dict[str, Any]:
    """Return generation options with which every row samples by its own seed.

    transformers puts a caller's processors before temperature and the cuts, so the sampler has to
    join inside the decoding loop. With a loop of one's own transformers 5.23 forgets the streamer
    and the tokenizer of stop strings on the way; both are carried past it here.
    """
    options = dict(options)
    stop = options.pop("stop_strings", None)
    if stop is not None:
        criteria = StoppingCriteriaList(options.get("stopping_criteria") or [])
        criteria.append(StopStringCriteria(options.pop("tokenizer", tokenizer), stop))
        options["stopping_criteria"] = criteria
    options["custom_generate"] = _loop(RowSampler(seeds))
    options["stream_to"] = options.get("streamer")
    return options


def _loop(sampler: RowSampler) -> Callable[..., Any]:
    def loop(
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        stream_to: Any = None,
        **rest: Any,
    ) -> Any:
        logits_processor.append(sampler)
        return model._sample(
            input_ids, logits_processor, stopping_criteria, generation_config,
            streamer=stream_to, **rest,
        )  # fmt: skip

    return loop
