"""The steer panel: a page whose state is its address, and jobs that the page polls.

The form is `dashboard.panels.steer_form`; what came of a job is drawn by `trial_view`.
"""

import queue
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.exceptions import PreventUpdate

from dashboard import ids
from dashboard.elements import FAILURES, alert, hint
from dashboard.panels import steer_form
from dashboard.panels.trial_view import show
from dashboard.source import Source
from dashboard.trial import Ask, Trial, query
from dashboard.worker import Job, Report, Worker
from store import WorkbenchError

POLL_MS = 250


def render(app: Dash, source: Source) -> Any:
    """Add the panel's callbacks and return what draws it, given the query of the address."""
    if source.worker is not None:
        _follow_form(app)
        steer_form.follow_vector(app, source)
        _follow_address(app, source.worker)
        _follow_job(app, source, source.worker)
    return lambda _: view(source)


def view(source: Source) -> html.Div:
    """Draw the form, with the vectors that the store has now."""
    title = html.H1("Steer")
    if source.worker is None:
        command = f"workbench serve {source.store.path} --model pocket"
        return html.Div([title, hint("No model is open. Start the dashboard with one:", command)])
    try:
        options = steer_form.vectors(source)
    except (*FAILURES, WorkbenchError) as error:
        return html.Div([title, alert(f"The vectors could not be read: {error}")])
    if not options:
        command = "workbench fit steering:ICV pairs.jsonl --as kind"
        return html.Div([title, hint("No steering vectors yet. Fit one from pairs:", command)])
    return html.Div(
        [
            title,
            steer_form.draw(options),
            html.Div(id=ids.STEER_RESULT),
            dcc.Store(id=ids.STEER_JOB),
            dcc.Store(id=ids.STEER_SHOWN),
            dcc.Store(id=ids.STEER_AGAIN),
            dcc.Interval(id=ids.STEER_POLL, interval=POLL_MS, disabled=True),
        ]
    )


def _follow_form(app: Dash) -> None:
    """The button writes the form into the address; asked for twice, it runs again."""

    @app.callback(
        Output(ids.URL, "href", allow_duplicate=True),
        Output(ids.STEER_AGAIN, "data"),
        Input(ids.STEER_RUN, "n_clicks"),
        State(ids.URL, "search"),
        *(State(component, "value") for component in steer_form.FIELDS.values()),
        prevent_initial_call=True,
    )
    def run(clicks: int, search: str | None, *values: Any) -> tuple[Any, Any]:
        if not clicks:
            raise PreventUpdate  # the button has only just appeared
        asked = query(dict(zip(steer_form.FIELDS, values, strict=True)))
        return (no_update, clicks) if asked == search else (f"/steer{asked}", no_update)


def _follow_address(app: Dash, worker: Worker) -> None:
    """What the address asks for fills the form and becomes a job."""

    @app.callback(
        *(Output(component, "value") for component in steer_form.FIELDS.values()),
        Output(ids.STEER_JOB, "data"),
        Input(ids.URL, "search"),
        Input(ids.STEER_AGAIN, "data"),
        State(ids.CLIENT, "data"),
        State(ids.STEER_JOB, "data"),
    )
    def ask(
        search: str | None, _: int | None, client: str, before: dict[str, str] | None
    ) -> tuple[Any, ...]:
        if before is not None and "id" in before:
            worker.cancel(before["id"])
        unchanged = [no_update] * len(steer_form.FIELDS)
        try:
            wanted = Ask.from_query(search or "")
            if wanted is None:
                return (*unchanged, None)
            job = worker.submit(client, _Work(wanted))
        except (*FAILURES, queue.Full) as error:
            return (*unchanged, {"error": str(error)})
        return (*(getattr(wanted, name) for name in steer_form.FIELDS), {"id": job})


class _Work:
    """A trial as a job; torch is imported when it runs, on the worker's thread."""

    def __init__(self, wanted: Ask) -> None:
        self._wanted = wanted

    def __call__(self, session: Any, report: Report) -> Trial:
        # 2 s of imports that the runs panel, and the start of the server, do without.
        from dashboard.observe import trial

        return trial(session, report, self._wanted)


def _follow_job(app: Dash, source: Source, worker: Worker) -> None:
    """Poll while a job is not over; show what came of it."""

    @app.callback(
        Output(ids.STEER_RESULT, "children"),
        Output(ids.STEER_RESULT, "className"),
        Output(ids.STEER_STATUS, "children"),
        Output(ids.STEER_CANCEL, "disabled"),
        Output(ids.STEER_SHOWN, "data"),
        Input(ids.STEER_JOB, "data"),
        Input(ids.STEER_POLL, "n_intervals"),
    )
    def poll(data: dict[str, str] | None, _: int | None) -> tuple[Any, ...]:
        if data is None:
            return hint("Write a prompt, choose a vector and a strength, and press Run."), "", "", \
                True, data  # fmt: skip
        if "error" in data:
            return alert(data["error"]), "", "", True, data
        try:
            job = worker.job(data["id"])
        except LookupError as error:
            return alert(str(error)), "", "", True, data
        if not job.over:
            return no_update, "waiting", _standing(job), job.state != "queued", no_update
        return _ended(source, job), "", "", True, data

    @app.callback(
        Output(ids.STEER_POLL, "disabled"),
        Input(ids.STEER_JOB, "data"),
        Input(ids.STEER_SHOWN, "data"),
    )
    def rest(asked: dict[str, str] | None, shown: dict[str, str] | None) -> bool:
        # Compared, not set by the poll: the answer to an older job may arrive after a newer one
        # was asked for.
        return asked == shown

    @app.callback(
        Output(ids.STEER_CANCEL, "n_clicks"),
        Input(ids.STEER_CANCEL, "n_clicks"),
        State(ids.STEER_JOB, "data"),
        prevent_initial_call=True,
    )
    def cancel(clicks: int, data: dict[str, str] | None) -> Any:
        if clicks:
            worker.cancel((data or {}).get("id", ""))
        return no_update


def _standing(job: Job) -> str:
    if job.state == "queued":
        return f"Waiting for the model: {job.ahead} before this one"
    return f"Running: {job.note}" if job.note else "Running"


def _ended(source: Source, job: Job) -> Any:
    if job.state == "failed":
        return alert(job.error or "The job failed without saying why.")
    if job.state == "cancelled":
        return hint("Cancelled before it began.")
    return show(job.result, str(source.store.path))
