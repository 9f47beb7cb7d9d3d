"""The `workbench` command: one function per subcommand, errors as one sentence and exit code 2."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import pocket as pocket_commands
from workbench.cli import store as store_commands

app = typer.Typer(
    name="workbench",
    help="Capture a language model's activations, query them, and steer the model with receipts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

app.add_typer(store_commands.app, name="store")
app.add_typer(pocket_commands.app, name="pocket")

Model = Annotated[str, typer.Argument(help='"pocket", a local directory, or a Hugging Face id.')]
ModelOption = Annotated[
    str, typer.Option(help='"pocket", a local directory, or a Hugging Face id.')
]
StorePath = Annotated[Path, typer.Option("--store", help="Directory of the store; made if new.")]
At = Annotated[str, typer.Option("--at", help="Sites: resid_post.4-8, z.6.h3, mlp_out.*")]


@app.command()
def demo(store: StorePath = Path("lab")) -> None:
    """Run the main job on the embedded model, offline: capture, ask, fit, steer, report."""
    from workbench.cli.demo import run

    run(store)


@app.command()
def capture(
    model: Model,
    texts: Annotated[Path, typer.Argument(help="A file with one text per line.")],
    at: At = "resid_post.*",
    store: StorePath = Path("lab"),
    name: Annotated[str | None, typer.Option(help="A name for the run.")] = None,
    why: Annotated[str, typer.Option(help="The reason, kept with the run.")] = "",
    dtype: Annotated[str, typer.Option(help="How rows are stored: bf16, f16 or f32.")] = "bf16",
    again: Annotated[bool, typer.Option("--again", help="Compute known texts too.")] = False,
    resume: Annotated[str | None, typer.Option(help="Go on with this run, cut short.")] = None,
) -> None:
    """Run texts through a model and store what its sites held."""
    from workbench.cli import inputs, work

    work.capture(
        model, inputs.lines(texts), at=at, store=store, name=name, why=why, dtype=dtype,
        again=again, resume=resume,
    )  # fmt: skip


@app.command()
def fit(
    method: Annotated[str, typer.Argument(help="What learns: steering:ICV")],
    pairs: Annotated[Path, typer.Argument(help='JSON lines: {"before": …, "after": …}')],
    save_as: Annotated[str, typer.Option("--as", help="The artifact's name.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting: at=resid_post.4-8")
    ] = None,
    model: ModelOption = "pocket",
    store: StorePath = Path("lab"),
) -> None:
    """Learn an artifact from data and save it under a name."""
    from workbench.cli import inputs, work

    work.fit(method, inputs.pairs(pairs), settings or [], model=model, store=store, save_as=save_as)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to go on from.")],
    steer: Annotated[
        list[str] | None, typer.Option("--steer", help="name=strength; repeat, in order.")
    ] = None,
    model: ModelOption = "pocket",
    store: StorePath = Path("lab"),
    max_new_tokens: Annotated[int, typer.Option(help="New tokens at most.")] = 32,
    seed: Annotated[int | None, typer.Option(help="Sample with this seed; else greedy.")] = None,
) -> None:
    """Generate text, plain or steered by saved vectors, with receipts."""
    from workbench.cli import work

    work.generate(
        prompt, steer or [], model=model, store=store, max_new_tokens=max_new_tokens, seed=seed
    )


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="runs or artifacts")],
    store: StorePath = Path("lab"),
) -> None:
    """List what a store holds."""
    from workbench.cli import work

    work.listing(what, store)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="SELECT … over run, prompt, token, activation_<d>")],
    store: StorePath = Path("lab"),
) -> None:
    """Ask a store a question in SQL, read-only."""
    from workbench.cli import work

    work.sql(query, store)


@app.command()
def serve(
    store: Annotated[Path, typer.Argument(help="Directory of the store.")] = Path("lab"),
    model: ModelOption = "pocket",
    host: Annotated[
        str, typer.Option(help="Address; other than loopback needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8050,
    token: Annotated[
        str | None, typer.Option(envvar="WORKBENCH_TOKEN", help="Ask visitors for this token.")
    ] = None,
) -> None:
    """Open the dashboard on a store and a model."""
    from workbench.cli import work

    work.serve(store, model=model, host=host, port=port, token=token)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; what a user can mend ends as one sentence and exit code 2."""
    from store.errors import WorkbenchError

    try:
        app(args=arguments)
    except (KeyError, IndexError):
        # Those are our own mistakes: every error meant for users is worded by hand.
        raise
    except (WorkbenchError, LookupError, ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
