"""What a call to a keystore costs does not grow with the keystore: a million data keys are asked as a hundred are.

Held by what the databases themselves say they do, never by how long it takes.
"""

from pathlib import Path

import pytest

from sidecar.keystore.postgresql import Postgresql
from sidecar.keystore.postgresql_url import parse
from sidecar.keystore.sql import SqlKeystore
from sidecar.keystore.sqlite import Sqlite
from tests.fleet.scale import Size, Telling, TellingPostgres, TellingSqlite, Work, fill_postgres, fill_sqlite
from tests.fleet.scale_calls import CALLS, PAGE, calling
from tests.keystore.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]

SMALL, LARGE = Size(10, 10), Size(10_000, 100)
# A table of a few pages is read whole by PostgreSQL, whatever indexes it has; with this one it does not pay.
SMALL_POSTGRES = Size(100, 100)
MILLION_SECONDS = 60.0

Works = dict[str, list[Work]]


async def told(keystore: SqlKeystore, database: Telling, size: Size) -> Works:
    """What the database does for each call."""
    found: Works = {}
    try:
        for what in CALLS:
            database.taken()
            await calling(keystore, size, what)
            found[what] = database.taken()
            assert found[what], what
    finally:
        await keystore.close()
    return found


async def in_sqlite(path: Path, size: Size) -> Works:
    """What SQLite does in a new keystore of this size."""
    database = TellingSqlite(Sqlite(path))
    keystore = SqlKeystore(database, timeout_seconds=MILLION_SECONDS)
    await keystore.open(upgrade=True)
    fill_sqlite(path, size)
    return await told(keystore, database, size)


async def in_postgres(server: PostgresServer, size: Size) -> Works:
    """What PostgreSQL does in a new keystore of this size."""
    name = server.new_database()
    database = TellingPostgres(Postgresql(parse(server.url(name)), timeout_seconds=MILLION_SECONDS))
    keystore = SqlKeystore(database, timeout_seconds=MILLION_SECONDS)
    await keystore.open(upgrade=True)
    fill_postgres(server, name, size)
    try:
        return await told(keystore, database, size)
    finally:
        server.sql("postgres", f"DROP DATABASE {name}")


async def test_sqlite_takes_the_same_steps_for_a_million_data_keys_as_for_a_hundred(tmp_path: Path) -> None:
    small = await in_sqlite(tmp_path / "small.db", SMALL)
    assert await in_sqlite(tmp_path / "large.db", LARGE) == small


async def test_sqlite_walks_no_table_from_its_beginning(tmp_path: Path) -> None:
    for what, works in (await in_sqlite(tmp_path / "keystore.db", SMALL)).items():
        scanned = {step for work in works for step in work.plan if step.startswith("SCAN")}
        # The page of names that was found by leaps, and of those created by call, each as long as the page at most.
        assert scanned <= ({"SCAN found", "SCAN anon_1", "SCAN anon_4"} if what == "list_keyrings" else set()), what


@pytest.mark.timeout(240)
async def test_postgresql_plans_the_same_for_a_million_data_keys_and_looks_at_a_few_pages_more(
    postgres_server: PostgresServer,
) -> None:
    small, large = await in_postgres(postgres_server, SMALL_POSTGRES), await in_postgres(postgres_server, LARGE)
    for what, works in large.items():
        assert [work.plan for work in works] == [work.plan for work in small[what]], what
        for work, least in zip(works, small[what], strict=True):
            assert not any(step.startswith("Seq Scan") for step in work.plan), what
            # An index of a million rows is one or two levels higher, and is descended once for each row at most.
            assert work.effort <= least.effort + 4 * PAGE, what
