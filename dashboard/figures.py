"""Arrow table → plotly figure. No Dash, no reading of files: notebooks use the same functions."""

from collections.abc import Iterator, Sequence
from itertools import cycle

import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc

# Okabe and Ito's palette, told apart also with the common kinds of colour blindness.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
)  # fmt: skip
GREY, INK = "#8C8C8C", "#222222"

EVALUATION = ("variant", "kind", "strength", "effect", "low", "high", "kl", "n")
"""The columns of an evaluation; effect, low and high in nats, kl in nats per token."""

EFFECT = "shift of log-odds (nats)"

KINDS = {
    "random": ("random directions", GREY, "solid", "circle-open"),
    "shuffled": ("features shuffled", ORANGE, "dot", "square"),
    "flipped": ("sign flipped", RED, "dash", "diamond"),
    "vector": ("the vector", BLUE, "solid", "circle"),
}
"""What a variant may be: its title, colour, dash and marker; told apart without colour, too."""


def sweep(table: pa.Table, *, unit: str = "λ") -> go.Figure:
    """Draw effect against strength for a vector beside its controls, with 95 % intervals.

    Every random direction is a thin line inside the band that they span together.

    Raises:
        ValueError: the table lacks a column of an evaluation, or has no rows.
    """
    table = _evaluation(table)
    figure = _figure(f"strength ({unit})", EFFECT)
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    _random_band(figure, table)
    for kind in KINDS:
        for i, (name, rows) in enumerate(_variants(table, kind)):
            if kind == "vector":
                _interval(figure, rows)
            figure.add_trace(_line(kind, name, rows, legend=i == 0))
    return figure


def effect_against_side_effect(table: pa.Table, *, unit: str = "λ") -> go.Figure:
    """Draw what a strength buys against what it costs: effect against divergence per token.

    Raises:
        ValueError: the table lacks a column of an evaluation, or has no rows.
    """
    table = _evaluation(table)
    figure = _figure("side effect: KL divergence from the unsteered model (nats per token)", EFFECT)
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    for kind in KINDS:
        for i, (name, rows) in enumerate(_variants(table, kind)):
            trace = _line(kind, name, rows, legend=i == 0, x="kl")
            trace.hovertemplate = (
                f"{name}<br>strength %{{customdata:g}} {unit}<br>KL %{{x:.3g}} nats per token"
                "<br>effect %{y:.3f} nats<extra></extra>"
            )
            trace.customdata = rows["strength"].to_pylist()
            figure.add_trace(trace)
    return figure


def norms(table: pa.Table) -> go.Figure:
    """Draw the mean norm at each layer, one line per part (and head) of the model.

    Takes what `store.queries.norms` gives. Sites without a layer stand at the ends.

    Raises:
        ValueError: the table lacks a column, or has no rows.
    """
    table = _checked(table, ("site", "part", "layer", "mean_norm"))
    figure = _figure("layer", "mean norm ‖x‖")
    figure.update_yaxes(rangemode="tozero")
    rows = table.to_pylist()
    last = max((row["layer"] for row in rows if row["layer"] is not None), default=0)
    ends = {"embed": -1}
    lines: dict[str, list[tuple[int, float | None, str]]] = {}
    for row in rows:
        layer = row["layer"] if row["layer"] is not None else ends.get(row["part"], last + 1)
        name = row["part"] if row.get("head") is None else f"{row['part']} head {row['head']}"
        lines.setdefault(name, []).append((layer, row["mean_norm"], row["site"]))
    colours = cycle((BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY))
    symbols = cycle(("circle", "square", "diamond", "triangle-up", "cross"))
    for name, points in lines.items():
        xs, ys, sites = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        figure.add_trace(
            go.Scatter(
                x=xs, y=ys, name=name, customdata=sites, mode="lines+markers",
                line={"color": next(colours), "width": 2},
                marker={"symbol": next(symbols), "size": 8},
                hovertemplate="%{customdata}<br>mean norm %{y:.3f}<extra></extra>",
            )
        )  # fmt: skip
    _layer_ticks(figure, [x for points in lines.values() for x, _, _ in points], last)
    return figure


def _layer_ticks(figure: go.Figure, xs: Sequence[int], last: int) -> None:
    step = max(1, (last + 1) // 16)
    ticks = {x: str(x) for x in range(0, last + 1, step)}
    if -1 in xs:
        ticks[-1] = "embed"
    if last + 1 in xs:
        ticks[last + 1] = "final"
    figure.update_xaxes(tickvals=list(ticks), ticktext=list(ticks.values()))


def _random_band(figure: go.Figure, table: pa.Table) -> None:
    """Fill between the least and the greatest effect of random directions at each strength."""
    random = table.filter(pc.field("kind") == "random")
    if random.num_rows == 0:
        return
    spans = random.group_by("strength").aggregate([("effect", "min"), ("effect", "max")])
    spans = spans.sort_by("strength")
    x = spans["strength"].to_pylist()
    low, high = spans["effect_min"].to_pylist(), spans["effect_max"].to_pylist()
    figure.add_trace(_filled(x, low, high, "rgba(140,140,140,0.22)", "range of random directions"))


def _interval(figure: go.Figure, rows: pa.Table) -> None:
    x, low, high = (rows[name].to_pylist() for name in ("strength", "low", "high"))
    figure.add_trace(_filled(x, low, high, "rgba(0,114,178,0.22)", "95 % interval"))


def _filled(
    x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, name: str
) -> go.Scatter:
    return go.Scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], name=name, fill="toself",
        fillcolor=colour, mode="lines", line={"width": 0}, hoverinfo="skip",
    )  # fmt: skip


def _line(kind: str, name: str, rows: pa.Table, *, legend: bool, x: str = "strength") -> go.Scatter:
    title, colour, dash, symbol = KINDS[kind]
    # Of these there are many, and they are there to be looked past.
    thin = kind in ("random", "shuffled")
    return go.Scatter(
        x=rows[x].to_pylist(), y=rows["effect"].to_pylist(),
        customdata=list(zip(*(rows[c].to_pylist() for c in ("low", "high", "n")), strict=True)),
        name=title, legendgroup=kind, showlegend=legend,
        mode="lines" if kind == "random" and x == "strength" else "lines+markers",
        line={"color": colour, "dash": dash, "width": 1.2 if thin else 2.5},
        marker={"symbol": symbol, "size": 4 if thin else 8},
        opacity=0.7 if thin else 1.0,
        hovertemplate=(
            f"{name}<br>strength %{{x:g}}<br>effect %{{y:.3f}} nats "
            "[%{customdata[0]:.3f}, %{customdata[1]:.3f}]<br>n = %{customdata[2]}<extra></extra>"
        ),
    )  # fmt: skip


def _variants(table: pa.Table, kind: str) -> Iterator[tuple[str, pa.Table]]:
    rows = table.filter(pc.field("kind") == kind)
    for name in dict.fromkeys(rows["variant"].to_pylist()):
        yield name, rows.filter(pc.field("variant") == name).sort_by("strength")


def _evaluation(table: pa.Table) -> pa.Table:
    strange = set(_checked(table, EVALUATION)["kind"].to_pylist()) - set(KINDS)
    if strange:
        raise ValueError(
            f"cannot draw variants of kind {', '.join(map(str, strange))}: there are "
            f"{', '.join(KINDS)}"
        )
    return table


def _checked(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    lacking = [name for name in columns if name not in table.column_names]
    if lacking:
        raise ValueError(
            f"cannot draw this table: it lacks {', '.join(lacking)} and has "
            f"{', '.join(table.column_names)}"
        )
    if table.num_rows == 0:
        raise ValueError("nothing to draw: the table has no rows")
    return table


def _figure(x: str, y: str) -> go.Figure:
    axis = {"gridcolor": "#E5E5E5", "linecolor": GREY, "zeroline": False, "ticks": "outside"}
    figure = go.Figure()
    figure.update_layout(
        font={"family": "system-ui, sans-serif", "size": 14, "color": INK},
        paper_bgcolor="white", plot_bgcolor="white", hoverlabel={"namelength": -1},
        margin={"l": 64, "r": 16, "t": 16, "b": 56}, height=380,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        xaxis={**axis, "title": {"text": x}}, yaxis={**axis, "title": {"text": y}},
    )  # fmt: skip
    return figure
