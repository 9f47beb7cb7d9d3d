"""Texts as tokens on a page: whitespace visible, colour for values, and a legend."""

from collections.abc import Iterable

from dash import html

from dashboard.trial import Column, Token

COLD, HOT = (255, 255, 255), (230, 159, 0)
"""From no change to the largest: white to Okabe and Ito's orange; dark ink is legible on both."""

LINE = "↵"


def heat(column: Column, top: float) -> html.Div:
    """Draw a column's tokens, coloured by change up to `top`, the deepest colour.

    Where nothing acted on the whole column, its tokens stay plain.
    """
    return html.Div(
        [_span(token, top, column) for token in column.tokens],
        className="tokens",
    )


def legend(top: float, n_sites: int) -> html.Div:
    """Draw the scale of the colours and say what the marks mean."""
    sites = "1 site" if n_sites == 1 else f"{n_sites} sites"
    return html.Div(
        [
            html.Span("0"),
            html.Span(className="ramp", style={"background": _ramp()}),
            html.Span(f"{top:.2g}"),
            html.Span(f"change of the activations ‖Δ‖/‖x‖ at a token, mean over {sites}"),
            html.Span("prompt", className="token plain prompt"),
            html.Span("generated", className="token plain"),
            html.Span("not acted on", className="token unfed"),
            html.Span("first difference", className="token plain first"),
        ],
        className="legend",
    )  # fmt: skip


def largest(columns: Iterable[Column]) -> float:
    """Return the largest change in some columns, so that they share one scale."""
    return max((t.change for c in columns for t in c.tokens if t.change is not None), default=0.0)


def visible(text: str) -> str:
    """Show what white space hides: · for a space, ↵ for a line's end, → for a tab."""
    return text.replace(" ", "·").replace("\n", LINE).replace("\t", "→") or "∅"


def _span(token: Token, top: float, column: Column) -> html.Span:
    first = token.position == column.divergence
    kinds = {
        "token": True,
        "prompt": not token.generated,
        "first": first,
        "plain": not column.acts,
        "unfed": bool(column.acts) and token.change is None,
    }
    value = "not acted on" if token.change is None else f"change {token.change:.3f} of the norm"
    share = 0.0 if token.change is None or top <= 0 else token.change / top
    return html.Span(
        visible(token.text),
        className=" ".join(name for name, holds in kinds.items() if holds),
        style={} if token.change is None else {"backgroundColor": _css(share)},
        title=(
            f"{visible(token.text)}   id {token.id}, position {token.position}"
            f" ({'generated' if token.generated else 'prompt'}), {value}"
            + (", the first token that differs" if first else "")
        ),
    )


def _css(share: float) -> str:
    mixed = (round(c + (h - c) * share) for c, h in zip(COLD, HOT, strict=True))
    return "rgb({}, {}, {})".format(*mixed)


def _ramp() -> str:
    return f"linear-gradient(to right, {_css(0)}, {_css(1)})"
