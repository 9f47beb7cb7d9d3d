"""Figures: every number drawn is one of the table's, and kinds of variant look different."""

import json
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pytest
from store_samples import joined, make_batch, record

from dashboard import figures
from store import Site, Store, queries

STRENGTHS = (-1.0, 0.0, 1.0)


def _evaluation(n_random: int = 3) -> pa.Table:
    rng = np.random.default_rng(0)
    variants = [("vector", "vector"), ("shuffled 0", "shuffled"), ("sign-flipped", "flipped")]
    variants += [(f"random {i}", "random") for i in range(n_random)]
    rows = []
    for variant, kind in variants:
        for strength in rng.permutation(STRENGTHS):
            effect, half, kl = rng.normal(), rng.uniform(0.1, 0.3), rng.uniform(0, 2)
            rows.append(
                {
                    "variant": variant, "kind": kind, "strength": float(strength),
                    "effect": effect, "low": effect - half, "high": effect + half, "kl": kl,
                    "n": 40,
                }
            )  # fmt: skip
    return pa.Table.from_pylist(rows)


def _named(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def _values(table: pa.Table, variant: str, column: str) -> list[float]:
    rows = [row for row in table.to_pylist() if row["variant"] == variant]
    return [row[column] for row in sorted(rows, key=lambda row: row["strength"])]


def test_a_sweep_draws_every_variant_by_increasing_strength() -> None:
    table = _evaluation()
    figure = figures.sweep(table)
    (vector,) = _named(figure, "the vector")
    assert list(vector.x) == list(STRENGTHS)
    assert list(vector.y) == _values(table, "vector", "effect")
    drawn = [list(trace.y) for trace in _named(figure, "random directions")]
    assert drawn == [_values(table, f"random {i}", "effect") for i in range(3)]


def test_a_sweep_spans_random_directions_and_the_vectors_interval() -> None:
    table = _evaluation()
    figure = figures.sweep(table)
    (band,) = _named(figure, "range of random directions")
    effects = np.array([_values(table, f"random {i}", "effect") for i in range(3)])
    np.testing.assert_array_equal(band.y, [*effects.max(0), *effects.min(0)[::-1]])
    assert list(band.x) == [*STRENGTHS, *STRENGTHS[::-1]]
    (interval,) = _named(figure, "95 % interval")
    low, high = (_values(table, "vector", column) for column in ("low", "high"))
    assert list(interval.y) == [*high, *low[::-1]]


def test_kinds_differ_in_colour_and_in_shape_and_stand_once_in_the_legend() -> None:
    figure = figures.sweep(_evaluation())
    lines = [trace for trace in figure.data if trace.legendgroup]
    looks = {t.legendgroup: (t.line.color, t.line.dash, t.marker.symbol) for t in lines}
    assert set(looks) == set(figures.KINDS)
    colours, _, symbols = zip(*looks.values(), strict=True)
    assert len(set(colours)) == len(set(symbols)) == len(looks)
    assert sorted(t.legendgroup for t in lines if t.showlegend) == sorted(looks)


def test_axes_name_their_units_and_zero_is_drawn() -> None:
    figure = figures.sweep(_evaluation(), unit="raw")
    assert figure.layout.xaxis.title.text == "strength (raw)"
    assert figure.layout.yaxis.title.text == "shift of log-odds (nats)"
    assert [(line.y0, line.y1) for line in figure.layout.shapes] == [(0, 0)]


def test_a_sweep_without_random_directions_has_no_band() -> None:
    figure = figures.sweep(_evaluation(n_random=0))
    assert not _named(figure, "range of random directions")


def test_effect_is_drawn_against_side_effect_with_the_strength_at_hand() -> None:
    table = _evaluation()
    figure = figures.effect_against_side_effect(table)
    (vector,) = _named(figure, "the vector")
    assert list(vector.x) == _values(table, "vector", "kl")
    assert list(vector.y) == _values(table, "vector", "effect")
    assert list(vector.customdata) == list(STRENGTHS)
    assert "KL divergence" in figure.layout.xaxis.title.text
    assert "nats per token" in figure.layout.xaxis.title.text


def test_norms_are_those_of_the_stored_vectors_one_line_per_part_and_head(tmp_path: Path) -> None:
    batch = make_batch([3, 4])
    with Store.open(tmp_path / "lab") as store:
        record(store, [batch])
        figure = figures.norms(queries.norms(store))
    lines = {trace.name: trace for trace in figure.data}
    assert set(lines) == {"resid_post", "z head 1"}
    for layer in (0, 1):
        rows = joined([batch], Site("resid_post", layer)).astype(np.float64)
        expected = np.linalg.norm(rows, axis=1).mean()
        np.testing.assert_allclose(lines["resid_post"].y[layer], expected, rtol=1e-12)


def test_sites_without_a_layer_stand_at_the_ends() -> None:
    rows = [("embed", None), ("resid_post", 1), ("resid_post", 0), ("ln_final", None)]
    table = pa.table(
        {
            "site": [f"{part}.{layer}" for part, layer in rows],
            "part": [part for part, _ in rows],
            "layer": pa.array([layer for _, layer in rows], pa.int16()),
            "mean_norm": [1.0, 3.0, 2.0, 4.0],
        }
    )
    figure = figures.norms(table)
    places = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert places == {
        "embed": ([-1], [1.0]), "resid_post": ([0, 1], [2.0, 3.0]), "ln_final": ([2], [4.0]),
    }  # fmt: skip
    ticks = dict(zip(figure.layout.xaxis.tickvals, figure.layout.xaxis.ticktext, strict=True))
    assert ticks == {0: "0", 1: "1", -1: "embed", 2: "final"}


@pytest.mark.parametrize("draw", [figures.sweep, figures.effect_against_side_effect, figures.norms])
def test_a_table_that_cannot_be_drawn_says_why(draw: object) -> None:
    with pytest.raises(ValueError, match=r"lacks .* and has other"):
        draw(pa.table({"other": [1]}))  # type: ignore[operator]


def test_an_empty_evaluation_and_an_unknown_kind_are_refused() -> None:
    table = _evaluation()
    with pytest.raises(ValueError, match="has no rows"):
        figures.sweep(table.slice(0, 0))
    kinds = pa.array(["placebo"] * table.num_rows)
    odd = table.set_column(table.column_names.index("kind"), "kind", kinds)
    with pytest.raises(ValueError, match="kind placebo: there are random, shuffled"):
        figures.sweep(odd)


def test_figures_travel_as_json_and_are_light() -> None:
    for figure in (figures.sweep(_evaluation()), figures.effect_against_side_effect(_evaluation())):
        layout = json.loads(figure.to_json())["layout"]
        assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "white"
