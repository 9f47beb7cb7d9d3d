"""SteeringVector: algebra, refusals, and what is saved."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from steering import SteeringVector
from store import Site
from workbench import Session, Where, engine

ONE, TWO = Site("resid_post", 1), Site("resid_post", 2)


def vector(seed: int = 0, **fields: object) -> SteeringVector:
    draw = torch.Generator().manual_seed(seed)
    directions = {site: torch.randn(32, generator=draw) for site in (ONE, TWO)}
    return SteeringVector(**{"directions": directions, "name": f"v{seed}", **fields})


def generated(lab: Session, v: SteeringVector | None) -> tuple[int, ...]:
    return lab.generate("hello there", steer=v, max_new_tokens=6).tokens


def logits(lab: Session, v: SteeringVector | list[SteeringVector]) -> torch.Tensor:
    return engine.run(lab.backend, lab.backend.encode(["hello"]), v).logits


def test_scaling_laws_hold_on_behaviour(open_tiny: Callable[..., Session]) -> None:
    lab, v = open_tiny(), vector()
    plain = generated(lab, None)
    assert generated(lab, 2 * v) == generated(lab, v * 2) == generated(lab, -(v * -2))
    assert plain == generated(lab, 0 * v) == generated(lab, v - v)
    assert plain != generated(lab, 2 * v)


@pytest.mark.parametrize("rule", ["add", "add_relative", "icv"])
def test_a_sum_pushes_by_the_sum_and_half_plus_half_is_the_whole(
    open_tiny: Callable[..., Session], rule: str
) -> None:
    lab, v = open_tiny(), vector(1, rule=rule)
    halves = 0.3 * v + 0.3 * v
    torch.testing.assert_close(logits(lab, halves), logits(lab, 0.6 * v), atol=1e-4, rtol=1e-4)


def test_sums_of_different_sites_act_at_both(open_tiny: Callable[..., Session]) -> None:
    lab, v = open_tiny(), vector()
    first = v.like({ONE: v.directions[ONE]}, "first")
    second = v.like({TWO: v.directions[TWO]}, "second")
    torch.testing.assert_close(logits(lab, 2 * first + 2 * second), logits(lab, 2 * v))


def test_vectors_of_one_model_add_up_under_whatever_name_it_was_opened(
    open_tiny: Callable[..., Session],
) -> None:
    own = open_tiny().backend.spec.fingerprint
    v, w = vector(fingerprint=own), vector(1, fingerprint=replace(own, model="another path"))
    expected = v.directions[ONE] + w.directions[ONE]
    torch.testing.assert_close((v + w).directions[ONE], expected)
    with pytest.raises(ValueError, match="differ in rule, tokens or model"):
        v + vector(1, fingerprint=replace(own, weights_hash="other"))
    with pytest.raises(ValueError, match="differ in rule, tokens or model"):
        v + vector(1)


def test_sums_without_meaning_are_refused_and_the_list_is_suggested() -> None:
    for other in (vector(1, rule="icv"), vector(1, where=Where(start=3))):
        with pytest.raises(ValueError, match=r"steer=\[a, b\]"):
            vector(0) + other
    with pytest.raises(TypeError, match="unsupported operand"):
        vector(0) + 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_strength_or_direction_that_is_not_finite_is_refused(bad: float) -> None:
    for strength in (bad, -bad, 1e39):
        with pytest.raises(ValueError, match="no finite number"):
            strength * vector()
    with pytest.raises(ValueError, match="resid_post.1 has values that are not finite"):
        SteeringVector(directions={ONE: torch.full((4,), bad)})


def test_an_empty_vector_and_an_unknown_rule_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one site"):
        SteeringVector(directions={})
    with pytest.raises(ValueError, match="no rule 'ad': there are add, add_relative, icv"):
        vector(rule="ad")


def test_a_vector_of_another_width_site_or_model_is_refused_before_any_compute(
    open_tiny: Callable[..., Session],
) -> None:
    lab, other = open_tiny("gpt2"), open_tiny("llama")
    with pytest.raises(ValueError, match="width 5 at resid_post.1, GPT2LMHeadModel has 32"):
        lab.generate("hi", steer=SteeringVector(directions={ONE: torch.ones(5)}))
    with pytest.raises(LookupError, match="resid_post.9"):
        lab.generate("hi", steer=SteeringVector(directions={Site("resid_post", 9): torch.ones(32)}))
    foreign = vector(fingerprint=other.backend.spec.fingerprint)
    with pytest.raises(ValueError, match="belongs to LlamaForCausalLM.*this is GPT2LMHeadModel"):
        lab.generate("hi", steer=foreign)


def test_a_saved_vector_comes_back_whole(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny(store=True)
    v = vector(3, fingerprint=lab.backend.spec.fingerprint, rule="icv", notes={"n_pairs": 3})
    v = 0.4 * replace(v, norms={ONE: 2.5}).after(4).on("generated")
    lab.save("kind", v)
    back = lab.load("kind")
    for name in ("rule", "strength", "where", "fingerprint", "name", "method", "norms", "notes"):
        assert getattr(back, name) == getattr(v, name), name
    assert all(torch.equal(back.directions[s], v.directions[s]) for s in v.directions)


def test_a_vector_without_provenance_is_not_saved(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny(store=True)
    with pytest.raises(ValueError, match="without provenance"):
        lab.save("kind", vector())
    assert lab.sql("SELECT count(*) AS n FROM artifact")["n"].to_pylist() == [0]
