"""What the commands print: tables, sentences and progress, apart from what they do."""

from datetime import datetime
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

WIDE = 1000
"""Columns where output is no terminal."""


def say(text: str, *, style: str = "") -> None:
    """Print a text as it is: brackets are no markup, and a path is not broken into lines."""
    Console().print(Text(text, style=style), soft_wrap=True)


def show(table: pa.Table, limit: int = 50) -> None:
    """Print an Arrow table, long ones cut with a word about it."""
    printed = Table(box=None, header_style="bold")
    for name in table.column_names:
        printed.add_column(Text(name), overflow="fold")
    for row in table.slice(0, limit).to_pylist():
        # Text, because a token such as [/INST] is not markup.
        printed.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console()
    # A program that reads the output wants rows, however long.
    console.print(printed, width=None if console.is_terminal else WIDE, crop=False)
    if table.num_rows > limit:
        console.print(f"… {table.num_rows - limit} more rows; LIMIT or ORDER BY chooses others")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list) and len(value) > 8:
        return f"[{', '.join(map(_cell, value[:4]))}, … {len(value)} values]"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else str(value)


def bar(what: str) -> Progress:
    """Return a progress bar, which vanishes where output is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def quiet_loading() -> None:
    """Keep transformers from drawing bars and giving advice; a command line may decide that."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
