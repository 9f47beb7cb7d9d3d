"""What the subcommands do, apart from the demo: thin calls of the public API, and printing."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import workbench
from store import Store, planning, queries
from workbench.artifacts import resolve
from workbench.cli.inputs import configured, strength
from workbench.cli.screen import bar, quiet_loading, say, show

_SHOWN = {
    "runs": ["uuid", "name", "model", "dtype", "prompts", "tokens", "status", "created_at", "why"],
    "artifacts": ["uuid", "name", "method", "model", "created_at"],
}
"""What a list shows; the rest is a question in SQL."""


def capture(
    model: str,
    texts: Sequence[str],
    *,
    at: str,
    store: Path,
    name: str | None,
    why: str,
    dtype: str,
    again: bool,
    resume: str | None,
) -> None:
    """Show what will be written, capture texts with a progress bar, and say what was stored."""
    quiet_loading()
    with workbench.open(model, store=store) as lab, bar("capturing") as progress:
        planned = _plan(lab, texts, at, dtype)  # on a terminal it stands before the bar
        task = progress.add_task(str(planned), total=len(texts))
        acts = lab.capture(
            texts, at, name=name, why=why, dtype=dtype, again=again, resume=resume,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
        rows, sites = int(acts.offsets[-1]), ", ".join(map(str, acts.sites))
    say(f"run:{acts.run.uuid[:8]} holds {rows} tokens of {len(texts)} texts at {sites}")


def _plan(lab: workbench.Session, texts: Sequence[str], at: str, dtype: str) -> planning.Plan:
    from workbench.capture import planned  # torch

    spec = lab.backend.spec
    widths = {site: spec.width(site) for site in spec.select(at)}
    return planned(lab.store, widths, dtype, lab.backend.tokenize(texts))


def fit(
    method: str,
    data: Sequence[tuple[str, str]],
    settings: Sequence[str],
    *,
    model: str,
    store: Path,
    save_as: str,
) -> None:
    """Fit a method named as data and save what it learned."""
    chosen = configured(resolve(method), settings)
    quiet_loading()
    with workbench.open(model, store=store) as lab:
        lab.save(save_as, chosen.fit(lab, data))
    say(f"saved {save_as!r}, learned by {method} from {len(data)} pairs, in {store}")


def generate(
    prompt: str,
    steer: Sequence[str],
    *,
    model: str,
    store: Path,
    max_new_tokens: int,
    seed: int | None,
) -> None:
    """Generate and print the text with a receipt per intervention."""
    wanted = [strength(one) for one in steer]
    quiet_loading()
    options = {"max_new_tokens": max_new_tokens, "do_sample": seed is not None}
    with workbench.open(model, store=existing(store) if steer else None) as lab:
        plan = [times * lab.load(name) for name, times in wanted]
        made = lab.generate(prompt, steer=plan, seed=seed or 0, **options)
    say(str(made))
    for receipt in made.receipt:
        say(f"  {receipt}", style="dim")


def listing(what: str, store: Path) -> None:
    """Print the runs or the artifacts of a store."""
    queried = {"runs": queries.runs_overview, "artifacts": queries.artifacts_overview}
    if what not in queried:
        raise ValueError(f"cannot list {what!r}: there are {' and '.join(queried)}")
    with existing(store) as opened:
        show(queried[what](opened).select(_SHOWN[what]))


def sql(query: str, store: Path) -> None:
    """Print the answer to a question in SQL."""
    with existing(store) as opened:
        show(opened.sql(query))


def serve(store: Path, *, model: str, host: str, port: int, token: str | None) -> None:
    """Serve the dashboard until interrupted."""
    from dashboard import Worker, create_app
    from dashboard.serving import listen

    quiet_loading()
    with workbench.open(model, store=store) as lab, Worker(lab) as worker:
        app = create_app(lab.store, worker, token=token)
        with listen(app, host=host, port=port) as server:
            say(f"dashboard: http://{host}:{server.port}  (Ctrl-C stops it)")
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()


def existing(path: Path) -> Store:
    """Open a store that must be there already.

    Raises:
        LookupError: there is none.
    """
    try:
        return Store.open(path, create=False)
    except LookupError as error:
        raise LookupError(
            f"no store at {path}: name another with --store, or make one with workbench capture"
        ) from error
