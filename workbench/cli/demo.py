"""The main job on the embedded model, offline: capture, ask, fit, steer, compare, report."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

import workbench
from dashboard import figures
from steering import ICV, SteeringVector, evaluate
from store import Prompt, queries
from workbench.capture import Capture
from workbench.cli import report
from workbench.cli.screen import bar, quiet_loading, say, show
from workbench.generation import Comparison
from workbench.pocket import corpus
from workbench.session import Session

N_TEXTS, N_PAIRS, N_PROMPTS = 300, 20, 100
GRID = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
"""Strengths tried on development prompts, in λ."""
PREFERRED = 0.9
"""Shown is the smallest strength at which this share of development prompts prefers the target."""


def run(folder: Path) -> None:
    """Do the main job, print what was seen, and leave a store and a report behind."""
    console = Console()
    quiet_loading()
    with workbench.open("pocket", store=folder) as lab:
        console.rule("capture")
        acts = _capture(lab)
        say(lab.describe())
        say(f"run:{acts.run.uuid[:8]} holds {int(acts.offsets[-1])} tokens at each site")
        console.rule("ask the store")
        norms = _norms(lab, acts)
        show(norms)
        console.rule("fit an in-context vector, negative → positive reviews")
        vector = _fit(lab)
        lab.save("sentiment", vector)
        found = queries.top_tokens(
            lab.store, "sentiment/resid_post.2", site="resid_post.2", run=acts.run.uuid, k=8
        ).select(["token_str", "value", "text"])
        say("tokens furthest along it at resid_post.2:")
        show(found)
        console.rule("steer")
        strength = _strength(lab, vector)
        compared = _compare(lab, vector, strength)
        _print_pairs(compared, strength)
        console.rule("effect beside its controls")
        table = _sweep(lab, vector, strength)
        lab.store.add_results("evaluation", table, about={"artifact": "sentiment"})
        verdict = _verdict(table, strength)
        show(_summary(table))
        say(verdict)
        path = _report(folder, lab, norms, found, compared, table, verdict)
    console.rule("next")
    say(f"report:    {path}")
    say(f"vector:    saved in {folder} as 'sentiment'")
    say(f"dashboard: .venv/bin/workbench serve {folder} --model pocket")


def _capture(lab: Session) -> Capture:
    texts = corpus.texts(N_TEXTS, seed=7, split="development")
    prompts = [Prompt(text=one.text, tags=(one.family,)) for one in texts]
    with bar("capturing") as progress:
        task = progress.add_task("capturing", total=len(prompts))
        return lab.capture(
            prompts, "resid_post.*", name="demo", why="the demo",
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip


def _norms(lab: Session, acts: Capture) -> pa.Table:
    d = lab.backend.spec.d_model
    return lab.sql(
        f"""
        SELECT layer, count(*) AS tokens,
               avg(sqrt(array_inner_product(vec, vec))) AS mean_norm,
               avg(sqrt(array_inner_product(vec, vec))) FILTER (pos = 0) AS at_first_token
        FROM activation_{d} JOIN run USING (run_id) WHERE run.uuid = ?
        GROUP BY layer ORDER BY layer
        """,
        (acts.run.uuid,),
    )


def _fit(lab: Session) -> SteeringVector:
    drawn = corpus.contrasts("reviews", "train", N_PAIRS, seed=0)
    return ICV().fit(lab, [(one.before, one.after) for one in drawn])


def _choices(split: corpus.Split) -> list[evaluate.Choice]:
    return [
        evaluate.Choice(prompt=one.prompt, target=one.target_words, source=one.source_words)
        for one in corpus.contrasts("reviews", split, N_PROMPTS, seed=1)
    ]


def _strength(lab: Session, vector: SteeringVector) -> float:
    table = evaluate.sweep(lab, _choices("development"), vector, strengths=GRID, variants={})
    good = [row["strength"] for row in table.to_pylist() if row["preferred"] >= PREFERRED]
    return min(good, default=GRID[-1])


def _compare(lab: Session, vector: SteeringVector, strength: float) -> list[Comparison]:
    drawn = corpus.contrasts("reviews", "test", 4, seed=2)
    return [
        lab.compare(one.prompt, plain=None, steered=strength * vector,
                    generation={"max_new_tokens": 24})
        for one in drawn
    ]  # fmt: skip


def _sweep(lab: Session, vector: SteeringVector, strength: float) -> pa.Table:
    strengths = sorted({-strength, -strength / 2, strength / 4, strength / 2, strength})
    return evaluate.sweep(lab, _choices("test"), vector, strengths=strengths)


def _at(table: pa.Table, kind: str, strength: float) -> list[dict[str, Any]]:
    rows = table.to_pylist()
    return [row for row in rows if row["kind"] == kind and row["strength"] == strength]


def _verdict(table: pa.Table, strength: float) -> str:
    (own,), (flipped,) = (_at(table, kind, strength) for kind in ("vector", "flipped"))
    random, shuffled = (
        max(abs(row["effect"]) for row in _at(table, kind, strength))
        for kind in ("random", "shuffled")
    )
    holds = own["low"] > max(random, shuffled) and flipped["high"] < 0
    return (
        f"at λ = {strength:g} the vector shifts the log-odds of positive words by "
        f"{own['effect']:+.2f} nats [{own['low']:.2f}, {own['high']:.2f}] "
        f"on {own['n']} test prompts; "
        f"the largest of 8 random directions by {random:.2f}, of 8 shuffled ones by "
        f"{shuffled:.2f}; "
        f"the sign-flipped vector by {flipped['effect']:+.2f} "
        f"[{flipped['low']:.2f}, {flipped['high']:.2f}]. "
        + ("The effect exceeds its controls." if holds else "No effect beyond the controls.")
    )


def _summary(table: pa.Table) -> pa.Table:
    """Give one line per kind and strength: of several controls the one with the largest effect."""
    rows = []
    for strength in sorted(set(table["strength"].to_pylist())):
        for kind in ("vector", "random", "shuffled", "flipped"):
            same = _at(table, kind, strength)
            most = max(same, key=lambda row: abs(row["effect"]))
            shown = {"strength": strength, "kind": f"{kind} (largest of {len(same)})"}
            shown |= {name: most[name] for name in ("effect", "low", "high", "preferred", "kl")}
            rows.append(shown if len(same) > 1 else {**shown, "kind": kind})
    return pa.Table.from_pylist(rows)


def _print_pairs(compared: list[Comparison], strength: float) -> None:
    for one in compared:
        say(f"  prompt | {one['plain'].prompt}", style="dim")
        for name, made in one.items():
            title = name if name == "plain" else f"λ = {strength:g}"
            say(f"{title:>8} |{made.text}")
    say(f"receipt: {compared[0]['steered'].receipt[0]}", style="dim")


def _report(
    folder: Path,
    lab: Session,
    norms: pa.Table,
    tokens: pa.Table,
    compared: list[Comparison],
    table: pa.Table,
    verdict: str,
) -> Path:
    texts = pa.Table.from_pylist(
        [{"prompt": c["plain"].prompt, **{n: g.text for n, g in c.items()}} for c in compared]
    )
    own = lab.backend.spec.fingerprint
    sections = [
        report.Section(heading="What was seen", text=verdict),
        report.Section(heading="Plain and steered", table=texts),
        report.Section(
            heading="Dose and response", figure=figures.sweep(table),
            text="Mean over test prompts with 95 % bootstrap intervals; controls have the "
            "vector's norm at every site.",
        ),
        report.Section(
            heading="Effect against side effect", figure=figures.effect_against_side_effect(table)
        ),
        report.Section(heading="Numbers", table=_summary(table)),
        report.Section(heading="Tokens furthest along the vector", table=tokens),
        report.Section(heading="Norm of the residual stream by layer", table=norms),
        report.Section(
            heading="Provenance",
            text=f"model {own.model}, weights {own.weights_hash}, tokenizer {own.tokenizer_hash}, "
            f"basis {own.basis}; store {folder}",
        ),
    ]  # fmt: skip
    return report.write(
        folder / "reports" / "demo.html", "activation-workbench: the demo", sections
    )
