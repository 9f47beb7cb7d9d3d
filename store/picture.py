"""The schema of a catalog as an entity-relationship picture, drawn from the tables themselves.

python -m store.picture > schema.mmd
"""

import sys

import duckdb

from store.migrations import migrate

_KEYS = {
    "run": (("site", "run_id"), ("prompt", "run_id"), ("token", "run_id"), ("shard", "run_id"),
            ("shard_file", "run_id"), ("shard_stat", "run_id")),
    "prompt": (("token", "prompt_id"),),
    "artifact": (("direction", "artifact"),),
    "result": (("evaluation", "result"), ("score", "result"), ("latent", "result"),
               ("attention", "result")),
}  # fmt: skip
"""Which table's rows belong to which, and by what column; DuckDB is told of no foreign keys."""


def mermaid() -> str:
    """Draw the newest schema as a Mermaid diagram, tables and columns as DuckDB has them."""
    with duckdb.connect(":memory:") as con:
        migrate(con)
        rows = con.execute("""
            SELECT table_name, column_name, data_type FROM duckdb_columns()
            WHERE NOT internal AND table_name <> 'schema_version' ORDER BY table_oid, column_index
        """).fetchall()
    lines, table = ["erDiagram"], None
    for name, column, kind in rows:
        if name != table:
            lines += ["  }"] if table else []
            lines += [f"  {name} {{"]
            table = name
        lines.append(f"    {kind.replace('[]', '_list')} {column}")
    lines.append("  }")
    for one, many in _KEYS.items():
        lines += [f"  {one} ||--o{{ {other} : {column}" for other, column in many]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(mermaid())
