"""The runs panel: every capture in the store, and one of them in detail."""

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode

import pyarrow as pa
from dash import Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate
from dash_ag_grid import AgGrid

from dashboard import figures, ids
from dashboard.elements import FAILURES, alert, code, facts, hint
from dashboard.source import Source
from store import Recorded, Store, WorkbenchError
from store.queries import norms, runs_overview, tokens_by_tag

SCANNED = 256 << 20
"""Bytes of a run up to which a page reads all of it to draw its norms."""

SHOWN = 5
"""Prompts that are shown."""

NUMBER = {"function": "d3.format(',')(params.value)"}
COLUMNS = [
    {"field": "name", "flex": 3, "minWidth": 165, "tooltipField": "name"},
    {"field": "model", "flex": 1, "minWidth": 80, "tooltipField": "model"},
    {"field": "dtype", "headerName": "Stored as", "width": 92},
    {"field": "sites", "flex": 3, "minWidth": 165, "tooltipField": "sites"},
    {"field": "prompts", "width": 88, "type": "rightAligned", "valueFormatter": NUMBER},
    {"field": "tokens", "width": 88, "type": "rightAligned", "valueFormatter": NUMBER},
    {
        "field": "bytes", "headerName": "Size", "width": 88, "type": "rightAligned",
        "valueFormatter": {"function": "d3.format('.3s')(params.value) + 'B'"},
    },
    {"field": "when", "headerName": "When (UTC)", "width": 152, "sort": "desc"},
    {"field": "status", "width": 82},
    {"field": "why", "flex": 5, "minWidth": 180, "tooltipField": "why"},
]  # fmt: skip


def render(app: Dash, source: Source) -> Any:
    """Add the panel's callbacks and return what draws it, given the query of the address."""

    @app.callback(
        # Not the address's search, from which the selection is set: that would be a circle.
        Output(ids.URL, "href"),
        Input(ids.RUNS_GRID, "selectedRows"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def choose(selected: list[dict[str, Any]] | None, search: str | None) -> str:
        if not selected or selected[0]["uuid"].startswith(_chosen(search or "") or "-"):
            raise PreventUpdate
        return "/runs?" + urlencode({"run": selected[0]["uuid"][:8]})

    @app.callback(
        Output(ids.RUNS_DETAIL, "children"),
        Output(ids.RUNS_GRID, "selectedRows"),
        Input(ids.URL, "search"),
        State(ids.RUNS_GRID, "rowData"),
    )
    def follow(search: str | None, rows: list[dict[str, Any]] | None) -> tuple[Any, Any]:
        ref = _chosen(search or "")
        if ref is None:
            return hint("Choose a run to see what it holds."), []
        selected = [row for row in rows or [] if row["uuid"].startswith(ref)]
        return detail(source.store, ref), selected

    return lambda _: view(source.store)


def view(store: Store) -> html.Div:
    """Draw the table of runs as it is now."""
    title = html.H1("Runs")
    try:
        rows = _rows(runs_overview(store))
    except (*FAILURES, WorkbenchError) as error:
        return html.Div([title, alert(f"The runs could not be read: {error}")])
    if not rows:
        command = f"workbench capture pocket prompts.txt --at 'resid_post.*' --store {store.path}"
        return html.Div([title, hint("No runs yet. A run is made by capturing texts:", command)])
    grid = AgGrid(
        id=ids.RUNS_GRID,
        rowData=rows,
        columnDefs=COLUMNS,
        defaultColDef={"resizable": True, "sortable": True},
        getRowId="params.data.uuid",
        dashGridOptions={
            "rowSelection": {
                "mode": "singleRow", "checkboxes": False, "enableClickSelection": True,
            },
            "tooltipShowDelay": 300, "headerHeight": 38, "rowHeight": 36,
        },
        style={"height": f"{min(len(rows), 9) * 36 + 42}px"},
    )  # fmt: skip
    return html.Div([title, grid, html.Div(id=ids.RUNS_DETAIL, className="detail")])


def detail(store: Store, ref: str) -> html.Div:
    """Draw one run: where it comes from, what it holds, and how to read it."""
    try:
        recorded = store.read(ref)
        row = next(
            row for row in runs_overview(store).to_pylist() if row["uuid"] == recorded.run.uuid
        )
        tags = tokens_by_tag(store, recorded.run.uuid).to_pylist()
        picture = _picture(store, recorded.run.uuid, row["bytes"])
        prompts = _prompts(recorded)
    except (*FAILURES, WorkbenchError) as error:
        return html.Div(alert(f"This run could not be read: {error}"))
    name = recorded.run.name or f"run {recorded.run.uuid[:8]}"
    return html.Div(
        [
            html.H2([name, html.Span(recorded.status, className=f"badge {recorded.status}")]),
            html.Div(
                [
                    html.Section([html.H3("Provenance"), facts(_provenance(recorded, row))]),
                    html.Section([html.H3("Mean norm per layer"), picture]),
                ],
                className="halves",
            ),
            html.Section([html.H3("Prompts"), prompts, _tags(tags)]),
            code(snippet(store, recorded), ids.RUNS_CODE),
        ]
    )


def snippet(store: Store, recorded: Recorded) -> str:
    """Write Python that reads the run."""
    site = next(iter(recorded.sites))
    return (
        "from store import Store\n"
        "from store.queries import norms\n"
        "from store.tensors import to_float32\n\n"
        f"store = Store.open({str(store.path)!r})\n"
        f"run = store.read({recorded.run.uuid[:8]!r})\n"
        f"vectors = to_float32(run.scan({str(site)!r}))  # [token, d]\n"
        "tokens = run.tokens()  # one row per vector: prompt_id, pos, token_id, token_str\n"
        "print(vectors.shape, run.prompts[0].text)\n"
        "print(norms(store, run.run.uuid))\n"
    )


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return [
        {
            "uuid": row["uuid"],
            "name": row["name"] or row["uuid"][:8],
            "model": row["model"],
            "dtype": row["dtype"],
            "sites": in_short(row["sites"]),
            "prompts": row["prompts"],
            "tokens": row["tokens"],
            "bytes": row["bytes"],
            "when": f"{row['created_at']:%Y-%m-%d %H:%M}",
            "status": row["status"],
            "why": row["why"],
        }
        for row in table.to_pylist()
    ]


def in_short(sites: Sequence[str]) -> str:
    """Write sites as ranges where layers, or heads, follow each other: resid_post.0-3, z.3.h0-7."""
    ranges: list[tuple[str, list[int]]] = []
    for text in sites:
        stem, mark, number = re.fullmatch(r"(.*?)((?:\.h?)?)(\d*)", text).groups()  # type: ignore
        if not number:
            ranges.append((text, []))
        elif ranges and ranges[-1][0] == stem + mark and ranges[-1][1][-1] + 1 == int(number):
            ranges[-1][1].append(int(number))
        else:
            ranges.append((stem + mark, [int(number)]))
    return ", ".join(
        stem + (str(ns[0]) if ns else "") + (f"-{ns[-1]}" if len(ns) > 1 else "")
        for stem, ns in ranges
    )


def _chosen(search: str) -> str | None:
    return parse_qs(search.lstrip("?")).get("run", [None])[-1]


def _provenance(recorded: Recorded, row: dict[str, Any]) -> dict[str, str]:
    run = recorded.run
    own = run.fingerprint
    return {
        "id": run.uuid,
        "why": run.why,
        "when": f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "failed with": row["error"] or "",
        "model": own.model + (f", revision {own.revision}" if own.revision else ""),
        "weights": own.weights_hash,
        "tokenizer": own.tokenizer_hash,
        "basis": own.basis,
        "computed in": run.model_dtype,
        "stored as": run.dtype,
        "seed": "" if run.seed is None else str(run.seed),
        "sites": in_short([str(site) for site in recorded.sites]),
        "config": json.dumps(dict(run.config), ensure_ascii=False) if run.config else "",
        "program": run.code_version,
    }


def _picture(store: Store, uuid: str, size: int) -> Any:
    if size > SCANNED:
        return hint(f"This run has {size / 2**20:.0f} MB; its norms are read with", "norms(store)")
    table = norms(store, uuid)
    if not any(table["mean_norm"].to_pylist()):
        return hint("This run has no rows yet.")
    return dcc.Graph(
        figure=figures.norms(table),
        config={"displaylogo": False, "displayModeBar": False},
        responsive=True,
        style={"height": "380px"},
    )


def _prompts(recorded: Recorded) -> html.Div:
    prompts = recorded.prompts
    items = [
        html.Li([prompt.text, *(html.Span(tag, className="tag") for tag in prompt.tags)])
        for prompt in prompts[:SHOWN]
    ]
    rest = len(prompts) - len(items)
    return html.Div([html.Ol(items), html.P(f"and {rest:,} more") if rest else None])


def _tags(tags: list[dict[str, Any]]) -> html.P | None:
    if not tags:
        return None
    counts = ", ".join(
        f"{t['tag']} ({t['prompts']:,} prompts, {t['tokens']:,} tokens)" for t in tags
    )
    return html.P(["Tags: ", counts])
