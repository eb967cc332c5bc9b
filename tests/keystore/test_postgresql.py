"""PostgreSQL's own risks: restarts, locks, durability, what its connections hold, and what it is refused for."""

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from sidecar.errors import KeystoreUnavailableError, StartupError
from sidecar.keystore.factory import create
from sidecar.keystore.port import KeyState, Usage
from sidecar.keystore.postgresql import Postgresql
from sidecar.keystore.postgresql_url import parse
from sidecar.keystore.sql import SqlKeystore
from tests.keystore import processes
from tests.keystore.postgres import PostgresServer
from tests.keystore.records import CREATED_AT, record, whole


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may stop, with the durability of a real one."""
    server = PostgresServer({"fsync": "on", "full_page_writes": "on", "synchronous_commit": "off"})
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
async def keystore(postgres_url: str) -> AsyncIterator[SqlKeystore]:
    made = SqlKeystore(Postgresql(parse(postgres_url), max_connections=2, timeout_seconds=1.0), timeout_seconds=1.5)
    await made.open(upgrade=True)
    yield made
    await made.close()
    # Nothing of it may go on: what lingers would hang the end of the process.
    assert asyncio.all_tasks() == {asyncio.current_task()}


def database_of(url: str) -> str:
    return parse(url).database


def until(condition: Callable[[], bool]) -> None:
    """Wait, however long: the suite's limit for a test ends it."""
    while not condition():
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_after_a_restart_of_the_database_the_first_call_succeeds(
    own_server: PostgresServer, how: signal.Signals
) -> None:
    keystore = create(own_server.url(own_server.new_database()), timeout_seconds=10)
    await keystore.open(upgrade=True)
    stored = record()
    # As many at once as there are connections, so that all of them are broken after.
    await asyncio.gather(*(keystore.insert(record("others", number)) for number in range(1, 9)))
    assert await keystore.insert(stored) is True
    own_server.restart(how)
    assert await keystore.get(stored.key_id) == stored
    assert await keystore.insert(record(generation=2)) is True
    await keystore.close()


async def test_while_the_database_is_down_calls_are_unavailable_and_after_that_they_succeed(
    own_server: PostgresServer,
) -> None:
    keystore = create(own_server.url(own_server.new_database()), timeout_seconds=10)
    await keystore.open(upgrade=True)
    own_server.stop()
    for call in (keystore.get("0123456789abcd"), keystore.insert(record()), create(own_server.url("any")).open()):
        with pytest.raises(KeystoreUnavailableError) as caught:
            await call
        assert caught.value.__cause__ is None
    own_server.start()
    assert await keystore.insert(record()) is True
    await keystore.close()


async def test_what_was_acknowledged_survives_a_crash_of_a_database_that_does_not_commit_durably_by_itself(
    own_server: PostgresServer,
) -> None:
    url = own_server.url(own_server.new_database())
    keystore = create(url, timeout_seconds=10)
    await keystore.open(upgrade=True)
    for generation in range(1, 40):
        assert await keystore.insert(record(generation=generation)) is True
    own_server.restart(signal.SIGQUIT)
    assert [row.generation for row in await keystore.list_keys()] == list(range(1, 40))
    await keystore.close()


@pytest.mark.parametrize(
    ("default", "when_writing"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
async def test_a_transaction_that_writes_is_durable_and_all_are_bounded_by_the_database_too(
    postgres_server: PostgresServer, default: str, when_writing: str
) -> None:
    name = postgres_server.new_database()
    postgres_server.sql(name, f"ALTER DATABASE {name} SET synchronous_commit = '{default}'")
    postgres_server.sql(name, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    engine = Postgresql(parse(postgres_server.url(name)), timeout_seconds=2.5).engine()
    async with engine.connect() as plain:
        for write in (False, True):
            connection = await plain.execution_options(write=write)
            async with connection.begin():
                settings = {
                    setting: (await connection.exec_driver_sql(f"SHOW {setting}")).scalar()
                    for setting in (
                        *("synchronous_commit", "statement_timeout", "lock_timeout"),
                        *("transaction_isolation", "application_name"),
                    )
                }
                prepared = (await connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements")).scalar()
            assert settings == {
                "synchronous_commit": when_writing if write else default,
                "statement_timeout": "2500ms",
                "lock_timeout": "2500ms",
                "transaction_isolation": "read committed",
                "application_name": "sidekey",
            }
            assert prepared == 0
    await engine.dispose()
    assert postgres_server.sql(name, "SHOW statement_timeout") == ["0"]


async def test_names_are_compared_by_their_bytes_whatever_the_collation_of_the_database(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    keystore = create(postgres_url)
    await keystore.open(upgrade=True)
    await keystore.close()
    collations = postgres_server.sql(
        database_of(postgres_url),
        "SELECT table_name, column_name, collation_name FROM information_schema.columns"
        " WHERE column_name IN ('keyring', 'name') AND table_schema = 'public' ORDER BY 1",
    )
    assert collations == ["data_keys|keyring|C", "keyrings|name|C"]


async def test_a_row_locked_by_another_is_unavailable_in_bounded_time_and_works_again_after(
    keystore: SqlKeystore, postgres_url: str
) -> None:
    stored = record(state=KeyState.DISABLED)
    await keystore.insert(stored)
    other = Postgresql(parse(postgres_url)).engine()
    async with other.connect() as connection, connection.begin():
        await connection.exec_driver_sql("SELECT * FROM data_keys FOR UPDATE")
        with pytest.raises(KeystoreUnavailableError):
            await keystore.set_state(stored.key_id, KeyState.ENABLED, at=CREATED_AT)
        assert await keystore.get(stored.key_id) == stored
    await other.dispose()
    assert await keystore.set_state(stored.key_id, KeyState.ENABLED, at=CREATED_AT) is True


async def test_counts_are_added_in_one_order_so_that_no_two_sidecars_wait_for_each_other(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    keystore = create(postgres_url, timeout_seconds=30)
    await keystore.open(upgrade=True)
    first, second = sorted((record(generation=1), record(generation=2)), key=lambda row: row.key_id)
    for row in (first, second):
        await keystore.insert(row)
    used = Usage(1, 1, CREATED_AT, CREATED_AT)
    lock = "SELECT 1 FROM data_keys WHERE key_id = '{}' FOR UPDATE NOWAIT"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    other = Postgresql(parse(postgres_url)).engine()
    async with other.connect() as connection, connection.begin():
        await connection.exec_driver_sql(lock.format(first.key_id))
        # Whoever came to the second data key first would hold it now, and wait for the other.
        call = asyncio.create_task(keystore.add_usage({second.key_id: used, first.key_id: used}))
        await asyncio.to_thread(until, lambda: postgres_server.sql(database_of(postgres_url), waiting) == ["1"])
        await connection.exec_driver_sql(lock.format(second.key_id))
    await call
    await other.dispose()
    assert {row.values_encrypted for row in whole(await keystore.list_keys())} == {1}
    await keystore.close()


async def test_more_calls_than_connections_wait_for_their_turn(
    keystore: SqlKeystore, postgres_server: PostgresServer, postgres_url: str
) -> None:
    results = await asyncio.gather(*(keystore.insert(record(generation=n)) for n in range(1, 31)))
    assert all(results)
    connections = postgres_server.sql(
        database_of(postgres_url), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sidekey'"
    )
    assert connections == ["2"]


async def test_cancelled_calls_leave_the_keystore_usable(keystore: SqlKeystore) -> None:
    calls = [asyncio.create_task(keystore.insert(record(generation=n))) for n in range(1, 9)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    # What was cancelled may yet have been done: its outcome is unknown, and whole either way.
    assert await keystore.insert(record(generation=9)) is True


async def test_a_database_that_became_read_only_is_left_for_the_primary(
    keystore: SqlKeystore, postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = database_of(postgres_url)
    stored = record()
    await keystore.insert(stored)
    # Connections made from here on are read-only: one takes the place of a standby that was a primary.
    postgres_server.sql(name, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await keystore.close()
    await keystore.open()
    with pytest.raises(KeystoreUnavailableError):
        await keystore.insert(record(generation=2))
    assert await keystore.get(stored.key_id) == stored
    postgres_server.sql("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    with pytest.raises(KeystoreUnavailableError):
        await keystore.insert(record(generation=2))
    assert await keystore.insert(record(generation=2)) is True


async def test_a_user_of_few_privileges_can_work_but_not_upgrade(postgres_server: PostgresServer) -> None:
    name = postgres_server.new_database()
    postgres_server.sql(name, f"CREATE ROLE worker_{name} LOGIN")
    url = postgres_server.url(name).replace("postgres@", f"worker_{name}@")
    with pytest.raises(StartupError, match="lacks a privilege"):
        await create(url).open(upgrade=True)
    owner = create(postgres_server.url(name))
    await owner.open(upgrade=True)
    await owner.close()
    with pytest.raises(StartupError, match="lacks a privilege"):
        await create(url).open()
    postgres_server.sql(name, f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO worker_{name}")
    worker = create(url)
    await worker.open()
    assert await worker.insert(record()) is True
    await worker.close()


async def test_what_an_operator_must_mend_is_said_without_the_urls_secrets(postgres_server: PostgresServer) -> None:
    latin = postgres_server.new_database(encoding="LATIN1")
    for url, said in [
        (postgres_server.url("missing"), "no database of this name"),
        (postgres_server.url("postgres").replace("postgres@", "nobody:hunter2@"), "does not let this user in"),
        (postgres_server.url(latin), "must have the encoding UTF8"),
    ]:
        with pytest.raises(StartupError, match=said) as caught:
            await create(url).open(upgrade=True)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_two_processes_that_insert_the_same_generations_share_them_out(postgres_url: str) -> None:
    first, second = processes.start_together("race", postgres_url, 2)
    assert sorted(map(int, first + second)) == list(range(1, processes.RACE_GENERATIONS + 1))


async def test_no_log_line_and_no_error_holds_sql_an_address_or_a_row_even_at_debug(
    postgres_server: PostgresServer,
    postgres_url: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("asyncpg", "sqlalchemy.engine", "sqlalchemy.pool"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    keystore = create(postgres_url.replace("postgres@", "postgres:hunter2@"))
    await keystore.open(upgrade=True)
    stored = record(wrapped_key=b"wrapped-key-bytes")
    await keystore.insert(stored)
    await keystore.insert(stored)
    postgres_server.sql(database_of(postgres_url), "DROP TABLE data_keys")
    with pytest.raises(KeystoreUnavailableError) as caught:
        await keystore.insert(stored)
    await keystore.close()
    printed = capfd.readouterr()
    seen = caplog.text + printed.out + printed.err + str(caught.value) + repr(keystore)
    for secret in (
        "wrapped-key-bytes",
        "INSERT",
        "data_keys",
        "hunter2",
        stored.key_id,
        str(postgres_server.directory),
    ):
        assert secret not in seen


def test_a_sidecar_with_another_keystore_never_imports_the_driver() -> None:
    program = (
        "import sys; from sidecar.keystore.factory import create; create('sqlite:///keystore.db');"
        "print([name for name in sys.modules if name.split('.')[0] in ('asyncpg', 'aiobotocore')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=processes.ROOT
    )
    assert done.stdout == "[]\n"
