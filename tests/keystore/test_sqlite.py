"""SQLite's own risks: its file, other processes, kills, damage, locks."""

import asyncio
import logging
import os
import signal
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from sidecar.errors import KeystoreUnavailableError, StartupError
from sidecar.keystore.factory import create
from sidecar.keystore.sql import SqlKeystore
from sidecar.keystore.sqlite import Sqlite
from tests.keystore import processes
from tests.keystore.records import record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keystore.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
async def keystore(path: Path) -> AsyncIterator[SqlKeystore]:
    made = SqlKeystore(Sqlite(path, busy_seconds=0.5), timeout_seconds=1.0)
    await made.open(upgrade=True)
    yield made
    await made.close()
    # Nothing of it may go on: what lingers would hang the end of the process.
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def open_and_close(path: Path) -> None:
    made = create(f"sqlite:///{path}")
    await made.open(upgrade=True)
    await made.close()


def change(path: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, parameters)


async def test_a_new_database_and_the_files_beside_it_are_private(path: Path, keystore: SqlKeystore) -> None:
    old = os.umask(0)
    try:
        await keystore.insert(record())
    finally:
        os.umask(old)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["keystore.db", "keystore.db-shm", "keystore.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_every_connection_commits_durably(path: Path, keystore: SqlKeystore) -> None:
    await keystore.insert(record())
    engine = Sqlite(path).engine()
    async with engine.connect() as connection:
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == 2
    await engine.dispose()


async def test_a_reader_in_another_process_does_not_block_a_writer(path: Path, keystore: SqlKeystore) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM data_keys").fetchone() == (0,)
        assert await keystore.insert(record()) is True
        other.execute("ROLLBACK")


def test_two_processes_that_insert_the_same_generations_share_them_out(url: str) -> None:
    first, second = processes.start_together("race", url, 2)
    assert sorted(map(int, first + second)) == list(range(1, processes.RACE_GENERATIONS + 1))


async def test_a_kill_leaves_every_acknowledged_key_and_no_partial_row(path: Path, url: str) -> None:
    process = processes.start("flood", url)
    assert process.stdout is not None
    for _ in range(40):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = 40 + len(process.communicate(timeout=30)[0].splitlines())
    assert process.returncode == -signal.SIGKILL

    keystore = create(f"sqlite:///{path}")
    await keystore.open(upgrade=True)
    stored = [row.generation for row in await keystore.list_keys(limit=100_000)]
    assert await keystore.insert(record(generation=len(stored) + 1)) is True
    await keystore.close()
    # The last one may have been committed and killed before it could be acknowledged.
    assert stored in (list(range(1, acknowledged + 1)), list(range(1, acknowledged + 2)))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"this is no database " * 100)
    with pytest.raises(StartupError, match="not a keystore database") as caught:
        asyncio.run(open_and_close(path))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"this is no database " * 100


async def test_a_missing_directory_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "keystore.db"
    with pytest.raises(StartupError, match="No such file or directory") as caught:
        await open_and_close(path)
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_directory_in_the_databases_place_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StartupError, match="Is a directory"):
        asyncio.run(open_and_close(path))


@pytest.mark.parametrize("exists", [False, True])
async def test_a_directory_that_cannot_be_written_is_refused_by_name(path: Path, url: str, exists: bool) -> None:
    if exists:
        await open_and_close(path)
    path.parent.chmod(0o500)
    try:
        said = processes.start("unprivileged", url).communicate(timeout=30)[0]
    finally:
        path.parent.chmod(0o700)
    assert said.startswith(f"StartupError: the keystore {path}")
    assert "cannot be read and written" in said


def test_the_program_of_the_test_above_opens_a_directory_that_can_be_written(url: str) -> None:
    assert processes.start("unprivileged", url).communicate(timeout=30)[0] == "opened\n"


async def test_a_locked_database_is_unavailable_in_bounded_time_and_works_again_after(
    path: Path, keystore: SqlKeystore
) -> None:
    stored = record()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(KeystoreUnavailableError) as caught:
            await keystore.insert(stored)
        assert time.monotonic() - started < 2
        assert await keystore.get(stored.key_id) is None
        other.execute("ROLLBACK")
    assert caught.value.__cause__ is None
    assert "data_keys" not in str(caught.value)
    assert await keystore.insert(record()) is True


async def test_a_cancelled_call_leaves_the_keystore_usable(path: Path, keystore: SqlKeystore) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = [asyncio.create_task(keystore.insert(record())) for _ in range(6)]
        await asyncio.sleep(0.1)
        for write in writes:
            write.cancel()
        results = await asyncio.gather(*writes, return_exceptions=True)
        other.execute("ROLLBACK")
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    # What was cancelled may yet have been handed to SQLite: its outcome is unknown, and whole either way.
    assert await keystore.insert(record(generation=2)) is True
    assert len(await keystore.list_keys()) in (1, 2)


async def test_a_deadline_holds_where_the_lock_timeout_is_longer(path: Path) -> None:
    keystore = SqlKeystore(Sqlite(path, busy_seconds=1.0), timeout_seconds=0.2)
    await keystore.open(upgrade=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(KeystoreUnavailableError):
            await keystore.insert(record())
        assert time.monotonic() - started < 0.8
        other.execute("ROLLBACK")
    await keystore.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_more_calls_than_connections_wait_for_their_turn(keystore: SqlKeystore) -> None:
    results = await asyncio.gather(*(keystore.insert(record(generation=n)) for n in range(1, 31)))
    assert all(results)
    assert await keystore.newest_generation("default") == 30


async def test_a_table_that_vanished_is_unavailable_with_a_general_text(path: Path, keystore: SqlKeystore) -> None:
    change(path, "DROP TABLE data_keys")
    with pytest.raises(KeystoreUnavailableError) as caught:
        await keystore.list_keys()
    assert "data_keys" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_no_log_line_holds_a_wrapped_key_even_at_debug(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("aiosqlite", "sqlalchemy.engine", "sqlalchemy.pool"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    keystore = create(f"sqlite:///{path}")
    await keystore.open(upgrade=True)
    stored = record(wrapped_key=b"wrapped-key-bytes")
    await keystore.insert(stored)
    await keystore.get(stored.key_id)
    change(path, "DROP TABLE data_keys")
    with pytest.raises(KeystoreUnavailableError):
        await keystore.insert(stored)
    assert "wrapped-key-bytes" not in caplog.text
    assert "INSERT" not in caplog.text
    await keystore.close()
