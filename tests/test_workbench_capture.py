"""What is captured is what the model computed, row by row, with its tokens and provenance."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import workbench
from store import Prompt, Site, Store
from workbench import Session, Where, capture
from workbench.artifacts import code_version

OpenTiny = Callable[..., Session]
TEXTS = ["a quick brown fox", "hi", "lazy dogs sleep"]
LENGTHS = [len(text) for text in TEXTS]


def whole(session: Session, text: str, module: str, *, before: bool = False) -> Tensor:
    """Return what a module of the plain model gives, or gets, by a hook of the test's own."""
    seen: list[Tensor] = []

    def after_hook(_: Any, __: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    def before_hook(_: Any, args: Any) -> None:
        seen.append(args[0])

    found = session.backend.model.get_submodule(module)
    handle = (
        found.register_forward_pre_hook(before_hook) if before
        else found.register_forward_hook(after_hook)
    )  # fmt: skip
    with handle, torch.no_grad():
        session.backend.model(torch.tensor([tiny.tokenizer()(text)["input_ids"]]))
    return seen[0][0]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2"])
def test_every_row_is_what_a_plain_hook_on_the_unpadded_text_sees(
    open_tiny: OpenTiny, family: str
) -> None:
    lab = open_tiny(family)
    row = lab.backend.row
    modules = {
        "embed": (row.embed, False),
        "resid_pre.2": (f"{row.blocks}.1", False),
        "attn_out.1": (f"{row.blocks}.1.{row.attn_out}", False),
        "z.1": (f"{row.blocks}.1.{row.attn_project}", True),
        "mlp_post.1": (f"{row.blocks}.1.{row.mlp_project}", True),
        "mlp_out.1": (f"{row.blocks}.1.{row.mlp_out}", False),
        "resid_post.0": (f"{row.blocks}.0", False),
        "resid_post.2": (f"{row.blocks}.2", False),
        "ln_final": (row.ln_final, False),
    }
    acts = lab.capture(TEXTS, list(modules), dtype="f32")
    for site, (module, before) in modules.items():
        expected = torch.cat([whole(lab, text, module, before=before) for text in TEXTS])
        torch.testing.assert_close(acts.tensor(site), expected, atol=1e-5, rtol=1e-5)


def test_a_captured_head_is_its_slice_of_all_heads_and_widths_may_differ(
    open_tiny: OpenTiny,
) -> None:
    lab = open_tiny("qwen3")
    acts = lab.capture(TEXTS, "resid_post.1, z.1, z.1.h2, mlp_post.1", dtype="f32")
    assert [acts.tensor(site).shape[1] for site in acts.sites] == [32, 64, 16, 48]
    assert torch.equal(acts.tensor("z.1.h2"), acts.tensor("z.1")[:, 32:48])


@pytest.mark.parametrize("family", ["gpt2", "mistral"])
def test_capture_in_one_batch_equals_capture_one_by_one(open_tiny: OpenTiny, family: str) -> None:
    lab = open_tiny(family)
    together = lab.capture(TEXTS, dtype="f32")
    for i, text in enumerate(TEXTS):
        alone = lab.capture(text, dtype="f32")
        rows = slice(*together.offsets[i : i + 2])
        for site in together.sites:
            torch.testing.assert_close(
                together.tensor(site)[rows], alone.tensor(site), atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)],
)
def test_rows_come_back_in_the_stored_dtype_rounded_once(
    open_tiny: OpenTiny, dtype: str, stored: torch.dtype
) -> None:
    lab = open_tiny()
    exact = lab.capture(TEXTS, "resid_post.1", dtype="f32").tensor("resid_post.1")
    kept = lab.capture(TEXTS, "resid_post.1", dtype=dtype).tensor("resid_post.1")
    assert kept.dtype == stored
    assert torch.equal(kept, exact.to(stored))


def test_a_value_too_large_for_f16_is_refused_not_stored_as_infinity(open_tiny: OpenTiny) -> None:
    lab = open_tiny()
    with torch.no_grad():
        lab.backend.model.transformer.h[0].mlp.c_proj.bias.fill_(1e5)
    with pytest.raises(ValueError, match="f16 holds values up to 65504 .*: store them as bf16"):
        lab.capture("hi", "resid_post.0", dtype="f16")
    assert lab.capture("hi", "resid_post.0").tensor("resid_post.0").abs().max() > 65504


@pytest.mark.parametrize("pos", [0, 1, -1, -2])
def test_one_position_gives_one_row_per_prompt(open_tiny: OpenTiny, pos: int) -> None:
    acts = open_tiny().capture(TEXTS, "resid_post.1")
    at = acts.tensor("resid_post.1", pos=pos)
    assert at.shape == (3, 32)
    for i, length in enumerate(LENGTHS):
        assert torch.equal(at[i], acts.tensor("resid_post.1")[acts.offsets[i] + pos % length])


def test_a_position_counts_in_the_text_and_from_the_end_in_the_captured_rows(
    open_tiny: OpenTiny,
) -> None:
    acts = open_tiny().capture(TEXTS, "resid_post.1", where=Where(start=1))
    all_rows = acts.tensor("resid_post.1")
    starts = torch.from_numpy(acts.offsets[:-1])
    assert torch.equal(acts.tensor("resid_post.1", pos=1), all_rows[starts])
    assert torch.equal(acts.tensor("resid_post.1", pos=-1), all_rows[acts.offsets[1:] - 1])


@pytest.mark.parametrize("pos", [2, 5, -3, 40])
def test_a_position_that_a_prompt_lacks_is_an_error_naming_the_prompt(
    open_tiny: OpenTiny, pos: int
) -> None:
    acts = open_tiny().capture(TEXTS, "resid_post.1")
    short = 0 if pos == 40 else 1
    with pytest.raises(LookupError, match=f"prompt {short} has no captured position {pos}: it has"):
        acts.tensor("resid_post.1", pos=pos)


def test_a_site_that_was_not_captured_is_an_error_naming_those_that_were(
    open_tiny: OpenTiny,
) -> None:
    acts = open_tiny().capture("hi", "resid_post.0-1")
    with pytest.raises(LookupError, match="has no resid_post.2: it holds resid_post.0, resid"):
        acts.tensor("resid_post.2")
    with pytest.raises(LookupError, match="no site resid_post.9: the model has layers 0-2"):
        acts.tensor("resid_post.9")
    with pytest.raises(ValueError, match=r"resid_post.\* names 3 sites, and a tensor holds one"):
        acts.tensor("resid_post.*")


@pytest.mark.parametrize(
    ("at", "sites"),
    [
        ("blocks.1.hook_resid_post", "resid_post.1"),
        ("transformer.h.1", "resid_post.1"),
        ("blocks.0.attn.hook_z", "z.0"),
        ("resid_post.-1", "resid_post.2"),
        ("resid_post.1-2,mlp_out.*", "resid_post.1 resid_post.2 mlp_out.0 mlp_out.1 mlp_out.2"),
        (["z.0.h0-1", Site("embed")], "z.0.h0 z.0.h1 embed"),
    ],
    ids=str,
)
def test_aliases_and_ranges_are_printed_back_in_our_form(
    open_tiny: OpenTiny, at: Any, sites: str
) -> None:
    acts = open_tiny().capture("hi", at)
    assert " ".join(map(str, acts.sites)) == sites
    first = at if isinstance(at, str) and not set(at) & set("*,") else sites.split()[0]
    assert acts.tensor(first).shape[0] == 2


@pytest.mark.parametrize("at", ["resid_mid.1", "q.0", "logits", "resid_post.3", "z.0.h4"])
def test_a_site_that_the_model_lacks_is_refused_and_no_run_begins(
    open_tiny: OpenTiny, at: str
) -> None:
    lab = open_tiny(store=True)
    with pytest.raises(LookupError, match=f"no site {at}: .* has? (layers|heads) 0-"):
        lab.capture("hi", at)
    assert lab.store.runs() == []


@pytest.mark.parametrize(
    ("where", "positions"),
    [
        (Where(), [range(n) for n in LENGTHS]),
        (Where(phase="prompt"), [range(n) for n in LENGTHS]),
        (Where(phase="deciding"), [range(n - 1, n) for n in LENGTHS]),
        (Where(start=1, stop=3), [range(1, min(3, n)) for n in LENGTHS]),
        (Where(start=3), [range(3, n) for n in LENGTHS]),
    ],
    ids=str,
)
def test_only_the_selected_tokens_are_captured(
    open_tiny: OpenTiny, where: Where, positions: list[range]
) -> None:
    lab = open_tiny()
    acts = lab.capture(TEXTS, "resid_post.1", where=where)
    assert acts.table()["pos"].to_pylist() == [p for row in positions for p in row]
    assert np.diff(acts.offsets).tolist() == [len(row) for row in positions]
    everything = lab.capture(TEXTS, "resid_post.1")
    kept = [everything.offsets[i] + p for i, row in enumerate(positions) for p in row]
    torch.testing.assert_close(acts.tensor("resid_post.1"), everything.tensor("resid_post.1")[kept])


def test_a_text_without_selected_tokens_is_no_error_however_texts_are_batched(
    open_tiny: OpenTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "TOKENS_PER_BATCH", 1)
    acts = open_tiny().capture(TEXTS, "resid_post.1", where=Where(start=3))
    assert np.diff(acts.offsets).tolist() == [max(0, n - 3) for n in LENGTHS]
    assert len(acts.tensor("resid_post.1")) == sum(max(0, n - 3) for n in LENGTHS)


def test_a_selection_that_takes_nothing_is_refused_and_no_run_begins(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    said = "no token is among generated tokens, and the longest text has 17; widen where="
    with pytest.raises(ValueError, match=said):
        lab.capture(TEXTS, where=Where(phase="generated"))
    assert lab.store.runs() == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no prompts: the list is empty"),
        (["fine", ""], "prompt 1 has no tokens"),
        (["fine", "x" * 65], "prompt 1 has 65 tokens: the context of GPT2LMHeadModel is 64"),
    ],
    ids=["none", "empty", "long"],
)
def test_texts_that_do_not_fit_are_refused_and_no_run_begins(
    open_tiny: OpenTiny, texts: list[str], message: str
) -> None:
    lab = open_tiny(store=True)
    with pytest.raises(ValueError, match=message):
        lab.capture(texts)
    assert lab.store.runs() == []


def test_prompts_keep_their_tags_and_meta_and_get_the_runs_tags_too(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    given = [Prompt(text="good", tags=("praise",), meta={"stars": 5}), Prompt(text="bad")]
    acts = lab.capture([*given, "plain"], "resid_post.1", tags=["today"])
    kept = lab.store.read(acts.run.uuid).prompts
    assert [one.text for one in kept] == ["good", "bad", "plain"]
    assert [one.tags for one in kept] == [("praise", "today"), ("today",), ("today",)]
    assert dict(kept[0].meta) == {"stars": 5}
    found = lab.sql("SELECT text FROM prompt WHERE list_contains(tags, 'praise')")
    assert found["text"].to_pylist() == ["good"]


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=12), limit=st.integers(1, 60))
def test_batches_cover_every_prompt_once_in_order_and_stay_within_the_limit(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], limit: int
) -> None:
    monkeypatch.setattr(capture, "TOKENS_PER_BATCH", limit)
    chunks = [lengths[part] for part in capture._chunks(lengths)]
    assert [length for chunk in chunks for length in chunk] == lengths
    for chunk in chunks:
        assert len(chunk) == 1 or max(chunk) * len(chunk) <= limit
    for chunk, following in pairwise(chunks):
        grown = [*chunk, following[0]]
        assert max(grown) * len(grown) > limit


def test_rows_do_not_depend_on_the_size_of_batches(
    open_tiny: OpenTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_tiny("llama")
    texts = [*TEXTS, "one more text", "x", "and a longer one at the end"]
    one = lab.capture(texts, dtype="f32")
    monkeypatch.setattr(capture, "TOKENS_PER_BATCH", 40)
    done: list[tuple[int, int]] = []
    many = lab.capture(texts, dtype="f32", progress=lambda *counts: done.append(counts))
    assert len(done) > 2
    assert done[-1] == (6, 6) and done == sorted(done)
    assert many.table().equals(one.table())
    assert np.array_equal(many.offsets, one.offsets)
    for site in one.sites:
        torch.testing.assert_close(many.tensor(site), one.tensor(site), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text", ["a quick brown fox", " two  spaces\nand a line ", "[INST] 1.5 %"])
def test_the_pieces_of_a_text_concatenate_to_it(open_tiny: OpenTiny, text: str) -> None:
    lab = open_tiny()
    table = lab.capture(text, "resid_post.0").table()
    assert "".join(table["token_str"].to_pylist()) == text
    assert table["token_id"].to_pylist() == lab.backend.encode([text]).tokens[0].tolist()


def test_a_run_knows_all_of_its_provenance(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    acts = lab.capture(
        TEXTS, "resid_post.1", name="mine", why="to see", dtype="f16", where=Where(start=1)
    )
    (row,) = lab.sql("SELECT * FROM run").to_pylist()
    own = lab.backend.spec.fingerprint
    assert row["uuid"] == acts.run.uuid
    expected = {
        "name": "mine", "why": "to see", "dtype": "f16", "model_dtype": "float32",
        "model": "GPT2LMHeadModel", "weights_hash": own.weights_hash, "basis": "raw",
        "tokenizer_hash": own.tokenizer_hash, "code_version": code_version(), "status": "sealed",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert acts.run.config == {"at": ["resid_post.1"], "where": "all tokens at positions 1.."}
    assert row["created_at"] is not None


def test_an_unknown_dtype_is_refused_and_no_run_begins(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    with pytest.raises(ValueError, match="rows cannot be stored as 'f64': choose f32, f16 or bf16"):
        lab.capture("hi", dtype="f64")
    assert lab.store.runs() == []


def test_without_a_store_captures_go_to_a_temporary_one_that_closing_deletes() -> None:
    lab = workbench.open(tiny.model("gpt2"), tokenizer=tiny.tokenizer())
    acts = lab.capture("hi", "resid_post.1")
    folder = lab.store.path
    assert folder.is_dir() and str(folder) not in ("", ".")
    assert acts.tensor("resid_post.1").shape == (2, 32)
    lab.close()
    assert not folder.exists() and not folder.parent.exists()


def test_an_interrupted_capture_leaves_a_failed_run_and_a_readable_store(
    open_tiny: OpenTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "TOKENS_PER_BATCH", 1)
    lab = open_tiny(store=True)
    whole_one = lab.capture(TEXTS, "resid_post.1", name="whole")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt("stopped by hand")

    with pytest.raises(KeyboardInterrupt):
        lab.capture(TEXTS, "resid_post.1", name="cut", progress=stop)
    rows = lab.sql("SELECT name, status, error FROM run ORDER BY created_at").to_pylist()
    assert [row["name"] for row in rows] == ["whole", "cut"]
    assert [row["status"] for row in rows] == ["sealed", "failed"]
    assert "KeyboardInterrupt: stopped by hand" in rows[1]["error"]
    with Store.open(lab.store.path, read_only=True) as again:
        assert again.read("whole").n_rows == len(whole_one.tensor("resid_post.1"))
        assert again.read("cut").n_rows in (0, LENGTHS[0] + LENGTHS[1])
    assert lab.capture("hi", "resid_post.1").tensor("resid_post.1").shape == (2, 32)


def test_sql_sees_the_very_vectors_by_site_and_position(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    acts = lab.capture(TEXTS, "resid_post.1-2, mlp_post.1", dtype="f32")
    width = lab.backend.spec.d_mlp
    found = lab.sql(
        """
        SELECT vec FROM activation_32 WHERE part = 'resid_post' AND layer = ? AND pos = 1
        ORDER BY prompt_id
        """,
        (2,),
    )
    expected = acts.tensor("resid_post.2", pos=1)
    assert torch.equal(torch.tensor(found["vec"].to_pylist()), expected)
    neurons = lab.sql(f"SELECT count(*) AS n FROM activation_{width}").to_pylist()
    assert neurons == [{"n": sum(LENGTHS)}]


def test_a_capture_is_read_again_from_the_directory_alone(
    open_tiny: OpenTiny, tmp_path: Path
) -> None:
    lab = open_tiny(store=True)
    acts = lab.capture(TEXTS, "resid_post.1", name="kept")
    with Store.open(lab.store.path, read_only=True) as other:
        bits = other.read("kept").scan("resid_post.1")
    again = torch.from_numpy(bits.copy()).view(torch.bfloat16)
    assert torch.equal(again, acts.tensor("resid_post.1"))
