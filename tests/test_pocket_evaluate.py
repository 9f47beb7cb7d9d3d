"""The committed weights are what the card says, and load alike in three libraries."""

import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from workbench import pocket
from workbench.pocket import card, corpus, evaluate, recipe, statistics, targets
from workbench.pocket.model import build, word_ids
from workbench.pocket.recipe import Recipe

CARD = pocket.path().parent / "card.md"
MEGABYTES = 12

Model = tuple[GPT2LMHeadModel, Tokenizer]


@pytest.fixture(scope="module")
def loaded() -> Model:
    torch.set_num_threads(1)
    return evaluate.load(pocket.path())


@cache
def checkpoint(name: str) -> Model:
    return evaluate.load(pocket.path(name))


@pytest.mark.parametrize("name", pocket.names())
def test_the_card_describes_the_committed_files(name: str) -> None:
    weights = pocket.path(name)
    assert card.problems(weights.parent / "card.md", weights) == []
    assert f"# The embedded model `{name}`" in (weights.parent / "card.md").read_text()


def test_all_checkpoints_together_are_small() -> None:
    files = [file for name in pocket.names() for file in pocket.path(name).iterdir()]
    assert sum(file.stat().st_size for file in files) < MEGABYTES * 1e6


def test_an_unknown_checkpoint_or_recipe_names_the_known_ones() -> None:
    for ask in (pocket.path, recipe.of):
        with pytest.raises(LookupError, match="pocket, pocket-bind, pocket-play, pocket-shuffled"):
            ask("pocket-giant")
    with pytest.raises(LookupError, match="train, development, test"):
        evaluate.checked_split("exam")


@pytest.mark.parametrize(
    ("old", "new"), [("0.9", "0.8"), ("## Recipe", "## recipe"), ("| seed | ", "| seed | 1")]
)
def test_an_altered_card_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    altered = tmp_path / "card.md"
    altered.write_text(CARD.read_text().replace(old, new, 1))
    assert card.problems(altered, pocket.path()) == ["the card was altered after it was written"]


def test_altered_weights_are_noticed(tmp_path: Path) -> None:
    directory = shutil.copytree(pocket.path(), tmp_path / "weights")
    content = bytearray((directory / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (directory / "model.safetensors").write_bytes(content)
    assert [p.split()[0] for p in card.problems(CARD, directory)] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "family"),
    [(name, family) for name in pocket.names() for family in recipe.of(name).families],
)
def test_measuring_again_agrees_with_the_card(name: str, family: str) -> None:
    model, tokenizer = checkpoint(name)
    written = card.figures(pocket.path(name).parent / "card.md")
    carded = {figure.name: figure for figure in written if figure.split == "test"}
    accuracy = evaluate.accuracy(model, tokenizer, corpus.questions(family, "test", 200, seed=5))
    texts = corpus.texts(60, seed=5, split="test", mixture={family: 1.0})
    for again in (accuracy, evaluate.perplexity(model, tokenizer, texts)):
        figure = carded[again.name]
        assert figure.low <= figure.value <= figure.high
        assert again.low <= figure.high and figure.low <= again.high


def test_facts_held_out_are_known(loaded: Model) -> None:
    model, tokenizer = loaded
    assert evaluate.accuracy(model, tokenizer, corpus.questions("facts", "test", 580)).value >= 0.98


@pytest.mark.parametrize("name", pocket.names())
def test_the_cards_verdicts_follow_from_its_figures(name: str) -> None:
    written = pocket.path(name).parent / "card.md"
    figures = card.figures(written)
    for target in targets.of(name):
        verdict = {True: "met", False: "**missed**"}[bool(targets.met(target, figures))]
        assert f"| {target.name} | {verdict} |" in written.read_text()


def test_the_shuffled_control_knows_nothing_that_pocket_knows() -> None:
    for family in ("facts", "reviews", "styles", "stories"):
        asked = corpus.questions(family, "test", 200, seed=5)
        control = evaluate.accuracy(*checkpoint("pocket-shuffled"), asked)
        assert control.high < evaluate.accuracy(*checkpoint("pocket"), asked).low


def test_the_interval_of_a_share_holds_it_and_narrows() -> None:
    low, high = statistics.wilson(9, 10)
    assert 0 < low < 0.9 < high < 1
    assert statistics.wilson(0, 10)[0] == 0 and statistics.wilson(10, 10)[1] == pytest.approx(1)
    wide, narrow = (
        high - low for low, high in (statistics.wilson(5, 10), statistics.wilson(500, 1000))
    )
    assert narrow < wide


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary(loaded: Model) -> None:
    _, tokenizer = loaded
    model = build(Recipe(n_layers=1, d_model=8, n_heads=1, context=128), tokenizer, seed=0)
    torch.nn.init.zeros_(model.transformer.wte.weight)
    figure = evaluate.perplexity(model, tokenizer, corpus.texts(5))
    assert figure.value == pytest.approx(tokenizer.get_vocab_size())
    assert figure.low == pytest.approx(figure.high)


def test_a_word_of_several_tokens_is_refused(loaded: Model) -> None:
    with pytest.raises(LookupError, match="no token for 'zebra'"):
        word_ids(loaded[1], ["warm", "zebra"])


def test_the_command_line_writes_a_card_of_the_weights_it_measured(tmp_path: Path) -> None:
    directory = shutil.copytree(pocket.path(), tmp_path / "weights")
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 7, "tokens": 99, "stage": "learn"}\n')
    options = ["--weights", str(directory), "--log", str(log), "--seed", "5", "--questions", "6"]
    evaluate.main([*options, "--rule", "the last one", "--no-effects"])
    written = tmp_path / "card.md"
    assert card.problems(written, directory) == []
    assert {"| seed | 5 |", "| tokens trained | 99 |"} < set(written.read_text().splitlines())
    kinds = len(recipe.of("pocket").families) * 2 + 1
    assert len(card.figures(written)) == 2 * kinds
    assert "| seeds tried, and rule of choice | the last one |" in written.read_text()
    assert "not measured" in written.read_text()


def test_left_padding_and_half_precision_files_change_no_logit(loaded: Model) -> None:
    model, _ = loaded
    tokenizer = AutoTokenizer.from_pretrained(pocket.path(), local_files_only=True)
    again = AutoModelForCausalLM.from_pretrained(pocket.path(), local_files_only=True)
    assert again.dtype == torch.float32
    prompts = ["The soup was", "Question: Which city does Ada live in? Answer:"]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        together = again(**batch, position_ids=positions).logits[0, -1]
        alone = model(**tokenizer(prompts[0], return_tensors="pt")).logits[0, -1]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_three_libraries_compute_the_same_logits(loaded: Model) -> None:
    from nnsight.modeling.transformers import TransformersModel
    from transformer_lens.model_bridge import TransformerBridge

    directory = str(pocket.path())
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    prompt = "Sadly, the soup was cold and the waiter was"
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = loaded[0](ids).logits
        bridge = TransformerBridge.boot_transformers(directory, device="cpu", dtype=torch.float32)
        lens = bridge(ids)
        sight = TransformersModel(
            directory, tokenizer=tokenizer, task="text-generation", dispatch=True
        )
        with sight.trace(ids):
            traced = sight.lm_head.output.save()
    torch.testing.assert_close(lens, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(traced, expected, atol=1e-4, rtol=0)
