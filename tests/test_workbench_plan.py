"""Where selects by phase and range, never padding; plans are ordered, per row, and checked."""

from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering import SteeringVector
from store import Site
from workbench import Plan, Receipt, Where, each
from workbench.plan import Intervention, Step, Touch, as_plan

PHASES = ("all", "prompt", "generated", "deciding")
SITE = Site("resid_post", 1)


def vector(name: str = "v") -> SteeringVector:
    return SteeringVector(directions={SITE: torch.ones(4)}, name=name)


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw one row: tokens already in the cache, real tokens fed now, tokens of its prompt."""
    past, fed = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    return past, fed, draw(st.integers(1, 9))


@st.composite
def selections(draw: st.DrawFn) -> Where:
    start = draw(st.none() | st.integers(0, 8))
    stop = draw(st.none() | st.integers((start or 0) + 1, 12))
    return Where(phase=draw(st.sampled_from(PHASES)), start=start, stop=stop)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch the tests' type checker off, so that our own messages are reached, as for a user."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def step_of(drawn: list[tuple[int, int, int]]) -> Step:
    width = max(1, *(fed for _, fed, _ in drawn))
    positions = torch.zeros(len(drawn), width, dtype=torch.long)
    mask = torch.zeros(len(drawn), width, dtype=torch.bool)
    for i, (past, fed, _) in enumerate(drawn):
        positions[i, width - fed :] = torch.arange(past, past + fed)
        mask[i, width - fed :] = True
    n_prompt = torch.tensor([n for _, _, n in drawn])
    return Step(positions=positions, mask=mask, n_prompt=n_prompt, full=bool(mask.all()))


def selected(where: Where, position: int, n_prompt: int) -> bool:
    """Decide one token, by the definitions in words."""
    in_phase = {
        "all": True,
        "prompt": position in range(n_prompt),
        "generated": position not in range(n_prompt),
        "deciding": position not in range(n_prompt - 1),
    }[where.phase]
    # More positions than any test has.
    return in_phase and position in range(where.start or 0, where.stop or 10**6)


@given(st.lists(rows(), min_size=1, max_size=4), selections())
def test_where_selects_what_its_words_say_and_never_padding(
    drawn: list[tuple[int, int, int]], where: Where
) -> None:
    found = where.mask(step_of(drawn))
    for i, (past, fed, n_prompt) in enumerate(drawn):
        expected = [selected(where, position, n_prompt) for position in range(past, past + fed)]
        padding = [False] * (found.shape[1] - fed)
        assert found[i].tolist() == padding + expected


@given(st.lists(rows(), min_size=1, max_size=4))
def test_prompt_and_generated_share_out_all_real_tokens(drawn: list[tuple[int, int, int]]) -> None:
    step = step_of(drawn)
    prompt, generated = (Where(phase=phase).mask(step) for phase in ("prompt", "generated"))
    assert torch.equal(prompt | generated, step.mask)
    assert not (prompt & generated).any()


@given(st.lists(rows(), min_size=2, max_size=4), selections(), st.data())
def test_where_on_some_rows_is_those_rows_of_where(
    drawn: list[tuple[int, int, int]], where: Where, data: st.DataObject
) -> None:
    step = step_of(drawn)
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(drawn) - 1), min_size=1)))
    assert torch.equal(where.mask(step.rows(index)), where.mask(step)[index])


def test_where_without_limits_returns_the_very_mask_of_the_step() -> None:
    step = step_of([(0, 3, 3), (0, 2, 2)])
    assert Where().mask(step) is step.mask


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phase": "later"}, "no phase 'later': there are all, prompt, generated, deciding"),
        ({"start": -1}, "start=-1: positions count from 0; use phase="),
        ({"stop": -2}, "stop=-2: positions count from 0"),
        ({"start": 4, "stop": 4}, "start=4, stop=4 selects no position"),
        ({"stop": 0}, "start=None, stop=0 selects no position"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_selection_without_meaning_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Where(**settings)


def test_where_prints_phase_and_range() -> None:
    assert str(Where()) == "all tokens"
    assert str(Where(phase="deciding", start=3)) == "deciding tokens at positions 3.."
    assert str(Where(stop=5)) == "all tokens at positions 0..5"


def test_one_intervention_a_list_none_and_a_plan_all_become_plans() -> None:
    a, b = vector("a"), vector("b")
    assert as_plan(None).interventions == ()
    assert as_plan(a).interventions == (a,)
    assert as_plan([b, a]).interventions == (b, a)
    plan = Plan(((a,),))
    assert as_plan(plan) is plan
    assert as_plan([a, b]).for_row(7) == (a, b)


@pytest.mark.parametrize(
    ("steer", "message"),
    [
        ("kind", "cannot steer with str: give an intervention such as a SteeringVector"),
        (3, "cannot steer with int"),
        (["kind"], "cannot steer with str: it has no sites, where and edit"),
        ([None], "cannot steer with NoneType"),
        ([each([None])], "cannot steer with Plan"),
        ({SITE: 1}, "cannot steer with dict"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_intervention_is_refused_with_its_type(steer: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        as_plan(steer)


def test_each_keeps_one_plan_per_row_in_order() -> None:
    a, b = vector("a"), vector("b")
    plan = each([a, None, [b, a]])
    assert plan.per_row
    assert [plan.for_row(row) for row in range(3)] == [(a,), (), (b, a)]
    assert plan.interventions == (a, b, a)


@pytest.mark.usefixtures("unchecked")
def test_each_refuses_no_plans_and_what_is_no_intervention() -> None:
    with pytest.raises(ValueError, match="each.. got no plans: give one per prompt"):
        each([])
    with pytest.raises(TypeError, match="cannot steer with str"):
        each([vector(), "kind"])


def test_a_plan_per_row_must_fit_the_rows_and_a_common_one_fits_any() -> None:
    with pytest.raises(ValueError, match="each.. has 2 plans for 3 prompts: give one per prompt"):
        each([None, vector()]).check_rows(3)
    each([None, vector()]).check_rows(2)
    as_plan(vector()).check_rows(3)


def test_a_vector_is_an_intervention_and_a_tensor_is_none() -> None:
    assert isinstance(vector(), Intervention)
    assert not isinstance(torch.ones(3), Intervention)


@given(st.lists(st.tuples(st.integers(0, 99), st.floats(0, 10)), min_size=1, max_size=6))
def test_a_receipt_sums_up_its_sites(touched: list[tuple[int, float]]) -> None:
    sites = {
        Site("resid_post", layer): Touch(steps=1, positions=positions, change=change, angle=0.0)
        for layer, (positions, change) in enumerate(touched)
    }
    receipt = Receipt(intervention="v", sites=sites).named("mine")
    assert receipt.positions == max(positions for positions, _ in touched)
    assert receipt.change == pytest.approx(sum(c for _, c in touched) / len(touched))
    assert str(receipt).startswith(f"mine: {receipt.positions} positions at {len(sites)} sites")
    assert f"resid_post.{len(sites) - 1})" in str(receipt)
