"""What the engine costs, as ratios to the bare Hugging Face model in the same process.

Runs alternate, and each ratio is taken within a round; printed are the medians over rounds with
their bootstrap intervals, of CPU time. Models have the shapes of GPT-2 and Llama with 6 layers of
width 384 and random weights: speed does not depend on what a model knows.

    python -m benchmarks.engine [rounds]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

import workbench
from steering import SteeringVector
from store import Prompt
from tests.tiny import tokenizer
from workbench import Session, engine
from workbench.capture import TOKENS_PER_BATCH

BATCH, LENGTH, NEW, TEXTS = 8, 128, 64, 16
Work = Callable[[], Any]


def main(rounds: int = 15) -> None:
    """Print the table of ratios for both shapes."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {rounds} rounds, CPU time, one thread")
    for name, config in shapes().items():
        model = AutoModelForCausalLM.from_config(config).eval()
        bare = AutoModelForCausalLM.from_config(config).eval()
        with (
            tempfile.TemporaryDirectory() as folder,
            workbench.open(model, tokenizer=tokenizer(), store=Path(folder) / "store") as lab,
        ):
            report(f"{name}: forward of {BATCH}x{LENGTH}", forwards(bare, lab), rounds)
            report(f"{name}: capture of {TEXTS} texts of {LENGTH}", captures(bare, lab), rounds)
            report(f"{name}: generate {NEW}, batch {BATCH}", generates(bare, lab), rounds)


def shapes() -> dict[str, Any]:
    """Give the two configurations."""
    ends: dict[str, Any] = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
    gpt2 = GPT2Config(n_embd=384, n_layer=6, n_head=6, vocab_size=8192, n_positions=512, **ends)
    llama = LlamaConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=6, intermediate_size=1024,
        vocab_size=8192, max_position_embeddings=512, **ends,
    )  # fmt: skip
    return {"GPT-2": gpt2, "Llama": llama}


def forwards(bare: Any, lab: Session) -> dict[str, Work]:
    """Give the forward passes to compare; the first one is the bare model."""
    texts = ["x" * LENGTH for _ in range(BATCH)]
    batch, sites = lab.backend.encode(texts), lab.backend.spec.select("resid_post.*")
    inputs = {"input_ids": batch.tokens, "attention_mask": batch.mask.long()}

    def plain() -> None:
        with torch.no_grad():
            bare(**inputs, use_cache=False)

    return {
        "bare Hugging Face": plain,
        "bare Hugging Face again (noise)": plain,
        "hooks idle": lambda: engine.run(lab.backend, batch),
        "capture resid_post.* as tensors": lambda: engine.run(lab.backend, batch, reads=sites),
    }


def captures(bare: Any, lab: Session) -> dict[str, Work]:
    """Give the capture into a store, and bare passes over the same texts in the same batches."""
    prompts = [Prompt(text=f"{i:0{LENGTH}}") for i in range(TEXTS)]
    rows = TOKENS_PER_BATCH // LENGTH
    batches = [
        lab.backend.encode([one.text for one in prompts[i : i + rows]])
        for i in range(0, TEXTS, rows)
    ]

    def plain() -> None:
        with torch.no_grad():
            for batch in batches:
                bare(input_ids=batch.tokens, attention_mask=batch.mask.long(), use_cache=False)

    return {
        "bare Hugging Face": plain,
        "bare Hugging Face again (noise)": plain,
        "lab.capture resid_post.* to disk, bf16": lambda: lab.capture(
            prompts, "resid_post.*", again=True
        ),
    }


def generates(bare: Any, lab: Session) -> dict[str, Work]:
    """Give the generations to compare; the first one is the bare model."""
    batch = lab.backend.encode(["y" * 16 for _ in range(BATCH)])
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
    inputs = {"input_ids": batch.tokens, "attention_mask": batch.mask.long(), "pad_token_id": 258}

    def steered(at: str, rule: str) -> Work:
        draw = torch.Generator().manual_seed(0)
        directions = {s: torch.randn(384, generator=draw) for s in lab.backend.spec.select(at)}
        vector = 0.01 * SteeringVector(directions=directions, rule=rule)

        def run() -> None:
            with engine.attached(lab.backend, vector, n_rows=BATCH) as block:
                lab.backend.generate(batch, options)
            assert block.receipts(0)

        return run

    return {
        "bare Hugging Face": lambda: bare.generate(**inputs, **options),
        "bare Hugging Face again (noise)": lambda: bare.generate(**inputs, **options),
        "hooks idle": lambda: lab.backend.generate(batch, options),
        "add at 3 layers": steered("resid_post.1-3", "add"),
        "add at 6 layers": steered("resid_post.*", "add"),
        "icv at 3 layers": steered("resid_post.1-3", "icv"),
        "icv at 6 layers": steered("resid_post.*", "icv"),
    }


def report(title: str, works: dict[str, Work], rounds: int) -> None:
    """Time the works in turn, round after round, and print each one's ratio to the first."""
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    for i in range(rounds):
        # Every other round backwards, so that no work always runs behind the same one.
        for name in order if i % 2 == 0 else reversed(order):
            start = time.process_time()
            works[name]()
            seconds[name].append(time.process_time() - start)
    base = np.array(seconds[order[0]])
    print(f"\n{title}: bare median {statistics.median(base) * 1000:.0f} ms")
    for name in order[1:]:
        ratios = np.array(seconds[name]) / base
        low, high = _interval(ratios)
        print(f"  {name:<38} ×{np.median(ratios):.3f}  [{low:.3f}, {high:.3f}]")


def _interval(ratios: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    drawn = np.median(ratios[rng.integers(0, len(ratios), (2000, len(ratios)))], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
