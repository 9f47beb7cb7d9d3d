"""The picture of the schema has every table and column, and relations that exist."""

import re
import subprocess
import sys
from pathlib import Path

from store.migrations import TABLES
from store.picture import mermaid


def test_every_table_is_drawn_and_every_relation_names_a_column_of_both_or_of_the_many() -> None:
    text = mermaid()
    tables = {
        name: set(re.findall(r"^    \w+ (\w+)$", body, re.MULTILINE))
        for name, body in re.findall(r"^  (\w+) \{\n(.*?)^  \}", text, re.MULTILINE | re.DOTALL)
    }
    kinds = {"evaluation", "score", "latent", "attention"}
    assert set(tables) == (set(TABLES) | kinds) - {"schema_version"}
    relations = re.findall(r"^  (\w+) \|\|--o\{ (\w+) : (\w+)$", text, re.MULTILINE)
    assert {many for _, many, _ in relations} == set(tables) - {"run", "artifact", "result"}
    for one, many, column in relations:
        assert column in tables[many]
        assert column in tables[one] or "uuid" in tables[one]


def test_it_is_printed_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "store.picture"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == mermaid()
