"""Train the pocket model stage by stage; stopping and resuming a run does not change its result."""

import argparse
import hashlib
import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from workbench.pocket import binding, checkpoint
from workbench.pocket.checkpoint import Progress
from workbench.pocket.corpus import questions, stream, vocabulary
from workbench.pocket.model import answers, build, write
from workbench.pocket.recipe import RECIPES, Recipe, Stage
from workbench.pocket.recipe import of as recipe_of
from workbench.pocket.tokenizer import BOS, EOS
from workbench.pocket.tokenizer import build as build_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainer:
    """A network under training, with all that a step needs."""

    recipe: Recipe
    seed: int
    tokenizer: Tokenizer
    model: GPT2LMHeadModel
    optimizer: torch.optim.AdamW
    out: Path
    """Directory of the checkpoint, the log and the weights."""


def start(recipe: Recipe, out: Path, *, seed: int, device: str = "cpu") -> Trainer:
    """Build a trainer; nothing is written yet."""
    tokenizer, _ = build_tokenizer(vocabulary(recipe.families), context=recipe.context)
    model = build(recipe, tokenizer, seed=seed)
    torch.nn.Module.to(model, device)
    # The fused kernel's backward pass takes half of a step on a CPU.
    model.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
    )
    return Trainer(
        recipe=recipe, seed=seed, tokenizer=tokenizer, model=model, optimizer=optimizer, out=out
    )


def train(
    trainer: Trainer, *, seconds: float = float("inf"), most_steps: int | None = None
) -> Progress:
    """Go on from the checkpoint in `out`, if any, until the recipe ends or time or steps are used.

    Every step's texts are drawn from the seed and the step's number, and the network has no
    dropout, so the only state is the weights, the optimizer's moments and the progress; all three
    are in the checkpoint. Raises ValueError when the checkpoint is of another run.
    """
    progress = _resume(trainer)
    stop_at, taken = time.monotonic() + seconds, 0
    while progress.stage < len(trainer.recipe.stages):
        if time.monotonic() > stop_at or taken == most_steps:
            break
        stage = trainer.recipe.stages[progress.stage]
        loss = _step(trainer, stage, progress)
        progress, taken = _advance(progress, stage), taken + 1
        ended = progress.stage_step >= trainer.recipe.steps(stage)
        if ended or progress.step % trainer.recipe.every == 0:
            passed = _examine(trainer, stage, progress, loss)
            progress = (
                replace(progress, stage=progress.stage + 1, stage_step=0)
                if ended or passed
                else progress
            )
            _keep(trainer, progress)
    _keep(trainer, progress)
    return progress


def batch(trainer: Trainer, stage: Stage, step: int) -> Int[Tensor, "row pos"]:
    """Pack texts into rows; each row starts with a text, and its last text may be cut off."""
    bos, eos = trainer.tokenizer.token_to_id(BOS), trainer.tokenizer.token_to_id(EOS)
    texts = stream(f"{trainer.seed}/{step}", stage.mixture, shuffled=trainer.recipe.shuffled)
    rows: list[list[int]] = [[]]
    while len(rows) <= stage.rows:
        ids = trainer.tokenizer.encode(next(texts).text).ids
        assert ids[0] == bos
        rows[-1] += [*ids, eos]
        if len(rows[-1]) > stage.row:
            rows.append([])
    return torch.tensor([row[: stage.row + 1] for row in rows[: stage.rows]])


def _resume(trainer: Trainer) -> Progress:
    """Return where the checkpoint is, or the beginning."""
    decides = f"{trainer.seed} {trainer.recipe} {' '.join(vocabulary(trainer.recipe.families))}"
    run = hashlib.sha256(decides.encode()).hexdigest()
    kept = checkpoint.load(trainer.out, trainer.model, trainer.optimizer)
    if kept is not None and kept.run != run:
        raise ValueError(
            f"cannot resume {trainer.out}: its checkpoint has another seed, recipe or vocabulary; "
            "give the ones it was made with, or another directory"
        )
    return kept or Progress(run=run)


def _step(trainer: Trainer, stage: Stage, progress: Progress) -> float:
    device = trainer.model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=trainer.recipe.half):
        loss = _losses(trainer, stage, progress.step)
    trainer.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.recipe.clip)
    for group in trainer.optimizer.param_groups:
        group["lr"] = _rate(trainer.recipe, stage, progress)
    trainer.optimizer.step()
    return loss.item()


def _losses(trainer: Trainer, stage: Stage, step: int) -> Float[Tensor, ""]:
    """Return the step's loss: of the packed rows, and of the rows of binding families."""
    device, recipe = trainer.model.device, trainer.recipe
    total = torch.zeros((), device=device)
    if stage.rows:
        total = total + _loss(trainer.model, batch(trainer, stage, step).to(device))
    if stage.bound:
        rng = Random(f"rows/{trainer.seed}/{step}")
        bound = binding.draw(trainer.tokenizer, stage, rng, shuffled=recipe.shuffled)
        aids = {kind: recipe.heads[kind] for kind in stage.aids}
        total = total + binding.loss(trainer.model, binding.to(bound, device), aids, recipe.aid)
    return total


def _loss(model: GPT2LMHeadModel, ids: Int[Tensor, "row pos"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the next token, in nats."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def _rate(recipe: Recipe, stage: Stage, progress: Progress) -> float:
    first, last = stage.rate
    done = progress.stage_step / recipe.steps(stage)
    warm = min(1.0, (progress.step + 1) / recipe.warm_up)
    return recipe.learning_rate * warm * (first + (last - first) * done)


def _advance(progress: Progress, stage: Stage) -> Progress:
    return replace(
        progress,
        step=progress.step + 1,
        stage_step=progress.stage_step + 1,
        tokens=progress.tokens + stage.tokens,
    )


def _examine(trainer: Trainer, stage: Stage, progress: Progress, loss: float) -> bool:
    """Log development accuracy by family, and tell whether all gates of the stage are passed."""
    accuracy = {}
    for family in stage.families:
        right = answers(
            trainer.model,
            trainer.tokenizer,
            questions(family, "development", trainer.recipe.questions),
        )
        accuracy[family] = sum(right) / len(right)
    line = {
        "step": progress.step,
        "tokens": progress.tokens,
        "stage": stage.name,
        "loss": loss,
        "accuracy": accuracy,
    }
    checkpoint.append_log(trainer.out, line)
    log.info("%s", json.dumps(line))
    return bool(stage.gates) and all(
        accuracy[family] >= gate for family, gate in stage.gates.items()
    )


def _keep(trainer: Trainer, progress: Progress) -> None:
    checkpoint.save(trainer.out, trainer.model, trainer.optimizer, progress)
    write(trainer.model, vocabulary(trainer.recipe.families), trainer.out / "weights")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m workbench.pocket.train", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="directory for checkpoint, log and weights"
    )
    parser.add_argument("--recipe", choices=list(RECIPES), default="pocket")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, help="budget; the schedule follows it")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after; the same command resumes"
    )
    parser.add_argument("--control", choices=["shuffled"], help="train the negative control")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(chosen.threads)
    recipe = recipe_of(chosen.recipe)
    recipe = replace(
        recipe,
        tokens=chosen.tokens or recipe.tokens,
        shuffled=recipe.shuffled or chosen.control == "shuffled",
    )
    trainer = start(recipe, chosen.out, seed=chosen.seed, device=chosen.device)
    train(trainer, seconds=chosen.minutes * 60)


if __name__ == "__main__":
    main()
