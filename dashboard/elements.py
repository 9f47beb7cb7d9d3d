"""The few shapes that every panel is made of: alerts, empty states, facts, code to copy."""

from collections.abc import Mapping

from dash import dcc, html

FAILURES = (ValueError, LookupError, OSError)
"""What a page can meet without being broken; `WorkbenchError` is the other kind."""


def alert(sentence: str) -> html.Div:
    """Say that something went wrong, in a sentence."""
    return html.Div(sentence[:1].upper() + sentence[1:], className="alert", role="alert")


def hint(sentence: str, command: str | None = None) -> html.Div:
    """Say why there is nothing to see yet, and what to do."""
    return html.Div(
        [html.P(sentence), html.Code(command)] if command else sentence, className="hint"
    )


def facts(values: Mapping[str, str]) -> html.Dl:
    """List names and values; empty values are left out."""
    rows = [(html.Dt(name), html.Dd(value)) for name, value in values.items() if value]
    return html.Dl([cell for row in rows for cell in row])


def code(text: str, component_id: str) -> html.Details:
    """Show code behind a fold, with a button that copies it."""
    return html.Details(
        [
            html.Summary("Copy as Python"),
            html.Div(
                [
                    html.Pre(text, id=component_id),
                    dcc.Clipboard(target_id=component_id, title="Copy", className="copy"),
                ],
                className="code",
            ),
        ],
        open=True,
    )
