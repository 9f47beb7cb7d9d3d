"""The session: eight methods; generation, comparison and artifacts mean what they say."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from transformers import GenerationConfig

import workbench
from steering import ICV, SteeringVector
from store import Fingerprint, Site
from workbench import Comparison, Generation, Session, Where, each

OpenTiny = Callable[..., Session]
PROMPTS = ["a quick brown fox", "hi", "lazy dogs sleep"]
PUBLIC = ("capture", "close", "compare", "describe", "generate", "load", "save", "sql")


def vector(session: Session, seed: int = 1, **fields: Any) -> SteeringVector:
    draw = torch.Generator().manual_seed(seed)
    fields = {"fingerprint": session.backend.spec.fingerprint, "name": f"v{seed}", **fields}
    directions = {Site("resid_post", 1): torch.randn(32, generator=draw)}
    return SteeringVector(directions=directions, **fields)


def test_a_session_has_eight_public_methods_and_none_named_after_a_paper() -> None:
    methods = inspect.getmembers(Session, inspect.isfunction)
    names = tuple(sorted(name for name, _ in methods if not name.startswith("_")))
    assert names == PUBLIC
    assert not {"icv", "east", "inject", "mlsae", "rerank", "rank", "future"} & set(names)


def test_a_closed_session_says_so_and_closing_twice_is_harmless(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    v = vector(lab)
    lab.close()
    lab.close()
    calls: list[Callable[[], Any]] = [
        lambda: lab.capture("hi"), lambda: lab.generate("hi"), lambda: lab.compare("hi", a=None),
        lambda: lab.save("v", v), lambda: lab.load("v"), lambda: lab.sql("SELECT 1"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match="this session is closed: open the model again with"):
            call()


def test_a_string_gives_one_generation_and_a_list_gives_a_list(open_tiny: OpenTiny) -> None:
    lab = open_tiny()
    one = lab.generate("hi", max_new_tokens=3)
    listed = lab.generate(["hi"], max_new_tokens=3)
    assert isinstance(listed, list)
    assert listed == [one]
    assert [made.prompt for made in lab.generate(PROMPTS, max_new_tokens=2)] == PROMPTS


@pytest.mark.parametrize(
    ("options", "n_new"),
    [
        ({"max_new_tokens": 5}, 5),
        ({}, 32),
        ({"max_length": 12}, 10),
        ({"max_new_tokens": 9, "min_new_tokens": 9}, 9),
        ({"max_new_tokens": 62}, 62),
    ],
    ids=str,
)
def test_lengths_are_hugging_faces_own_and_32_without_any(
    open_tiny: OpenTiny, options: dict[str, int], n_new: int
) -> None:
    made = open_tiny("llama").generate("hi", eos_token_id=None, **options)
    assert len(made.tokens) == n_new


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 63},
        {"max_length": 65},
        {"generation_config": GenerationConfig(max_new_tokens=63)},
    ],
    ids=["new", "length", "config"],
)
def test_more_tokens_than_the_context_holds_are_refused_with_both_numbers(
    open_tiny: OpenTiny, options: dict[str, Any]
) -> None:
    said = "exceed the context of GPT2LMHeadModel, 64: shorten one of them"
    with pytest.raises(ValueError, match=said):
        open_tiny().generate("hi", **options)


@pytest.mark.parametrize("prompts", [[], "", ["fine", ""]], ids=str)
def test_a_prompt_without_tokens_is_refused(open_tiny: OpenTiny, prompts: Any) -> None:
    with pytest.raises(ValueError, match="no prompts: the list is empty|prompt . has no tokens"):
        open_tiny().generate(prompts)


def test_an_unknown_generation_keyword_is_an_error_that_names_it(open_tiny: OpenTiny) -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        open_tiny().generate("hi", max_tokens=3)


def test_the_text_is_exactly_what_the_new_tokens_add(open_tiny: OpenTiny) -> None:
    lab = open_tiny()
    for made in lab.generate(PROMPTS, max_new_tokens=20, do_sample=True, seed=[1, 2, 3]):
        tokenizer = lab.backend.tokenizer
        whole = [*made.prompt_tokens, *made.tokens]
        assert str(made) == tokenizer.decode(whole, skip_special_tokens=True)
        assert str(made) == made.prompt + made.text
        assert list(made.prompt_tokens) == tokenizer(made.prompt)["input_ids"]


def test_returned_sequences_stand_by_prompt_in_order_each_with_its_seed(
    open_tiny: OpenTiny,
) -> None:
    lab = open_tiny()
    options = {"do_sample": True, "max_new_tokens": 6}
    made = lab.generate(PROMPTS[:2], num_return_sequences=3, seed=[10, 20], **options)
    assert [one.prompt for one in made] == [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3
    assert [one.seed for one in made] == [10, 11, 12, 20, 21, 22]
    for one in made:
        alone = lab.generate(one.prompt, seed=one.seed, **options)
        assert alone.tokens == one.tokens
    assert len({one.tokens for one in made[:3]}) == 3


def test_several_sequences_of_one_string_are_a_list(open_tiny: OpenTiny) -> None:
    made = open_tiny().generate("hi", do_sample=True, num_return_sequences=2, max_new_tokens=2)
    assert isinstance(made, list) and len(made) == 2


def test_a_list_of_seeds_gives_each_row_its_own_and_must_fit_the_prompts(
    open_tiny: OpenTiny,
) -> None:
    lab = open_tiny()
    options = {"do_sample": True, "max_new_tokens": 6}
    both = lab.generate(["hi", "hi"], seed=[4, 5], **options)
    assert both[0].tokens != both[1].tokens
    assert both[1].tokens == lab.generate("hi", seed=5, **options).tokens
    with pytest.raises(ValueError, match="3 seeds for 2 prompts: give one, or one each"):
        lab.generate(["hi", "hi"], seed=[1, 2, 3], **options)


def test_greedy_text_has_no_seed(open_tiny: OpenTiny) -> None:
    assert open_tiny().generate("hi", max_new_tokens=2, seed=7).seed is None


def test_plans_per_row_must_fit_the_prompts(open_tiny: OpenTiny) -> None:
    lab = open_tiny()
    with pytest.raises(ValueError, match="each.. has 2 plans for 3 prompts"):
        lab.generate(PROMPTS, steer=each([vector(lab), None]))


def test_a_comparison_has_the_keywords_as_columns_in_order(open_tiny: OpenTiny) -> None:
    lab = open_tiny()
    v = vector(lab)
    options = {"max_new_tokens": 4}
    made = lab.compare("hello", plain=None, mild=0.1 * v, both=[v, -v], generation=options)
    assert list(made) == ["plain", "mild", "both"] and len(made) == 3
    assert made["plain"].tokens == lab.generate("hello", **options).tokens
    assert made["mild"].tokens == lab.generate("hello", steer=0.1 * v, **options).tokens
    assert [len(one.receipt) for one in made.values()] == [0, 1, 2]
    assert str(made).startswith(f"plain | hello{made['plain'].text}\n")


def test_divergence_is_the_first_new_token_that_differs(open_tiny: OpenTiny) -> None:
    lab = open_tiny("llama")
    late = 1e4 * vector(lab).after(7)
    made = lab.compare("hello", a=None, same=[], late=late, generation={"max_new_tokens": 6})
    assert made.divergence("a") is None and made.divergence("same") is None
    index = made.divergence("late")
    # Position 7 is the third new token's place; what it gives is the fourth.
    assert index == 3
    assert made["a"].tokens[:index] == made["late"].tokens[:index]


def test_divergence_of_a_text_that_ends_early_is_its_length() -> None:
    def made(*tokens: int) -> Generation:
        return Generation(
            prompt="", text="", prompt_tokens=(), tokens=tokens, receipt=(), seed=None
        )

    compared = Comparison({"long": made(1, 2, 3), "short": made(1, 2)})
    assert compared.divergence("short") == 2


def test_a_comparison_without_variants_or_with_several_texts_each_is_refused(
    open_tiny: OpenTiny,
) -> None:
    lab = open_tiny()
    with pytest.raises(ValueError, match="nothing to compare: name variants, as in plain=None"):
        lab.compare("hi")
    with pytest.raises(ValueError, match="each.. has 2 plans for 1 prompts"):
        lab.compare("hi", a=each([vector(lab), None]))
    with pytest.raises(ValueError, match="a comparison shows one text per variant"):
        lab.compare("hi", a=None, generation={"num_return_sequences": 2})


def test_a_vector_comes_back_as_it_was_saved(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    v = vector(
        lab, rule="icv", strength=-0.3, where=Where(phase="deciding", start=2, stop=9),
        method="steering:ICV", norms={Site("resid_post", 1): 4.5}, notes={"pairs": 3, "by": ["me"]},
    )  # fmt: skip
    lab.save("kind", v)
    again = lab.load("kind")
    for name in ("rule", "strength", "where", "fingerprint", "name", "method", "norms", "notes"):
        assert getattr(again, name) == getattr(v, name), name
    assert again.directions.keys() == v.directions.keys()
    for site, direction in v.directions.items():
        assert torch.equal(again.directions[site], direction)
    options = {"max_new_tokens": 4}
    assert lab.generate("hello", steer=again, **options) == lab.generate(
        "hello", steer=v, **options
    )


def test_a_fitted_vector_survives_saving_and_is_found_by_uuid_and_newest_name(
    open_tiny: OpenTiny,
) -> None:
    lab = open_tiny(store=True)
    first = ICV(at="resid_post.1").fit(lab, [("bad", "good")])
    lab.save("kind", first)
    (row,) = lab.sql("SELECT uuid, method FROM artifact").to_pylist()
    assert row["method"] == "steering:ICV"
    lab.save("kind", 2 * first)
    assert lab.load("kind").strength == 2
    assert lab.load(row["uuid"][:13]).strength == 1


def test_loading_an_unknown_name_lists_what_there_is(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    with pytest.raises(LookupError, match="no artifact 'kind': there is none yet"):
        lab.load("kind")
    lab.save("kind", vector(lab))
    with pytest.raises(LookupError, match=r"no artifact 'mood': there are .* \(kind\)"):
        lab.load("mood")


def test_a_vector_of_another_model_is_refused_unless_forced(open_tiny: OpenTiny) -> None:
    one, other = open_tiny(store=True), open_tiny(seed=1)
    one.save("kind", vector(one))
    there = workbench.open(
        tiny.model("gpt2", seed=1), tokenizer=tiny.tokenizer(), store=one.store.path
    )
    with there as lab:
        with pytest.raises(ValueError, match=r"'kind' belongs to .* pass force=True to use it"):
            lab.load("kind")
        forced = lab.load("kind", force=True)
        assert forced.fingerprint == lab.backend.spec.fingerprint
        assert lab.generate("hi", steer=forced, max_new_tokens=2).receipt
    with pytest.raises(ValueError, match="v1 belongs to .*: fit it again here, or load"):
        other.generate("hi", steer=vector(one))


def test_a_vector_loads_under_another_name_of_the_same_model(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    own = lab.backend.spec.fingerprint
    renamed = Fingerprint(
        model="elsewhere", weights_hash=own.weights_hash, tokenizer_hash=own.tokenizer_hash
    )
    lab.save("kind", vector(lab, fingerprint=renamed))
    assert lab.load("kind").fingerprint == renamed
    assert lab.generate("hi", steer=lab.load("kind"), max_new_tokens=2).receipt


def test_a_vector_of_another_width_or_layer_is_refused_before_any_compute(
    open_tiny: OpenTiny,
) -> None:
    lab = open_tiny()
    wide = SteeringVector(directions={Site("resid_post", 1): torch.ones(64)}, name="wide")
    with pytest.raises(ValueError, match="wide has width 64 at resid_post.1, GPT2.* has 32 there"):
        lab.generate("hi", steer=wide)
    deep = SteeringVector(directions={Site("resid_post", 7): torch.ones(32)})
    with pytest.raises(LookupError, match="no site resid_post.7: the model has layers 0-2"):
        lab.generate("hi", steer=deep)


def test_describe_names_model_sites_and_store(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    said = lab.describe()
    assert "GPT2LMHeadModel (gpt2): 3 layers, d_model 32, 4 heads, context 64" in said
    assert all(part in said for part in lab.backend.spec.parts)
    assert str(lab.store.path) in said
    assert "a temporary directory" in open_tiny().describe()


def test_sql_takes_parameters_and_refuses_what_is_no_question(open_tiny: OpenTiny) -> None:
    lab = open_tiny(store=True)
    assert lab.sql("SELECT $1 + 1 AS n", (41,)).to_pylist() == [{"n": 42}]
    with pytest.raises(ValueError, match="this SQL did not run"):
        lab.sql("SELECT * FROM nowhere")
