"""`workbench store …`: what a store holds, whether it is sound, and keeping it so."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Care for a store: info, verify, sweep, reindex, compact, delete, export.",
    no_args_is_help=True,
)

Place = Annotated[Path, typer.Argument(help="Directory of the store.")]
Ref = Annotated[str, typer.Argument(help="latest, a name, or the beginning of a uuid.")]


@app.command()
def info(store: Place = Path("lab")) -> None:
    """Count what a store holds, and what it takes."""
    from dataclasses import asdict

    from store import care
    from workbench.cli.screen import say
    from workbench.cli.work import existing

    with existing(store) as opened:
        for name, value in asdict(care.info(opened)).items():
            say(f"{name:>14}  {value:,}" if isinstance(value, int) else f"{name:>14}  {value}")


@app.command()
def verify(
    store: Place = Path("lab"),
    run: Annotated[str | None, typer.Option(help="One run alone.")] = None,
) -> None:
    """Read every byte again; what is not as it was written is listed, with exit code 1."""
    from store.verify import findings
    from workbench.cli.screen import say
    from workbench.cli.work import existing

    with existing(store) as opened:
        size, wrong = findings(opened, run)
    for row in wrong.to_pylist():
        say(f"{row['kind']}:{row['uuid'][:8]}  {row['problem']}")
    say(f"{size:,} bytes are as they were written, {len(wrong)} problems")
    if len(wrong):
        raise typer.Exit(1)


@app.command()
def sweep(store: Place = Path("lab")) -> None:
    """Adopt or remove what killed processes left behind."""
    from dataclasses import asdict

    from store.sweep import sweep as swept
    from workbench.cli.screen import say
    from workbench.cli.work import existing

    with existing(store) as opened:
        for what, paths in asdict(swept(opened)).items():
            say(f"{what}: {len(paths)}")
            for path in paths:
                say(f"  {path}")


@app.command()
def reindex(store: Place = Path("lab")) -> None:
    """Build the catalog anew from the published files."""
    from store import care
    from workbench.cli.screen import say
    from workbench.cli.work import existing

    with existing(store) as opened:
        care.reindex(opened)
        found = care.info(opened)
    say(f"{found.runs} runs with {found.tokens:,} tokens are indexed")


@app.command()
def compact(store: Place = Path("lab")) -> None:
    """Give back the room in the catalog that deleted rows left."""
    from store import care
    from workbench.cli.screen import say
    from workbench.cli.work import existing

    with existing(store) as opened:
        before, after = care.compact(opened)
    say(f"the catalog had {before:,} bytes and has {after:,}")


@app.command()
def delete(run: Ref, store: Annotated[Path, typer.Option("--store")] = Path("lab")) -> None:
    """Delete a run, for good."""
    from store import care
    from workbench.cli.screen import say
    from workbench.cli.work import existing

    with existing(store) as opened:
        uuid = opened.run(run).uuid
        freed = care.delete(opened, uuid)
    say(f"run:{uuid[:8]} is deleted, and {freed:,} bytes are free again")


@app.command()
def export(
    run: Ref,
    to: Annotated[Path, typer.Argument(help="A new .parquet file, or a new directory.")],
    store: Annotated[Path, typer.Option("--store")] = Path("lab"),
    site: Annotated[str | None, typer.Option(help="One site; a directory needs one.")] = None,
    context: Annotated[int, typer.Option(help="Tokens per item of a directory.")] = 128,
) -> None:
    """Write a run as Parquet, or one site as the `datasets` directory that SAELens trains from."""
    from store.export import to_dataset, to_parquet
    from workbench.cli.screen import say
    from workbench.cli.work import existing

    with existing(store) as opened:
        recorded = opened.read(run)
        if to.suffix == ".parquet":
            say(f"{to_parquet(recorded, to, [site] if site else ()):,} rows in {to}")
            return
        if site is None:
            raise ValueError(
                f"a directory holds one site: name it with --site, or write {to}.parquet"
            )
        hook = str(recorded.site(site))
        n = to_dataset(recorded, to, site, context=context, hook=hook)
    say(f"{n:,} items of {context} tokens in {to}, column {hook} (SAELens's hook_name)")
