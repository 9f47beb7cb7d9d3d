"""Checkpoints that resume exactly: weights, moments and progress, as safetensors and JSON."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come."""

    run: str
    """Digest of all that decides the run: seed, recipe and words."""
    step: int = 0
    stage: int = 0
    """Index of the stage; equal to the number of stages when the run is over."""
    stage_step: int = 0
    """Steps taken in the stage."""
    tokens: int = 0


def save(
    out: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write the checkpoint beside the old one, then put it in the old one's place."""
    fresh, kept = out / "checkpoint.new", out / "checkpoint"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file({k: v.clone() for k, v in model.state_dict().items()}, fresh / "model.safetensors")
    save_file(_moments(optimizer), fresh / "optimizer.safetensors")
    (fresh / "progress.json").write_text(json.dumps(asdict(progress)) + "\n")
    shutil.rmtree(kept, ignore_errors=True)
    fresh.rename(kept)


def load(out: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
    """Restore model and optimizer in place, and cut the log back; None without a checkpoint."""
    kept = out / "checkpoint" if (out / "checkpoint").exists() else out / "checkpoint.new"
    if not (kept / "progress.json").exists():
        return None
    progress = Progress(**json.loads((kept / "progress.json").read_text()))
    model.load_state_dict(load_file(kept / "model.safetensors"))
    _restore(optimizer, load_file(kept / "optimizer.safetensors"))
    _cut_log(out, progress.step)
    return progress


def append_log(out: Path, line: dict[str, object]) -> None:
    """Add one line of JSON to the run's log."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _cut_log(out: Path, step: int) -> None:
    """Drop what was logged after the checkpoint; it will be logged again."""
    log = out / "log.jsonl"
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
        log.write_text("".join(line + "\n" for line in lines))


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": tensor.clone()
        for index, parts in state.items()
        for name, tensor in parts.items()
    }


def _restore(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in moments.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
