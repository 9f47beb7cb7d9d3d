"""The page around the panels: the only place where a Dash is made."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, set_props

from dashboard import guard, ids
from dashboard.elements import alert
from dashboard.panels import runs, steer
from dashboard.source import Source
from dashboard.worker import Worker
from store import Fingerprint, Store
from store.records import unique

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""

View = Callable[[str], html.Div]
"""Draws a panel afresh, given the query of the address."""


def create_app(store: Store, worker: Worker | None = None, *, token: str | None = None) -> Dash:
    """Make the dashboard of a store; with a worker that owns a session, its model can be steered.

    Nothing is loaded from elsewhere. With a token, every request must bring it.

    Raises:
        ValueError: the token is empty, or the worker is closed or owns no session.
    """
    app = Dash(
        "dashboard",
        title="Activation workbench",
        update_title="",
        index_string=PAGE,
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        # Panels come and go, so not every callback finds its components on the page.
        suppress_callback_exceptions=True,
        include_pages_meta=False,
        add_log_handler=False,
        enable_mcp=False,
        on_error=_report,
    )
    app.enable_dev_tools(debug=False, dev_tools_disable_version_check=True)
    source = Source(
        store=store, worker=worker, fingerprint=None if worker is None else _identity(worker)
    )
    views: dict[str, tuple[str, View]] = {
        "/runs": ("Runs", runs.render(app, source)),
        "/steer": ("Steer", steer.render(app, source)),
    }
    _route(app, views)
    # A function, so that every opened page is a client of its own.
    app.layout = lambda: _page(source)
    guard.protect(app.server, token, list(app.csp_hashes()))
    return app


def _page(source: Source) -> html.Div:
    model = "no model" if source.fingerprint is None else f"model {source.fingerprint.model}"
    return html.Div(
        [
            dcc.Location(id=ids.URL, refresh="callback-nav"),
            dcc.Store(id=ids.CLIENT, data=unique()),
            html.Header(
                [
                    html.Strong("Activation workbench"),
                    html.Nav(id=ids.NAV),
                    html.Span(f"{model} · store {source.store.path}", className="where"),
                ]
            ),
            html.Div(id=ids.BANNER),
            html.Main(id=ids.PANEL),
        ]
    )


def _route(app: Dash, views: dict[str, tuple[str, View]]) -> None:
    """Show the panel that the address names."""

    @app.callback(
        Output(ids.PANEL, "children"),
        Output(ids.NAV, "children"),
        Input(ids.URL, "pathname"),
        State(ids.URL, "search"),
    )
    def show(pathname: str | None, search: str | None) -> tuple[Any, list[dcc.Link]]:
        path = "/runs" if pathname in (None, "", "/") else pathname
        links = [
            dcc.Link(title, href=href, className="here" if href == path else "")
            for href, (title, _) in views.items()
        ]
        if path not in views:
            return alert(f"There is no page {path}: there are {', '.join(views)}."), links
        return views[path][1](search or ""), links


def _identity(worker: Worker) -> Fingerprint:
    job = worker.wait(worker.submit("app", lambda lab, _: lab.backend.spec.fingerprint), 60)
    if job.state != "done":
        raise ValueError(f"the worker does not answer for a model: {job.error or job.state}")
    return job.result


def _report(error: Exception) -> None:
    """Say on the page that a callback broke, instead of leaving it silent; the log has the rest."""
    logging.getLogger(__name__).error("a callback of the dashboard failed", exc_info=error)
    sentence = f"This page met an error it did not expect ({type(error).__name__}); see the log."
    set_props(ids.BANNER, {"children": alert(sentence)})
