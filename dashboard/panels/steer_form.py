"""The steer panel's form: prompt, vector, a slider that fits the vector's rule, and the rest."""

from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.exceptions import PreventUpdate

from dashboard import ids
from dashboard.elements import FAILURES
from dashboard.source import Source
from dashboard.trial import LONGEST, SCALES, Ask
from store import Artifact, WorkbenchError
from workbench.artifacts import same_model

KIND = "steering.vector:SteeringVector"

FIELDS = {
    "prompt": ids.STEER_PROMPT,
    "vector": ids.STEER_VECTOR,
    "strength": ids.STEER_STRENGTH,
    "max_new_tokens": ids.STEER_LENGTH,
    "temperature": ids.STEER_TEMPERATURE,
    "seed": ids.STEER_SEED,
}
"""The component of each field of an `Ask`."""


def vectors(source: Source) -> list[dict[str, Any]]:
    """List the store's vectors as a dropdown's options, newest first; other models' are disabled.

    The newest of a name goes by the name, older ones by the beginning of their uuid.
    """
    found = [one for one in source.store.artifacts() if one.kind == KIND]
    options, names = [], set()
    for one in reversed(found):
        ref = one.uuid[:8] if one.name in names else one.name
        names.add(one.name)
        own = source.fingerprint is None or same_model(one.fingerprint, source.fingerprint)
        label = one.name if ref == one.name else f"{one.name} ({ref})"
        label += "" if own else f", of another model: {one.fingerprint.model}"
        options.append({"label": label, "value": ref, "disabled": not own})
    return options


def draw(options: list[dict[str, Any]]) -> html.Div:
    """Draw the form, given the vectors to choose from."""
    usable = [option["value"] for option in options if not option["disabled"]]
    number = {"type": "number", "debounce": False, "className": "number"}
    return html.Div(
        [
            _labelled(
                "Prompt", dcc.Textarea(id=ids.STEER_PROMPT, rows=2, spellCheck=False), "wide"
            ),
            _labelled(
                "Vector",
                dcc.Dropdown(
                    options, usable[0] if usable else None, id=ids.STEER_VECTOR,
                    clearable=False, searchable=len(options) > 8,
                ),
                "vector",
            ),
            html.Div(
                [
                    html.Label(id=ids.STEER_UNIT, htmlFor=ids.STEER_STRENGTH),
                    dcc.Slider(
                        -1, 1, 0.05, value=0.2, id=ids.STEER_STRENGTH, marks={0: "0"},
                        included=False, updatemode="drag",
                    ),
                ],
                className="field strength",
            ),
            html.Div(className="break"),
            _labelled(
                "New tokens",
                dcc.Input(id=ids.STEER_LENGTH, value=40, min=1, max=LONGEST, step=1, **number),
            ),
            _labelled(
                "Temperature (0 is greedy)",
                dcc.Input(id=ids.STEER_TEMPERATURE, value=0, min=0, max=5, step=0.1, **number),
            ),
            _labelled(
                "Seed",
                dcc.Input(id=ids.STEER_SEED, value=0, min=0, max=2**32 - 1, step=1, **number),
            ),
            html.Div(
                [
                    html.Button("Run", id=ids.STEER_RUN, n_clicks=0, className="primary"),
                    html.Button("Cancel", id=ids.STEER_CANCEL, n_clicks=0, disabled=True),
                    html.Span(id=ids.STEER_STATUS, role="status"),
                ],
                className="field buttons",
            ),
            html.P(id=ids.STEER_ABOUT, className="about"),
        ],
        className="form",
    )  # fmt: skip


def _labelled(text: str, component: Any, kind: str = "") -> html.Div:
    return html.Div(
        [html.Label(text, htmlFor=component.id), component], className=f"field {kind}".strip()
    )


def follow_vector(app: Dash, source: Source) -> None:
    """The slider fits the vector's rule, and more where the address asks for more."""

    @app.callback(
        Output(ids.STEER_STRENGTH, "min"),
        Output(ids.STEER_STRENGTH, "max"),
        Output(ids.STEER_STRENGTH, "step"),
        Output(ids.STEER_STRENGTH, "marks"),
        Output(ids.STEER_UNIT, "children"),
        Output(ids.STEER_ABOUT, "children"),
        Input(ids.STEER_VECTOR, "value"),
        Input(ids.STEER_STRENGTH, "value"),
        # Without it nothing is drawn at first: an input that its callback leaves as it is counts
        # as nothing new.
        Input(ids.STEER_JOB, "data"),
        State(ids.URL, "search"),
    )
    def fit(
        name: str | None, strength: float | None, _: dict[str, str] | None, search: str | None
    ) -> tuple[Any, ...]:
        if not name:
            raise PreventUpdate
        try:
            vector = artifact(source, name)
        except (*FAILURES, WorkbenchError) as error:
            return (*[no_update] * 5, f"This vector could not be read: {error}")
        limit, step, unit = SCALES[vector.settings["rule"]]
        limit = max(limit, _asked_strength(search or "", name))
        marks = {mark: f"{mark:g}" for mark in (-limit, -limit / 2, 0, limit / 2, limit)}
        title = f"Strength: {strength or 0.0:g} ({unit})"
        return -limit, limit, step, marks, title, about(vector)


def _asked_strength(search: str, name: str) -> float:
    """How strong the address asks this vector to be, in size."""
    try:
        asked = Ask.from_query(search)
    except ValueError:
        return 0.0
    return abs(asked.strength) if asked is not None and asked.vector == name else 0.0


def artifact(source: Source, ref: str) -> Artifact:
    """Find a vector's record, without its arrays; raises LookupError."""
    return source.store.load_artifact(ref)[0]


def about(vector: Artifact) -> str:
    """Say in a line what a vector is."""
    settings = vector.settings
    n_pairs = settings.get("notes", {}).get("n_pairs")
    return ", ".join(
        [
            f"{vector.name}: made by {vector.method}",
            f"from {n_pairs} pairs" if n_pairs else "from no pairs",
            f"{vector.created_at:%Y-%m-%d %H:%M} UTC",
            f"rule {settings['rule']}",
            f"acts on {settings['where']['phase']} tokens",
            f"id {vector.uuid[:8]}",
        ]
    )
