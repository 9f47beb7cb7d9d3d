"""The catalog's schema as numbered functions, applied in order, each in its own transaction."""

from collections.abc import Callable

from duckdb import DuckDBPyConnection

from store.errors import NewerFormatError

TABLES = (
    "schema_version", "run", "site", "prompt", "token", "shard", "shard_file", "shard_stat",
    "artifact", "direction", "result",
)  # fmt: skip
"""The tables that are always there; kinds of results get tables of their own beside them."""


def first_tables(con: DuckDBPyConnection) -> None:
    """Create everything; rows are addressed by (run_id, row), run_id exists only in here."""
    con.execute("""
        CREATE TABLE run(
          run_id INTEGER PRIMARY KEY, uuid VARCHAR NOT NULL UNIQUE, name VARCHAR,
          model VARCHAR NOT NULL, revision VARCHAR, weights_hash VARCHAR NOT NULL,
          tokenizer_hash VARCHAR NOT NULL, basis VARCHAR NOT NULL,
          dtype VARCHAR NOT NULL CHECK (dtype IN ('f32', 'f16', 'bf16')),
          model_dtype VARCHAR NOT NULL, code_version VARCHAR NOT NULL, seed BIGINT,
          why VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL, config JSON NOT NULL,
          status VARCHAR NOT NULL CHECK (status IN ('open', 'sealed', 'failed')), error VARCHAR);
        CREATE TABLE site(
          run_id INTEGER NOT NULL, site_id USMALLINT NOT NULL, site VARCHAR NOT NULL,
          part VARCHAR NOT NULL, layer SMALLINT, head SMALLINT,
          d INTEGER NOT NULL CHECK (d > 0), dtype VARCHAR NOT NULL, PRIMARY KEY (run_id, site_id));
        CREATE TABLE prompt(
          run_id INTEGER NOT NULL, prompt_id INTEGER NOT NULL, text VARCHAR NOT NULL,
          tags VARCHAR[] NOT NULL, meta JSON NOT NULL, row0 BIGINT NOT NULL, n INTEGER NOT NULL);
        CREATE TABLE token(
          run_id INTEGER NOT NULL, row BIGINT NOT NULL, prompt_id INTEGER NOT NULL,
          pos INTEGER NOT NULL, token_id INTEGER NOT NULL, token_str VARCHAR NOT NULL);
        CREATE TABLE shard(
          run_id INTEGER NOT NULL, shard_id INTEGER NOT NULL, row0 BIGINT NOT NULL,
          n INTEGER NOT NULL, prompt0 INTEGER NOT NULL, n_prompts INTEGER NOT NULL,
          bytes BIGINT NOT NULL, PRIMARY KEY (run_id, shard_id));
        CREATE TABLE shard_file(
          run_id INTEGER NOT NULL, shard_id INTEGER NOT NULL, d INTEGER NOT NULL,
          file VARCHAR NOT NULL, bytes BIGINT NOT NULL, xxh3 VARCHAR NOT NULL,
          data_off BIGINT NOT NULL);
        CREATE TABLE artifact(
          uuid VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, method VARCHAR NOT NULL,
          kind VARCHAR NOT NULL, model VARCHAR NOT NULL, revision VARCHAR,
          weights_hash VARCHAR NOT NULL, tokenizer_hash VARCHAR NOT NULL, basis VARCHAR NOT NULL,
          settings JSON NOT NULL, run VARCHAR, code_version VARCHAR NOT NULL,
          created_at TIMESTAMP NOT NULL);
        CREATE TABLE direction(
          artifact VARCHAR NOT NULL, name VARCHAR NOT NULL, key VARCHAR NOT NULL, site VARCHAR,
          d INTEGER NOT NULL, vec FLOAT[] NOT NULL);
        CREATE TABLE result(
          uuid VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, about JSON NOT NULL,
          created_at TIMESTAMP NOT NULL);
        CREATE TABLE evaluation(result VARCHAR NOT NULL);
    """)


def sums_and_results(con: DuckDBPyConnection) -> None:
    """Add the sums of every shard and site, and the kinds of results that are always there."""
    con.execute("""
        CREATE TABLE shard_stat(
          run_id INTEGER NOT NULL, shard_id INTEGER NOT NULL, site_id USMALLINT NOT NULL,
          n BIGINT NOT NULL, absmax FLOAT NOT NULL,
          sum DOUBLE[] NOT NULL, sumsq DOUBLE[] NOT NULL);
        CREATE TABLE score(result VARCHAR NOT NULL);
        CREATE TABLE latent(result VARCHAR NOT NULL);
        CREATE TABLE attention(result VARCHAR NOT NULL);
    """)


MIGRATIONS: tuple[Callable[[DuckDBPyConnection], None], ...] = (first_tables, sums_and_results)
"""In order and never changed once released: number 1 is the first."""


def migrate(con: DuckDBPyConnection) -> None:
    """Bring a catalog to the newest schema; raises NewerFormatError when it is beyond it."""
    con.execute("""
        CREATE TABLE IF NOT EXISTS schema_version(
          version INTEGER PRIMARY KEY, name VARCHAR NOT NULL,
          applied_at TIMESTAMP NOT NULL DEFAULT current_timestamp)
    """)
    done = version(con)
    for number, step in enumerate(MIGRATIONS[done:], start=done + 1):
        con.execute("BEGIN")
        step(con)
        con.execute(
            "INSERT INTO schema_version (version, name) VALUES (?, ?)", [number, step.__name__]
        )
        con.execute("COMMIT")


def version(con: DuckDBPyConnection, schema: str = "main") -> int:
    """Read a catalog's schema version; raises NewerFormatError when we do not know it."""
    query = f"SELECT coalesce(max(version), 0) FROM {schema}.schema_version"
    found = con.execute(query).fetchall()[0][0]
    if found > len(MIGRATIONS):
        raise NewerFormatError(
            f"the catalog has schema {found} and this program knows up to {len(MIGRATIONS)}: "
            "upgrade it, or delete catalog.duckdb, which is rebuilt from the other files"
        )
    return found
