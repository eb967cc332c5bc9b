"""What the queries cost in a keystore of many data keys: few more rows than they answer with, never a table."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Dialect, Select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from sidecar.keystore import queries
from sidecar.keystore.factory import create
from tests.keystore.postgres import PostgresServer

KEYRINGS, GENERATIONS = 200, 100
PAGE = 20
STEPS_A_ROW = 60
"""Of SQLite's virtual machine; reading and returning a row takes about half of that."""
FILL = """
INSERT INTO data_keys
    (key_id, keyring, generation, state, created_at, kek_id, wrapped_key, commitment, values_encrypted)
SELECT {key_id}, 'ring' || (n / 100), n % 100 + 1,
    'enabled', '2026-01-01 00:00:00.000000{zone}', 'kek', {bytes}, {bytes}, 0
FROM {numbers}
"""
SQLITE_NUMBERS = "(WITH RECURSIVE t(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM t LIMIT {count}) SELECT n FROM t)"
CREATE_KEYRINGS = "INSERT INTO keyrings (name, created_at) SELECT DISTINCT keyring, created_at FROM data_keys"
QUERIES: dict[str, tuple[Select[Any], int]] = {
    "primary": (queries.primary("ring77"), 1),
    "newest generation": (queries.newest_generation("ring77"), 1),
    "by ids": (queries.by_ids(["00000000000001", "00000000000002", "0000000000000a"]), 3),
    "first page of data keys": (queries.page_of_keys(None, None, PAGE), PAGE),
    "later page of data keys": (queries.page_of_keys(None, ("ring77", 50), PAGE), PAGE),
    "page of a keyring's data keys": (queries.page_of_keys("ring77", ("ring77", 50), PAGE), PAGE),
    "first page of keyrings": (queries.page_of_keyrings("", PAGE), PAGE),
    "later page of keyrings": (queries.page_of_keyrings("ring5", PAGE), PAGE),
}
RowsRead = Callable[[Select[Any]], tuple[int, int]]
"""Runs a query: how many rows it answered with, and about how many rows and index entries it read for that."""


@pytest.fixture
async def in_sqlite(tmp_path: Path) -> RowsRead:
    path = tmp_path / "keystore.db"
    keystore = create(f"sqlite:///{path}")
    await keystore.open(upgrade=True)
    await keystore.close()
    numbers = SQLITE_NUMBERS.format(count=KEYRINGS * GENERATIONS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(FILL.format(key_id="printf('%014x', n + 1)", zone="", bytes="x'77'", numbers=numbers))
        connection.execute(CREATE_KEYRINGS)

    def rows_read(query: Select[Any]) -> tuple[int, int]:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        text = _text(query, SQLiteDialect)
        with closing(sqlite3.connect(path)) as connection:
            connection.set_progress_handler(count, 1)
            return len(connection.execute(text).fetchall()), steps // STEPS_A_ROW

    return rows_read


@pytest.fixture(scope="module")
def filled_postgres(postgres_server: PostgresServer) -> str:
    return postgres_server.new_database()


@pytest.fixture
async def in_postgres(postgres_server: PostgresServer, filled_postgres: str) -> RowsRead:
    keystore = create(postgres_server.url(filled_postgres))
    await keystore.open(upgrade=True)
    await keystore.close()
    if postgres_server.sql(filled_postgres, "SELECT count(*) FROM data_keys") == ["0"]:
        numbers = f"generate_series(0, {KEYRINGS * GENERATIONS - 1}) AS t(n)"
        fill = FILL.format(key_id="lpad(to_hex(n + 1), 14, '0')", zone="+00", bytes="'\\x77'", numbers=numbers)
        postgres_server.sql(filled_postgres, fill)
        postgres_server.sql(filled_postgres, f"{CREATE_KEYRINGS}; ANALYZE")

    def rows_read(query: Select[Any]) -> tuple[int, int]:
        text = _text(query, PGDialect_asyncpg)
        explained = postgres_server.sql(filled_postgres, f"EXPLAIN (ANALYZE, FORMAT JSON) {text}")
        top = json.loads("".join(explained))[0]["Plan"]
        return int(top["Actual Rows"]), sum(_read(node) for node in _nodes(top))

    return rows_read


def _text(query: Select[Any], dialect: Callable[[], Dialect]) -> str:
    return str(query.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _read(node: dict[str, Any]) -> int:
    if "Relation Name" not in node:
        return 0
    rows: float = node["Actual Rows"] + sum(node[name] for name in node if name.startswith("Rows Removed by"))
    loops: float = node["Actual Loops"]
    return round(rows * loops)


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("database", ["in_sqlite", "in_postgres"])
def test_a_query_reads_little_more_than_it_answers_with(
    request: pytest.FixtureRequest, database: str, name: str
) -> None:
    rows_read: RowsRead = request.getfixturevalue(database)
    query, rows = QUERIES[name]
    answered, read = rows_read(query)
    assert answered == rows
    # Of keyrings with data keys and of keyrings with a row, each a page and the name after it.
    assert read <= 2 * rows + 2


@pytest.mark.parametrize("database", ["in_sqlite", "in_postgres"])
def test_a_query_that_reads_a_whole_table_would_be_found_out(request: pytest.FixtureRequest, database: str) -> None:
    rows_read: RowsRead = request.getfixturevalue(database)
    scan = queries.page_of_keys(None, None, PAGE).order_by(None).order_by("commitment", "generation")
    assert rows_read(scan)[1] > 1000
