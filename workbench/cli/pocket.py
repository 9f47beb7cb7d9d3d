"""`workbench pocket`: train the embedded models anew, and measure them."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="pocket",
    help="Train the embedded models anew, and measure them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(help="pocket, pocket-bind, pocket-play or pocket-shuffled")]


@app.command()
def train(
    out: Annotated[Path, typer.Argument(help="Directory for checkpoint, log and weights.")],
    name: Name = "pocket",
    seed: Annotated[int, typer.Option(help="Decides weights and texts.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads on the CPU.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    tokens: Annotated[int | None, typer.Option(help="Budget; the recipe's if not given.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after; the same command resumes.")
    ] = None,
    control: Annotated[str | None, typer.Option(help="shuffled: the negative control.")] = None,
) -> None:
    """Train a checkpoint by its recipe; the same command resumes a run that was stopped."""
    from workbench.pocket.train import main

    given = {"--tokens": tokens, "--minutes": minutes, "--control": control}
    options = [
        word for key, value in given.items() if value is not None for word in (key, str(value))
    ]
    fixed = {"--recipe": name, "--seed": seed, "--threads": threads, "--device": device}
    main([*(w for k, v in fixed.items() for w in (k, str(v))), "--out", str(out), *options])


@app.command()
def evaluate(
    name: Name = "pocket",
    weights: Annotated[
        Path | None, typer.Option(help="Directory of the weights; the committed one if not given.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, development or test")] = "test",
    questions: Annotated[int, typer.Option(help="Questions per family.")] = 200,
    effects: Annotated[bool, typer.Option(help="Try the methods too; takes minutes.")] = False,
) -> None:
    """Measure a checkpoint, and print each figure with its 95 % interval; nothing is written."""
    from workbench import pocket
    from workbench.cli.screen import quiet_loading, say
    from workbench.pocket.evaluate import checked_split, load, measure
    from workbench.pocket.recipe import of

    quiet_loading()
    families, chosen = of(name).families, checked_split(split)
    where = weights or pocket.path(name)
    figures = measure(where, chosen, families=families, n=questions)
    if effects:
        from workbench.pocket.effects import of as methods

        net = load(where)
        figures += [f for one in methods(name).values() for f in one(net, chosen)]
    for figure in figures:
        interval = f"[{figure.low:.3f}, {figure.high:.3f}]"
        say(f"{figure.name}, {figure.split}: {figure.value:.3f} {interval} n {figure.n}")
