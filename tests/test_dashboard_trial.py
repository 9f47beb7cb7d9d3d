"""A steering trial: the address holds all of it, and the heat-map shows what the edits did."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

import workbench
from dashboard import observe, tokens
from dashboard.panels import trial_view
from dashboard.trial import Act, Ask, Column, Token, Trial, query
from steering import SteeringVector
from store import Site
from workbench import Where, engine
from workbench.session import Session

PROMPT = "abc de"
SITES = (Site("resid_post", 0), Site("resid_post", 2))

asks = st.builds(
    Ask,
    prompt=st.text(min_size=1).filter(str.strip).filter(lambda t: t.isprintable() or "\n" in t),
    vector=st.text("abcß &=?#+/", min_size=1),
    strength=st.integers(-400, 400).map(lambda n: n / 100),
    max_new_tokens=st.integers(1, 512),
    temperature=st.integers(0, 50).map(lambda n: n / 10),
    seed=st.integers(0, 2**32 - 1),
)


@given(ask=asks)
def test_an_address_gives_back_what_was_asked(ask: Ask) -> None:
    assert Ask.from_query(query(vars(ask))) == ask


def test_an_address_without_a_question_asks_nothing() -> None:
    assert Ask.from_query("") is None and Ask.from_query("?run=abc") is None


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("?vector=v", "there is no prompt"),
        ("?prompt=+&vector=v", "there is no prompt"),
        ("?prompt=a", "there is no vector"),
        ("?prompt=a&vector=v&strength=much", "strength='much' in the address is no number"),
        ("?prompt=a&vector=v&strength=nan", "no finite number"),
        ("?prompt=a&vector=v&max_new_tokens=0", "choose 1 to 512"),
        ("?prompt=a&vector=v&max_new_tokens=1.5", "is no whole number"),
        ("?prompt=a&vector=v&temperature=-1", "temperature -1.0: choose 0"),
        ("?prompt=a&vector=v&temperature=nan", "temperature nan: choose 0"),
        ("?prompt=a&vector=v&seed=-1", "seed -1: choose a whole number"),
    ],
)
def test_an_address_that_cannot_be_run_says_why(address: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Ask.from_query(address)


def _vector(session: Session, **settings: Any) -> SteeringVector:
    generator = torch.Generator().manual_seed(1)
    directions = {site: torch.randn(32, generator=generator) for site in SITES}
    own = session.backend.spec.fingerprint
    return SteeringVector(
        directions=directions, fingerprint=own, **{"rule": "icv", "name": "v", **settings}
    )


def _trial(session: Session, vector: SteeringVector, **changes: Any) -> Trial:
    session.save("v", vector)
    notes: list[str] = []
    ask = replace(Ask(prompt=PROMPT, vector="v", strength=0.3, max_new_tokens=8), **changes)
    made = observe.trial(session, notes.append, ask)
    assert notes[0] == "loading v" and len(notes) == 2
    return made


def test_the_heat_map_is_the_change_of_the_activations(open_tiny: Callable[..., Session]) -> None:
    session = open_tiny(store=True)
    vector = _vector(session, where=Where(start=2))
    made = _trial(session, vector)
    steered = made.steered
    # Teacher-forced over the same tokens: the vector's own edit of what its sites hold there.
    scaled = 0.3 * vector
    ids = [token.id for token in steered.tokens][:-1]
    batch = workbench.batch.Batch.pad([ids], pad_id=0)
    expected = torch.zeros(len(ids), dtype=torch.float64)
    for site in SITES:
        earlier = [replace(scaled, directions={s: scaled.directions[s]}) for s in SITES if s < site]
        before = engine.run(session.backend, batch, earlier, reads=[site]).reads[site][0]
        after = engine.run(session.backend, batch, scaled, reads=[site]).reads[site][0]
        expected += (after - before).double().norm(dim=-1) / before.double().norm(dim=-1)
    shown = [token.change for token in steered.tokens]
    assert shown[:2] == [None, None] and shown[-1] is None, "not acted on, and never fed"
    torch.testing.assert_close(
        torch.tensor(shown[2:-1], dtype=torch.float64), expected[2:] / 2, rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 5}], ids=["greedy", "drawn"])
def test_a_trial_agrees_with_the_receipt_and_with_the_unsteered_model(
    open_tiny: Callable[..., Session], options: dict[str, Any]
) -> None:
    session = open_tiny(store=True)
    made = _trial(session, _vector(session), **options)
    plain = session.generate(PROMPT, **made.ask.generation)
    assert made.default.text == plain.text
    assert [t.id for t in made.default.tokens] == [*plain.prompt_tokens, *plain.tokens]
    changes = [t.change for t in made.steered.tokens if t.change is not None]
    assert [act.site for act in made.steered.acts] == list(map(str, SITES))
    assert {act.positions for act in made.steered.acts} == {len(changes)}
    mean = math.fsum(act.change for act in made.steered.acts) / len(made.steered.acts)
    assert math.isclose(sum(changes) / len(changes), mean, rel_tol=1e-4)
    assert [t.generated for t in made.default.tokens[:7]] == [False] * 6 + [True]


def test_the_first_difference_is_marked_in_both_texts(open_tiny: Callable[..., Session]) -> None:
    session = open_tiny(store=True)
    made = _trial(session, _vector(session, rule="add"), strength=20.0)
    at = made.steered.divergence
    assert at is not None and made.default.divergence == at
    default, steered = ([t.id for t in c.tokens] for c in (made.default, made.steered))
    assert default[:at] == steered[:at] and default[at] != steered[at]
    assert f"differs from new token {at - 5} on" in trial_view.verdict(made)


def test_strength_zero_changes_nothing_and_says_so(open_tiny: Callable[..., Session]) -> None:
    session = open_tiny(store=True)
    made = _trial(session, _vector(session), strength=0.0)
    assert made.default.text == made.steered.text == made.control.text
    assert {t.change for t in made.steered.tokens[:-1]} == {0.0}
    assert trial_view.verdict(made).startswith("Strength 0: nothing was changed")


def test_another_seed_is_another_random_direction(open_tiny: Callable[..., Session]) -> None:
    session = open_tiny(store=True)
    made = [_trial(session, _vector(session), seed=seed) for seed in (0, 0, 1)]
    (first, again, other) = ([act.angle for act in one.control.acts] for one in made)
    assert first == again != other
    assert made[0].steered == made[2].steered, "greedy: the seed chooses the control alone"


def test_what_is_no_vector_of_this_model_is_refused(open_tiny: Callable[..., Session]) -> None:
    session, other = open_tiny(store=True), open_tiny("llama")
    with pytest.raises(ValueError, match="belongs to"):
        _trial(session, _vector(other))
    ask = Ask(prompt=PROMPT, vector="nothing", strength=1.0)
    with pytest.raises(LookupError, match="no artifact 'nothing'"):
        observe.trial(session, lambda _: None, ask)


@pytest.mark.parametrize("saved", [1.0, 0.5], ids=["unit", "scaled"])
def test_the_python_repeats_the_trial(
    open_tiny: Callable[..., Session],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    saved: float,
) -> None:
    session = open_tiny(store=True)
    made = _trial(session, _vector(session, strength=saved), temperature=0.7, seed=3)
    code = trial_view.snippet(made, str(session.store.path))
    open_ = workbench.opening.open

    def opened(name: str, store: str) -> Session:
        # The module has no name that a hub knows, so it is handed over here.
        assert name == session.backend.spec.name
        return open_(tiny.model("gpt2"), tokenizer=tiny.tokenizer(), store=store)

    monkeypatch.setitem(vars(workbench), "open", opened)
    scope: dict[str, Any] = {}
    exec(code, scope)
    scope["lab"].close()
    for name in ("default", "steered", "control"):
        assert scope["texts"][name].text == getattr(made, name).text
    assert "mean change" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("strength", "steered", "control", "said"),
    [
        (
            0.5,
            None,
            None,
            "every token stayed the same. A random direction of equal size changes no",
        ),
        (0.5, 4, None, "differs from new token 2 on. A random direction of equal size changes no"),
        (0.5, 4, 3, "changes the text, too: compare how."),
        (0.0, None, None, "Strength 0: nothing was changed, and the texts are identical."),
    ],
)
def test_the_verdict_sets_an_effect_beside_its_control(
    strength: float, steered: int | None, control: int | None, said: str
) -> None:
    prompt = tuple(Token(text="a", id=1, position=i, generated=False) for i in range(3))
    columns = [Column(text="b", tokens=prompt, divergence=d) for d in (steered, steered, control)]
    default, moved, random = columns
    trial = Trial(
        ask=Ask(prompt="a", vector="v", strength=strength), model="m", unit="λ",
        saved_strength=1.0, default=default, steered=moved, control=random,
    )  # fmt: skip
    assert said in trial_view.verdict(trial)


def test_tokens_show_white_space_values_and_marks() -> None:
    made = Column(
        text="", divergence=1, acts=(Act(site="embed", positions=1, change=0.5, angle=1.0),),
        tokens=(
            Token(text=" a\n", id=7, position=0, generated=False, change=0.5),
            Token(text="", id=8, position=1, generated=True),
        ),
    )  # fmt: skip
    one, two = tokens.heat(made, top=0.5).children
    assert (one.children, one.className) == ("·a↵", "token prompt")
    assert one.style == {"backgroundColor": "rgb(230, 159, 0)"}
    assert "id 7, position 0 (prompt), change 0.500" in one.title
    assert (two.children, two.className, two.style) == ("∅", "token first unfed", {})
    assert "not acted on" in two.title and "first token that differs" in two.title
    assert tokens.largest([made]) == 0.5
