"""Opening: names, directories and modules; what is refused says why; nothing is left behind."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn as nn
from conftest import hooks
from transformers import AutoModelForCausalLM, GraniteConfig

import workbench
from store import Site, Store, StoreError
from workbench import Architecture, engine
from workbench.backends.taps import installed
from workbench.opening import backend_for, fingerprint

REGISTRIES = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called",
)  # fmt: skip
LLAMA = {
    "blocks": "model.layers", "embed": "model.embed_tokens", "ln_final": "model.norm",
    "unembed": "lm_head", "attn_out": "self_attn", "attn_project": "self_attn.o_proj",
    "mlp_out": "mlp", "mlp_project": "mlp.down_proj",
}  # fmt: skip


def registries(model: nn.Module) -> list[list[tuple[Any, Any]]]:
    return [list(getattr(m, name).items()) for m in model.modules() for name in REGISTRIES]


def granite(residual_multiplier: float) -> Any:
    """Build a family that the table does not have, whose blocks scale what they add."""
    config = GraniteConfig(**tiny.GROUPED, residual_multiplier=residual_multiplier)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its tokenizer, as save_pretrained leaves them."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    tiny.model("llama").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def untouched() -> Iterator[Callable[[Any], Any]]:
    """Watch models: at the end their hook registries must be what they were."""
    watched: list[tuple[Any, Any]] = []

    def watch(model: Any) -> Any:
        watched.append((model, registries(model)))
        return model

    yield watch
    for model, before in watched:
        assert registries(model) == before


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_each_known_family_opens_with_its_own_sizes(
    family: str, untouched: Callable[[Any], Any]
) -> None:
    model = untouched(tiny.model(family))
    with workbench.open(model, tokenizer=tiny.tokenizer()) as lab:
        spec = lab.backend.spec
        assert spec.family == family
        assert (spec.n_layers, spec.n_heads, spec.d_model, spec.n_ctx) == (3, 4, 32, 64)
        sites = spec.select("embed,resid_pre.*,z.*,attn_out.*,mlp_post.*,mlp_out.*,ln_final")
        reads = engine.run(lab.backend, lab.backend.encode(["hello"]), reads=sites).reads
        assert {site: x.shape[-1] for site, x in reads.items()} == {s: spec.width(s) for s in sites}


def test_a_saved_directory_opens_with_its_tokenizer_and_generates_as_the_module(
    directory: Path,
) -> None:
    with workbench.open(directory) as lab:
        assert lab.backend.spec.name == str(directory)
        one = lab.generate("hello", max_new_tokens=4)
    with workbench.open(tiny.model("llama"), tokenizer=tiny.tokenizer()) as lab:
        two = lab.generate("hello", max_new_tokens=4)
    assert one.tokens == two.tokens
    assert one.prompt_tokens == two.prompt_tokens


def test_pocket_is_the_default_and_opens_offline() -> None:
    with workbench.open() as lab:
        assert lab.backend.spec.name == "pocket"
        assert lab.backend.spec.family == "gpt2"
        assert not lab.backend.model.training


def test_a_hub_id_is_found_in_a_local_cache(directory: Path, tmp_path: Path) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--acme--tiny"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(revision)
    (repo / "snapshots" / revision).symlink_to(directory, target_is_directory=True)
    program = (
        "import workbench\n"
        "with workbench.open('acme/tiny') as lab:\n"
        "    own = lab.backend.spec.fingerprint\n"
        "    print(own.model, own.revision, own.weights_hash)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    own = fingerprint(tiny.model("llama"), tiny.tokenizer(), "x")
    assert answer.stdout.split() == ["acme/tiny", revision, own.weights_hash]


def test_a_missing_model_says_what_there_is(tmp_path: Path) -> None:
    for name in ("acme/no-such-model", str(tmp_path), str(tmp_path / "nowhere")):
        with pytest.raises(
            LookupError, match=r"no model '.*': there is the embedded 'pocket', any "
        ):
            workbench.open(name)


def test_damaged_weights_are_refused_by_name(directory: Path, tmp_path: Path) -> None:
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(LookupError, match="no model .*there is the embedded 'pocket'"):
        workbench.open(tmp_path)


def test_a_module_needs_its_tokenizer_and_must_not_be_training(
    untouched: Callable[[Any], Any],
) -> None:
    model = untouched(tiny.model("gpt2"))
    with pytest.raises(ValueError, match="GPT2LMHeadModel came as a module: pass tokenizer="):
        workbench.open(model)
    model.train()
    with pytest.raises(ValueError, match="GPT2LMHeadModel is in training mode, .* call model.eval"):
        workbench.open(model, tokenizer=tiny.tokenizer())


def test_an_unknown_family_whose_modules_fit_and_whose_blocks_add_up_is_accepted(
    untouched: Callable[[Any], Any],
) -> None:
    model = untouched(granite(1.0))
    with workbench.open(model, tokenizer=tiny.tokenizer()) as lab:
        assert model.config.model_type not in tiny.FAMILIES
        assert lab.backend.spec.family in ("llama", "mistral", "qwen2", "qwen3")


def test_an_unknown_family_whose_blocks_scale_what_they_add_is_refused_with_the_identity(
    untouched: Callable[[Any], Any],
) -> None:
    model = untouched(granite(0.5))
    said = r"fails the self-check of .*: resid_post.0 is not resid_pre \+ attn_out \+ mlp_out of"
    with pytest.raises(LookupError, match=said) as refused:
        workbench.open(model, tokenizer=tiny.tokenizer())
    assert "pass architecture=Architecture(...) naming the right modules" in str(refused.value)
    assert hooks(model) == 0


def test_a_model_that_changes_the_residual_between_blocks_is_refused_with_that_identity(
    untouched: Callable[[Any], Any],
) -> None:
    model = tiny.model("llama")

    # A hook of the user's own that acts between two blocks, where no site is.
    model.model.layers[1].register_forward_pre_hook(
        lambda _, args, kwargs: ((args[0] + 1, *args[1:]), kwargs), with_kwargs=True
    )
    untouched(model)
    with pytest.raises(LookupError, match=r"resid_pre.1 is not resid_post.0 \(relative diff"):
        workbench.open(model, tokenizer=tiny.tokenizer())


def test_a_module_without_fitting_modules_is_refused_with_the_table() -> None:
    with pytest.raises(LookupError, match="no architecture for Sequential: the table has gpt2, "):
        workbench.open(nn.Sequential(nn.Linear(2, 2)).eval(), tokenizer=tiny.tokenizer())


def test_a_hand_built_model_opens_with_its_own_architecture(
    untouched: Callable[[Any], Any],
) -> None:
    class Renamed(nn.Module):
        """A model with a layout of its own around blocks that add up."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.config, self.trunk, self.head = inner.config, inner.model, inner.lm_head
            self.inner = [inner]  # hidden from torch

        def forward(self, **kwargs: Any) -> Any:
            return self.inner[0](**kwargs)

    model = untouched(Renamed(tiny.model("llama")).eval())
    with pytest.raises(LookupError, match="llama: it has no model.layers, .*pass architecture="):
        workbench.open(model, tokenizer=tiny.tokenizer())
    row = Architecture(family="mine", **{k: v.replace("model.", "trunk.") for k, v in LLAMA.items()}
                       | {"unembed": "head"})  # fmt: skip
    with workbench.open(model, tokenizer=tiny.tokenizer(), architecture=row) as lab:
        assert lab.backend.spec.family == "mine"
        site = Site("resid_post", 2)
        reads = engine.run(lab.backend, lab.backend.encode(["hi"]), reads=[site]).reads
        assert reads[site].shape == (1, 2, 32)


def test_an_architecture_with_wrong_paths_is_refused_by_path(
    untouched: Callable[[Any], Any],
) -> None:
    model = untouched(tiny.model("llama"))
    wrong = {
        r"model.layers.0.mlp.up, ": {"mlp_project": "mlp.up"},
        r"lm_head.0; pass": {"blocks": "lm_head"},
    }
    for said, change in wrong.items():
        row = Architecture(family="mine", **{**LLAMA, **change})
        with pytest.raises(LookupError, match=rf"is no mine: it has no {said}"):
            workbench.open(model, tokenizer=tiny.tokenizer(), architecture=row)


def test_a_block_unlike_the_first_is_refused_and_leaves_no_hooks(
    untouched: Callable[[Any], Any],
) -> None:
    model = tiny.model("llama")
    model.model.layers[2].mlp = nn.Identity()
    untouched(model)
    with pytest.raises(LookupError, match=r"it has no model.layers.2.mlp.down_proj; pass"):
        workbench.open(model, tokenizer=tiny.tokenizer())


def test_a_model_that_does_not_say_its_sizes_is_refused_by_their_names() -> None:
    model: Any = tiny.model("llama")
    del model.config
    row = Architecture(family="mine", **LLAMA)
    with pytest.raises(LookupError, match="does not say its num_attention_heads, hidden_size"):
        workbench.open(model, tokenizer=tiny.tokenizer(), architecture=row)
    assert hooks(model) == 0


def test_a_model_with_layers_cut_off_has_the_layers_it_has() -> None:
    model = tiny.model("llama")
    model.model.layers = model.model.layers[:2]
    with workbench.open(model, tokenizer=tiny.tokenizer()) as lab:
        assert [str(site) for site in lab.backend.spec.select("resid_post.*")] == [
            "resid_post.0", "resid_post.1",
        ]  # fmt: skip


def test_a_module_opened_twice_shares_hooks_until_both_are_closed() -> None:
    model = tiny.model("gpt2")
    own = model.transformer.h[1].register_forward_hook(lambda *_: None)
    before = registries(model)
    first = workbench.open(model, tokenizer=tiny.tokenizer())
    count = hooks(model)
    second = workbench.open(model, tokenizer=tiny.tokenizer())
    assert hooks(model) == count > 1
    first.close()
    first.close()
    assert hooks(model) == count
    assert second.generate("hi", max_new_tokens=2).tokens
    second.close()
    assert registries(model) == before
    assert installed(model) is None
    own.remove()


def test_the_same_weights_have_the_same_hash_under_any_name() -> None:
    a = fingerprint(tiny.model("gpt2"), tiny.tokenizer(), "one")
    b = fingerprint(tiny.model("gpt2"), tiny.tokenizer(), "two")
    assert (a.model, b.model) == ("one", "two")
    assert (a.weights_hash, a.tokenizer_hash) == (b.weights_hash, b.tokenizer_hash)


def test_one_changed_weight_or_a_change_of_dtype_gives_another_hash() -> None:
    model = tiny.model("gpt2")
    hashes = {fingerprint(model, None, "x").weights_hash}
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias[3].add_(1e-6)
    hashes.add(fingerprint(model, None, "x").weights_hash)
    hashes.add(fingerprint(copy.deepcopy(model).bfloat16(), None, "x").weights_hash)
    assert len(hashes) == 3


def test_padding_does_not_change_a_tokenizers_hash_and_a_new_token_does() -> None:
    model, tokenizer = tiny.model("gpt2"), tiny.tokenizer()
    before = fingerprint(model, tokenizer, "x").tokenizer_hash
    tokenizer(["a", "long one"], padding=True, truncation=True, max_length=4)
    assert fingerprint(model, tokenizer, "x").tokenizer_hash == before
    tokenizer.add_tokens(["<new>"])
    assert fingerprint(model, tokenizer, "x").tokenizer_hash != before
    assert fingerprint(model, None, "x").tokenizer_hash == ""


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_a_model_opens_and_generates_in_bfloat16(family: str, tmp_path: Path) -> None:
    tiny.model(family).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with workbench.open(tmp_path, dtype=torch.bfloat16) as lab:
        assert lab.backend.model.dtype == torch.bfloat16
        acts = lab.capture(["hello"], dtype="f32")
        assert acts.run.model_dtype == "bfloat16"
        assert lab.generate("hello", max_new_tokens=3).tokens


def test_a_refused_model_leaves_its_store_free_for_the_next(tmp_path: Path) -> None:
    model = granite(0.5)
    with pytest.raises(LookupError, match="self-check"):
        workbench.open(model, tokenizer=tiny.tokenizer(), store=tmp_path / "lab")
    assert hooks(model) == 0
    with workbench.open(
        tiny.model("gpt2"), tokenizer=tiny.tokenizer(), store=tmp_path / "lab"
    ) as lab:
        assert lab.sql("SELECT * FROM run").num_rows == 0


def test_a_store_that_is_none_is_refused_before_the_model_is_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    model = tiny.model("gpt2")
    with pytest.raises(StoreError, match="is not a store, and not empty: it has no store.json"):
        workbench.open(model, tokenizer=tiny.tokenizer(), store=tmp_path)
    assert hooks(model) == 0
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_backend_needs_no_tokenizer_where_no_text_is_read() -> None:
    model = tiny.model("gpt2")
    backend = backend_for(model)
    assert backend.spec.fingerprint.tokenizer_hash == ""
    backend.release()
    assert hooks(model) == 0


def test_an_opened_store_can_be_handed_in(tmp_path: Path) -> None:
    opened = Store.open(tmp_path / "lab")
    with workbench.open(tiny.model("gpt2"), tokenizer=tiny.tokenizer(), store=opened) as lab:
        lab.capture(["hello"])
        assert lab.store is opened
