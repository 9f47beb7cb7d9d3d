"""The page and its panels, without a browser: what they show, and that nothing heavy is loaded."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from dash import Dash
from dash.development.base_component import Component
from store_samples import FINGERPRINT, make_batch, make_run, record

from dashboard import Worker, create_app
from dashboard.panels import runs, steer, steer_form
from dashboard.source import Source
from dashboard.trial import SCALES
from steering import SteeringVector, rules
from store import BusyError, Fingerprint, Site, Store, select
from workbench.session import Session


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store.open(tmp_path / "lab") as made:
        yield made


def text(component: Any) -> str:
    """All the text of a component, in order."""
    if isinstance(component, Component):
        own = [text(getattr(component, "children", None))]
        return " ".join([*own, text(component.figure)] if hasattr(component, "figure") else own)
    if isinstance(component, list | tuple):
        return " ".join(map(text, component))
    return component if isinstance(component, str) else ""


def call(app: Dash, path: str, search: str = "") -> dict[str, Any]:
    """Ask the app for the panel that an address names, as the browser does."""
    client = app.server.test_client()
    (rule,) = [
        one
        for one in client.get("/_dash-dependencies").get_json()
        if "panel.children" in one["output"]
    ]
    asked = {
        "output": rule["output"],
        "outputs": [
            {"id": "panel", "property": "children"}, {"id": "nav", "property": "children"},
        ],
        "inputs": [{"id": "url", "property": "pathname", "value": path}],
        "state": [{"id": "url", "property": "search", "value": search}],
        "changedPropIds": ["url.pathname"],
    }  # fmt: skip
    answer = client.post("/_dash-update-component", json=asked)
    assert answer.status_code == 200
    return answer.get_json()["response"]


def test_the_panels_are_reached_by_address_and_the_first_is_runs(store: Store) -> None:
    app = create_app(store)
    for path, title in (("/", "Runs"), ("/runs", "Runs"), ("/steer", "Steer")):
        response = call(app, path)
        assert response["panel"]["children"]["props"]["children"][0]["props"]["children"] == title
        here = [
            link["props"]["children"]
            for link in response["nav"]["children"]
            if link["props"]["className"] == "here"
        ]
        assert here == [title]


def test_an_unknown_address_says_which_there_are(store: Store) -> None:
    response = call(create_app(store), "/nowhere")
    assert response["panel"]["children"]["props"]["children"] == (
        "There is no page /nowhere: there are /runs, /steer."
    )


def test_two_apps_of_one_process_do_not_share_callbacks(store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path / "other") as other:
        first, second = create_app(store), create_app(other)
        for app in (first, second):
            rules_ = app.server.test_client().get("/_dash-dependencies").get_json()
            assert len({one["output"] for one in rules_}) == len(rules_)
    assert first.callback_map is not second.callback_map


def test_every_opened_page_is_a_client_of_its_own(store: Store) -> None:
    client = create_app(store).server.test_client()
    pages = [client.get("/_dash-layout").get_json()["props"]["children"] for _ in range(2)]
    names = [
        child["props"]["data"]
        for page in pages
        for child in page
        if child["props"].get("id") == "client"
    ]
    assert len(set(names)) == 2


def test_importing_the_dashboard_loads_no_torch() -> None:
    code = "import sys, dashboard.app, dashboard.serving, dashboard.figures; assert {0}"
    for claim, rc in (("'torch' not in sys.modules", 0), ("'dash' not in sys.modules", 1)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(claim)], capture_output=True, check=False
        )
        assert done.returncode == rc, done.stderr.decode()


def test_a_worker_that_owns_no_session_is_refused(store: Store) -> None:
    with (
        Worker("no session") as worker,
        pytest.raises(ValueError, match=r"does not answer for a model: .*no attribute 'backend'"),
    ):
        create_app(store, worker)


def test_without_runs_the_panel_says_how_to_make_one(store: Store) -> None:
    said = text(runs.view(store))
    assert "No runs yet" in said and f"--store {store.path}" in said


def test_runs_are_listed_with_what_they_hold(store: Store) -> None:
    record(store, [make_batch([3, 4])], run=make_run(name="first"))
    record(store, [make_batch([5], dtype="bf16")], run=make_run(dtype="bf16"))
    grid = runs.view(store).children[1]
    newest, oldest = grid.rowData
    assert (oldest["name"], oldest["prompts"], oldest["tokens"]) == ("first", 2, 7)
    assert (oldest["dtype"], oldest["status"], oldest["why"]) == ("f32", "sealed", "a test")
    assert oldest["bytes"] > newest["bytes"] > 0
    assert newest["name"] == newest["uuid"][:8]
    assert oldest["sites"] == "resid_post.0, z.0.h1, resid_post.1"


def test_sites_in_short_are_a_selection_of_the_same_sites() -> None:
    sites = ["embed", *(f"resid_post.{i}" for i in (0, 1, 2, 5)), "z.3.h0", "z.3.h1", "ln_final"]
    short = runs.in_short(sites)
    assert short == "embed, resid_post.0-2, resid_post.5, z.3.h0-1, ln_final"
    assert [str(site) for site in select(short, n_layers=6, n_heads=2)] == sites


def test_a_runs_detail_shows_provenance_prompts_tags_and_norms(store: Store) -> None:
    run = record(store, [make_batch([3, 4, 2, 2, 2, 2, 2])], run=make_run(name="first"))
    shown = runs.detail(store, run.uuid[:8])
    said = text(shown)
    for part in (run.uuid, FINGERPRINT.weights_hash, "a test", "text 0.0", "sealed"):
        assert part in said
    assert "and 2 more" in said
    assert "even (4 prompts, 9 tokens), odd (3 prompts, 8 tokens)" in said


def test_a_large_run_is_not_read_for_its_picture(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = record(store, [make_batch([3])])
    monkeypatch.setattr(runs, "SCANNED", 1)
    assert "its norms are read with" in text(runs.detail(store, run.uuid))


def test_an_empty_run_has_no_picture(store: Store) -> None:
    with store.writer(run := make_run(), {Site("resid_post", 0): 8}):
        pass
    assert "This run has no rows yet." in text(runs.detail(store, run.uuid))


def test_an_unknown_run_is_a_sentence(store: Store) -> None:
    record(store, [make_batch([3])])
    said = text(runs.detail(store, "ffffffff"))
    assert said.startswith("This run could not be read: no run 'ffffffff': there are")


def test_a_damaged_run_is_a_sentence(store: Store) -> None:
    run = record(store, [make_batch([3])])
    (store.path / "runs" / run.uuid / "run.json").write_text("{}")
    assert "This run could not be read: " in text(runs.detail(store, run.uuid))


def test_a_store_that_cannot_be_asked_is_a_sentence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: Store) -> None:
        raise BusyError("the catalog is locked: try again")

    monkeypatch.setattr(runs, "runs_overview", busy)
    said = text(runs.view(store))
    assert said == "Runs The runs could not be read: the catalog is locked: try again"


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_runs_python_reads_what_was_recorded(
    store: Store, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = record(store, [make_batch([3, 4], dtype=dtype)], run=make_run(dtype=dtype))
    scope: dict[str, Any] = {}
    exec(runs.snippet(store, store.read(run.uuid)), scope)
    assert scope["vectors"].shape == (7, 8) and scope["tokens"].num_rows == 7
    assert "text 0.0" in capsys.readouterr().out
    scope["store"].close()


def test_without_a_model_the_steer_panel_says_how_to_open_one(store: Store) -> None:
    said = text(steer.view(Source(store=store)))
    assert "No model is open" in said and f"workbench serve {store.path}" in said


def _save(session: Session, name: str, fingerprint: Fingerprint | None = None) -> None:
    vector = SteeringVector(
        directions={Site("resid_post", 1): torch.ones(32)},
        fingerprint=fingerprint or session.backend.spec.fingerprint,
    )
    session.save(name, vector)


def test_vectors_are_offered_newest_first_and_other_models_are_disabled(
    open_tiny: Callable[..., Session],
) -> None:
    session = open_tiny(store=True)
    with Worker(session) as worker:
        own = session.backend.spec.fingerprint
        source = Source(store=session.store, worker=worker, fingerprint=own)
        assert "No steering vectors yet" in text(steer.view(source))
        for name in ("kind", "formal", "kind"):
            _save(session, name)
        _save(session, "foreign", FINGERPRINT)
        options = steer_form.vectors(source)
        older = session.store.artifacts()[0].uuid[:8]
    assert [option["value"] for option in options] == ["foreign", "kind", "formal", older]
    assert [option["disabled"] for option in options] == [True, False, False, False]
    assert options[0]["label"] == "foreign, of another model: tiny"


def test_a_vectors_line_says_what_it_is(open_tiny: Callable[..., Session]) -> None:
    session = open_tiny(store=True)
    _save(session, "kind")
    said = steer_form.about(session.store.artifacts()[0])
    assert "kind: made by steering.vector:SteeringVector" in said
    assert "rule add" in said and "acts on all tokens" in said


def test_every_rule_has_a_scale_in_its_own_unit() -> None:
    assert {rule: unit for rule, (_, _, unit) in SCALES.items()} == {
        rule: rules.unit_of(rule) for rule in rules.by_name()
    }
