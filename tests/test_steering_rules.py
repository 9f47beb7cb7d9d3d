"""The edits as formulas: closed forms, limits, laws, and the plain twin of the ICV rule."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import icv as twin
from torch import Tensor

from steering import rules

SEEDS = st.integers(0, 10_000)
STRENGTHS = st.floats(-3, 3).filter(lambda s: abs(s) > 1e-3)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at_angle(theta: float) -> Tensor:
    return torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)


@given(SEEDS, STRENGTHS)
@settings(deadline=None, max_examples=50)
def test_icv_equals_its_plain_twin(seed: int, strength: float) -> None:
    x, v = drawn(seed, 3, 5), drawn(seed + 1, 5)
    expected = [twin.steered(row, v.tolist(), strength) for row in x.tolist()]
    torch.testing.assert_close(
        rules.icv(x, v, strength),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-10,
        atol=1e-10,
    )


@given(st.floats(0.05, 3.0), st.floats(0.05, 2.0))
@settings(deadline=None)
def test_icv_turns_in_the_plane_as_the_formula_says_and_keeps_the_norm(
    theta: float, strength: float
) -> None:
    x, v = 3 * at_angle(theta), 7 * at_angle(0.0)
    effective = strength * (1 + max(0.0, -math.cos(theta)))
    y = rules.icv(x[None], v, strength)[0]
    expected = math.atan2(math.sin(theta), math.cos(theta) + effective)
    assert math.atan2(float(y[1]), float(y[0])) == pytest.approx(expected, abs=1e-9)
    assert float(y.norm()) == pytest.approx(3.0, rel=1e-9)


def test_icv_gives_the_stated_numbers_for_an_orthogonal_direction() -> None:
    y = rules.icv(torch.tensor([[3.0, 0.0]]), torch.tensor([0.0, 5.0]), 0.1)
    torch.testing.assert_close(y, torch.tensor([[2.98511, 0.29851]]), atol=1e-5, rtol=0)


def test_icv_limits_are_identity_full_turn_and_fixed_points() -> None:
    x, v = drawn(1, 4, 6), drawn(2, 6)
    torch.testing.assert_close(rules.icv(x, v, 0.0), x)
    turned = x.norm(dim=-1, keepdim=True) * v / v.norm()
    torch.testing.assert_close(rules.icv(x, v, 1e9), turned)
    torch.testing.assert_close(rules.icv(2 * v[None], v, 0.7), 2 * v[None])
    torch.testing.assert_close(rules.icv(-2 * v[None], v, 0.4), -2 * v[None])
    torch.testing.assert_close(rules.icv(-2 * v[None], v, 0.6), 2 * v[None])


def test_icv_leaves_a_zero_activation_zero() -> None:
    x = torch.zeros(2, 4)
    assert torch.equal(rules.icv(x, torch.ones(4), 0.5), x)


def test_icv_is_to_first_order_a_push_across_x() -> None:
    x, v, step = drawn(3, 1, 6), drawn(4, 6), 1e-6
    unit, own = v / v.norm(), x / x.norm()
    cosine = (own * unit).sum()
    push = x.norm() * (1 + (-cosine).clamp(min=0)) * (unit - cosine * own)
    torch.testing.assert_close((rules.icv(x, v, step) - x) / step, push, rtol=1e-4, atol=1e-4)


@given(SEEDS, STRENGTHS, STRENGTHS)
@settings(deadline=None, max_examples=50)
def test_adding_is_linear_in_strength(seed: int, a: float, b: float) -> None:
    x, v = drawn(seed, 3, 5), drawn(seed + 1, 5)
    torch.testing.assert_close(rules.add(rules.add(x, v, a), v, b), rules.add(x, v, a + b))


@given(SEEDS, STRENGTHS, st.floats(0.1, 50))
@settings(deadline=None, max_examples=50)
def test_relative_strength_is_in_multiples_of_each_tokens_norm(
    seed: int, strength: float, scale: float
) -> None:
    x, v = drawn(seed, 3, 5), drawn(seed + 1, 5)
    change = (rules.add_relative(x, scale * v, strength) - x).norm(dim=-1) / x.norm(dim=-1)
    torch.testing.assert_close(change, torch.full_like(change, abs(strength)))


@pytest.mark.parametrize("name", sorted(rules.by_name()))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_rule_keeps_dtype_shape_and_its_input(name: str, dtype: torch.dtype) -> None:
    x, v = drawn(5, 2, 3, 8).to(dtype), drawn(6, 8).float()
    before = x.clone()
    y = rules.by_name()[name](x, v, 0.5)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    assert torch.equal(x, before)
    assert rules.unit_of(name)
