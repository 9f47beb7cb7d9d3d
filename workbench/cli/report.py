"""One self-contained HTML file from headings, texts, tables and figures."""

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #d8dee4;
         vertical-align: top; font-variant-numeric: tabular-nums; }
th { border-bottom-width: 2px; }
.note { color: #57606a; }
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A piece of a report: a heading, a paragraph, and a table or a figure below it."""

    heading: str
    text: str = ""
    table: pa.Table | None = None
    figure: Any = None


def write(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write the report, replacing an earlier one in one step; plotly's script goes in once."""
    first = next((i for i, one in enumerate(sections) if one.figure is not None), None)
    body = "\n".join(_section(one, with_script=i == first) for i, one in enumerate(sections))
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}"
        f"</title><style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>{body}"
        "</body></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".tmp")
    half.write_text(page, encoding="utf-8")
    os.replace(half, path)  # noqa: PTH105  the rename is the point
    return path


def _section(section: Section, *, with_script: bool) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.table is not None:
        parts.append(_table(section.table))
    if section.figure is not None:
        # The tool bar would lie on the legend; it comes when the pointer does.
        shown = {"displaylogo": False, "displayModeBar": "hover"}
        parts.append(
            section.figure.to_html(full_html=False, include_plotlyjs=with_script, config=shown)
        )
    return "\n".join(parts)


def _table(table: pa.Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.column_names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>"
        for row in table.to_pylist()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    return html.escape(f"{value:.3f}" if isinstance(value, float) else str(value))
