"""Sites: one text form, ranges over it, aliases of other libraries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import PARTS, Site, select
from store.sites import HEAD_PARTS, LAYER_PARTS


@st.composite
def sites(draw: st.DrawFn) -> Site:
    part = draw(st.sampled_from(PARTS))
    layer = draw(st.integers(0, 200)) if part in LAYER_PARTS else None
    head = draw(st.none() | st.integers(0, 200)) if part in HEAD_PARTS else None
    return Site(part, layer, head)


@given(sites())
def test_what_is_printed_reads_back_as_the_same_site(site: Site) -> None:
    assert Site.parse(str(site)) == site
    assert select(str(site), n_layers=201, n_heads=201) == (site,)


@given(st.lists(sites(), min_size=1))
def test_a_list_and_its_text_with_commas_select_alike_in_order_without_repeats(many) -> None:
    got = select(many, n_layers=201, n_heads=201)
    assert got == select(", ".join(map(str, many)), n_layers=201, n_heads=201)
    assert list(got) == list(dict.fromkeys(many))


@given(st.lists(sites()))
def test_all_sites_can_be_sorted_also_those_without_layers(many) -> None:
    texts = [(s.part, s.layer is not None, s.layer or 0, s.head is not None, s.head or 0)
             for s in sorted(many)]  # fmt: skip
    assert texts == sorted(texts)


@given(st.text())
def test_any_other_text_is_refused_with_a_sentence(text: str) -> None:
    try:
        site = Site.parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert Site.parse(str(site)) == site


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("resid_post.1-3", "resid_post.1 resid_post.2 resid_post.3"),
        ("resid_post.*", "resid_post.0 resid_post.1 resid_post.2 resid_post.3"),
        ("resid_post.-1", "resid_post.3"),
        ("resid_post.-2--1", "resid_post.2 resid_post.3"),
        ("resid_post.1--2", "resid_post.1 resid_post.2"),
        ("z.3.h*", "z.3.h0 z.3.h1"),
        ("z.0-1.h0-1", "z.0.h0 z.0.h1 z.1.h0 z.1.h1"),
        ("z.0.h-1", "z.0.h1"),
        ("embed,logits", "embed logits"),
        ("model.layers.2-3", "resid_post.2 resid_post.3"),
        ("blocks.*.hook_mlp_out", "mlp_out.0 mlp_out.1 mlp_out.2 mlp_out.3"),
    ],
)
def test_ranges_stars_and_numbers_from_the_end_are_resolved(asked: str, found: str) -> None:
    assert " ".join(map(str, select(asked, n_layers=4, n_heads=2))) == found


@pytest.mark.parametrize(
    ("alias", "ours"),
    [
        ("blocks.6.hook_resid_post", "resid_post.6"),
        ("blocks.6.hook_out", "resid_post.6"),
        ("blocks.6.hook_in", "resid_pre.6"),
        ("blocks.6.hook_resid_mid", "resid_mid.6"),
        ("blocks.6.attn.hook_z", "z.6"),
        ("blocks.6.attn.hook_attn_scores", "scores.6"),
        ("blocks.6.mlp.hook_post", "mlp_post.6"),
        ("hook_embed", "embed"),
        ("ln_final.hook_normalized", "ln_final"),
        ("model.layers.6", "resid_post.6"),
        ("transformer.h.6", "resid_post.6"),
        ("gpt_neox.layers.6", "resid_post.6"),
        ("model.layers.6.self_attn", "attn_out.6"),
        ("transformer.h.6.attn", "attn_out.6"),
        ("gpt_neox.layers.6.attention", "attn_out.6"),
        ("model.layers.6.mlp", "mlp_out.6"),
        ("model.embed_tokens", "embed"),
        ("transformer.wte", "embed"),
        ("gpt_neox.embed_in", "embed"),
        ("model.norm", "ln_final"),
        ("transformer.ln_f", "ln_final"),
        ("gpt_neox.final_layer_norm", "ln_final"),
        ("lm_head", "logits"),
        ("embed_out", "logits"),
    ],
)
def test_names_of_other_libraries_are_understood(alias: str, ours: str) -> None:
    assert str(Site.parse(alias)) == ours


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("resid_post.4", "no site resid_post.4: the model has layers 0-3"),
        ("resid_post.-5", "layers 0-3"),
        ("resid_post.2-9", "layers 0-3"),
        ("z.0.h2", "the model has heads 0-1"),
    ],
)
def test_a_site_outside_the_model_is_refused_naming_what_there_is(asked: str, message: str) -> None:
    with pytest.raises(LookupError, match=message):
        select(asked, n_layers=4, n_heads=2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("resid_post.3-1", "runs backwards"),
        ("resid_post", r"resid_post needs a layer: write resid_post.0 or resid_post\.\*"),
        ("embed.1", "embed has no layer: leave it out"),
        ("resid_post.0.h1", "resid_post has no heads: only q, k"),
        ("residual.1", "no part 'residual': there are embed"),
        ("resid_post.one", "no site 'resid_post.one': write part.layer"),
        ("", "no site ''"),
        ((), "no sites were asked for"),
    ],
)
def test_what_is_no_request_is_refused_saying_what_to_write(asked, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(asked, n_layers=4, n_heads=2)


def test_heads_by_range_need_their_number_and_plain_ones_do_not() -> None:
    assert select("z.1.h7", n_layers=2) == (Site("z", 1, 7),)
    with pytest.raises(ValueError, match="pass n_heads"):
        select("z.1.h*", n_layers=2)


def test_one_site_is_never_read_from_a_range_or_a_number_from_the_end() -> None:
    with pytest.raises(ValueError, match="is not one site"):
        Site.parse("resid_post.1-2")
    with pytest.raises(ValueError, match="is not one site"):
        Site.parse("resid_post.-1")
    with pytest.raises(ValueError, match="counts from the end"):
        Site("resid_post", -1)
