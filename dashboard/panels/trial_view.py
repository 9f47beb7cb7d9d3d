"""A finished steering trial on the page: default, steered and control side by side."""

from typing import Any

from dash import html

from dashboard import ids, tokens
from dashboard.elements import code
from dashboard.trial import Ask, Column, Trial


def show(trial: Trial, store: str) -> html.Div:
    """Draw the three continuations, where steering acted on them, and the code that repeats it."""
    top = tokens.largest((trial.steered, trial.control))
    return html.Div(
        [
            html.P(verdict(trial), className="verdict"),
            html.Div(
                [
                    _default(trial),
                    _steered(trial, top),
                    _control(trial, top),
                ],
                className="columns",
            ),
            code(snippet(trial, store), ids.STEER_CODE),
        ]
    )


def verdict(trial: Trial) -> str:
    """Say in two sentences whether steering changed the text, and whether chance does, too."""
    strength = f"strength {trial.ask.strength:g} ({trial.unit})"
    differs, random = trial.steered.divergence, trial.control.divergence
    if trial.ask.strength == 0 and differs is None:
        return "Strength 0: nothing was changed, and the texts are identical."
    if differs is None:
        said = f"At {strength} the activations changed, but every token stayed the same."
    else:
        n_prompt = sum(not token.generated for token in trial.default.tokens)
        said = f"At {strength} the text differs from new token {differs - n_prompt + 1} on."
    if random is None:
        return said + " A random direction of equal size changes no token."
    return said + " A random direction of equal size changes the text, too: compare how."


def snippet(trial: Trial, store: str) -> str:
    """Write Python that repeats a trial."""
    ask = trial.ask
    plain = trial.saved_strength == 1
    loaded = f"lab.load({ask.vector!r})"
    strength = repr(ask.strength)
    scaled = f"{strength} * {loaded}" if plain else f"replace({loaded}, strength={strength})"
    return (
        ("" if plain else "from dataclasses import replace\n\n")
        + "import workbench\n"
        + "from steering.evaluate import controls\n\n"
        + f"lab = workbench.open({trial.model!r}, store={store!r})\n"
        + f"vector = {scaled}\n"
        + "texts = lab.compare(\n"
        + f"    {ask.prompt!r},\n"
        + f"    generation={ask.generation!r},\n"
        + "    default=None,\n"
        + "    steered=vector,\n"
        + f"    control=controls(vector, n_random=1, seed={ask.seed})['random 0'],\n"
        + ")\n"
        + "print(texts)\n"
        + 'print(texts["steered"].receipt[0])\n'
    )


def _default(trial: Trial) -> html.Section:
    return html.Section(
        [
            html.H2("Default"),
            html.P(_how(trial.ask), className="how"),
            _text(trial.ask, trial.default),
            html.H3("Its tokens"),
            tokens.heat(trial.default, 0.0),
        ]
    )


def _steered(trial: Trial, top: float) -> html.Section:
    return html.Section(
        [
            html.H2("Steered"),
            html.P(f"{trial.ask.vector}, {trial.ask.strength:g} ({trial.unit})", className="how"),
            _text(trial.ask, trial.steered),
            html.H3("Where steering acted"),
            tokens.heat(trial.steered, top),
            tokens.legend(top, len(trial.steered.acts)),
            receipt(trial.steered),
        ]
    )


def _control(trial: Trial, top: float) -> html.Section:
    return html.Section(
        [
            html.H2("Random control"),
            html.P(f"random direction {trial.ask.seed}, same norm and strength", className="how"),
            _text(trial.ask, trial.control),
            html.H3("Where it acted"),
            tokens.heat(trial.control, top),
            receipt(trial.control),
        ],
        className="control",
    )


def receipt(column: Column) -> html.Details:
    """Draw the proof of what was done: positions, mean change and angle, site by site."""
    acts = column.acts
    mean = sum(act.change for act in acts) / max(len(acts), 1)
    angle = sum(act.angle for act in acts) / max(len(acts), 1)
    positions = max((act.positions for act in acts), default=0)
    head = html.Tr([html.Th(title) for title in ("site", "positions", "‖Δ‖/‖x‖", "angle")])
    rows = [
        html.Tr(
            [
                html.Td(act.site), html.Td(f"{act.positions}"),
                html.Td(f"{act.change:.3f}"), html.Td(f"{act.angle:.1f}°"),
            ]
        )
        for act in acts
    ]  # fmt: skip
    return html.Details(
        [
            html.Summary(
                f"Receipt: {positions} positions at {len(acts)} sites, mean change {mean:.3f} of "
                f"the norm, mean angle {angle:.1f}°"
            ),
            html.Table([html.Thead(head), html.Tbody(rows)]),
        ],
        className="receipt",
    )


def _how(ask: Ask) -> str:
    if ask.temperature > 0:
        return f"unsteered, temperature {ask.temperature:g}, seed {ask.seed}"
    return f"unsteered, greedy, seed {ask.seed}"


def _text(ask: Ask, column: Column) -> html.P:
    new: Any = column.text or html.Em("no new text: it ended at once")
    return html.P([html.Span(ask.prompt, className="given"), html.Span(new)], className="text")
