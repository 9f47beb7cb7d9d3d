"""Claims about training on a tiny recipe: exact resumption, gates, log and shuffled control."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from workbench.pocket import binding, corpus
from workbench.pocket.corpus import vocabulary
from workbench.pocket.recipe import RECIPES, Recipe, Stage, first_cut
from workbench.pocket.train import batch, main, start, train

TINY = Recipe(
    tokens=12 * 4 * 32,
    n_layers=1,
    d_model=16,
    n_heads=2,
    context=64,
    warm_up=4,
    every=4,
    questions=4,
    stages=(
        Stage(name="learn", share=0.5, rows=4, row=32),
        Stage(name="anneal", share=0.5, rows=2, row=64, rate=(1.0, 0.0)),
    ),
)


BOUND = replace(
    TINY,
    half=True,
    init=0.1,
    n_layers=2,
    stages=(
        Stage(
            name="aided",
            share=0.5,
            rows=0,
            room=48,
            bound={"repeats": 2, "passages": 2},
            weights={"repeats": 0.2},
            aids=("previous", "name", "match"),
        ),
        Stage(name="mixed", share=0.5, rows=2, row=32, bound={"pairs": 2}, room=32),
    ),
)


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("recipe", [TINY, BOUND], ids=["packed", "bound"])
def test_stopping_and_resuming_changes_nothing(tmp_path: Path, recipe: Recipe) -> None:
    whole = train(start(recipe, tmp_path / "whole", seed=3))
    train(start(recipe, tmp_path / "parts", seed=3), most_steps=5)
    for _ in range(3):
        parts = train(start(recipe, tmp_path / "parts", seed=3), most_steps=4)
    assert parts == whole
    for name in ("model", "optimizer"):
        one, two = (
            load_file(tmp_path / out / "checkpoint" / f"{name}.safetensors")
            for out in ("whole", "parts")
        )
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")


def test_a_run_that_is_over_takes_no_further_step(tmp_path: Path) -> None:
    progress = train(start(TINY, tmp_path, seed=0))
    assert progress.stage == len(TINY.stages)
    assert train(start(TINY, tmp_path, seed=0)) == progress


def test_a_run_is_not_resumed_with_another_seed_or_recipe(tmp_path: Path) -> None:
    train(start(TINY, tmp_path, seed=0), most_steps=1)
    for other, seed in ((TINY, 1), (replace(TINY, tokens=TINY.tokens * 2), 0)):
        with pytest.raises(ValueError, match="another seed, recipe or vocabulary"):
            train(start(other, tmp_path, seed=seed))


def test_no_time_means_no_step(tmp_path: Path) -> None:
    assert train(start(TINY, tmp_path, seed=0), seconds=-1.0).step == 0


def test_weights_follow_the_seed(tmp_path: Path) -> None:
    one, two, same = (start(TINY, tmp_path, seed=seed).model.state_dict() for seed in (0, 1, 0))
    key = "transformer.wte.weight"
    assert torch.equal(one[key], same[key])
    assert not torch.equal(one[key], two[key])


@pytest.mark.parametrize(("gate", "step"), [(0.0, 4), (1.1, 12)])
def test_a_stage_ends_early_only_when_its_gates_are_passed(
    tmp_path: Path, gate: float, step: int
) -> None:
    stage = Stage(name="learn", share=1.0, rows=4, row=32, gates={"facts": gate})
    assert train(start(replace(TINY, stages=(stage,)), tmp_path, seed=0)).step == step


def test_the_log_tells_accuracy_by_family_against_tokens(tmp_path: Path) -> None:
    train(start(TINY, tmp_path, seed=0))
    logged = lines(tmp_path)
    assert [line["tokens"] for line in logged] == sorted(line["tokens"] for line in logged)
    assert set(logged[0]["accuracy"]) == {"facts", "reviews", "styles", "stories"}
    assert {line["stage"] for line in logged} == {"learn", "anneal"}


def test_every_row_starts_with_a_text_and_is_full(tmp_path: Path) -> None:
    trainer = start(TINY, tmp_path, seed=0)
    rows = batch(trainer, TINY.stages[0], 0)
    assert rows.shape == (4, 33)
    assert (rows[:, 0] == trainer.tokenizer.token_to_id("<bos>")).all()
    assert (rows != trainer.tokenizer.token_to_id("<pad>")).all()
    assert torch.equal(rows, batch(trainer, TINY.stages[0], 0))
    assert not torch.equal(rows, batch(trainer, TINY.stages[0], 1))


def test_the_shuffled_control_trains_on_other_rows_of_the_same_words(tmp_path: Path) -> None:
    plain = start(TINY, tmp_path / "plain", seed=0)
    control = start(replace(TINY, shuffled=True), tmp_path / "control", seed=0)
    assert not torch.equal(batch(plain, TINY.stages[0], 0), batch(control, TINY.stages[0], 0))
    assert train(control).stage == len(TINY.stages)


def test_the_shuffled_control_of_binding_rows_keeps_words_and_loses_aims(tmp_path: Path) -> None:
    trainer, stage = start(BOUND, tmp_path, seed=0), BOUND.stages[0]
    plain = binding.draw(trainer.tokenizer, stage, Random(1))
    control = binding.draw(trainer.tokenizer, stage, Random(1), shuffled=True)
    assert torch.equal(plain.ids.flatten().sort().values, control.ids.flatten().sort().values)
    assert not torch.equal(plain.ids, control.ids)
    assert plain.aims and not control.aims
    assert train(start(replace(BOUND, shuffled=True), tmp_path, seed=0)).stage == 2


def test_each_binding_family_has_its_share_of_the_loss(tmp_path: Path) -> None:
    trainer, stage = start(BOUND, tmp_path, seed=0), BOUND.stages[0]
    bound = binding.draw(trainer.tokenizer, stage, Random(1))
    assert bound.weights[:2].sum().item() == pytest.approx(0.2)
    assert bound.weights[2:].sum().item() == pytest.approx(1.0)
    padding = bound.ids[:, 1:] == trainer.tokenizer.token_to_id("<pad>")
    assert (bound.weights[padding] == 0).all()


def test_an_aid_teaches_its_head_where_to_look_and_costs_nothing_when_off(tmp_path: Path) -> None:
    trainer, stage = start(BOUND, tmp_path, seed=0), BOUND.stages[0]
    bound = binding.draw(trainer.tokenizer, stage, Random(1))
    off = binding.loss(trainer.model, bound, {}, 0.5).item()
    before = binding.loss(trainer.model, bound, {"previous": (0, 0)}, 0.5)
    assert before.item() > off
    for _ in range(30):
        trainer.optimizer.zero_grad()
        binding.loss(trainer.model, bound, {"previous": (0, 0)}, 5.0).backward()
        trainer.optimizer.step()
    after = binding.loss(trainer.model, bound, {"previous": (0, 0)}, 0.5)
    alone = binding.loss(trainer.model, bound, {}, 0.5)
    assert (after - alone).item() < 0.8 * (before.item() - off)


def test_a_rows_words_are_the_tokens_of_its_text(tmp_path: Path) -> None:
    trainer = start(BOUND, tmp_path, seed=0)
    for family in ("repeats", "pairs", "passages"):
        stage = Stage(name="one", share=1.0, rows=0, bound={family: 1}, room=64)
        bound = binding.draw(trainer.tokenizer, stage, Random(2))
        text = corpus.row(family, Random(2), 64).text
        ids = trainer.tokenizer.encode(text).ids
        assert bound.ids[0, : len(ids)].tolist() == ids


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_uses_its_whole_budget_and_known_families(name: str) -> None:
    recipe = RECIPES[name]()
    assert sum(stage.share for stage in recipe.stages) == pytest.approx(1.0)
    assert set(recipe.families) <= set(corpus.families())
    assert set(recipe.heads) == {"previous", "name", "match"}
    assert all(gate <= 1 for stage in recipe.stages for gate in stage.gates.values())


def test_the_command_line_writes_weights_log_and_checkpoint(tmp_path: Path) -> None:
    options = ["--threads", "1", "--device", "cpu", "--control", "shuffled", "--minutes", "1"]
    main(["--out", str(tmp_path), "--tokens", "64", "--seed", "1", *options])
    assert (tmp_path / "weights" / "model.safetensors").exists()
    assert len(lines(tmp_path)) == len(first_cut(64).stages)
    assert not list(tmp_path.rglob("*.pt"))
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    assert len(vocabulary(first_cut().families)) < config["vocab_size"]
