"""The schema of an SQL keystore: made on demand, upgraded from version 1, refused where it cannot be worked with."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from sidecar.errors import KeystoreUnavailableError, StartupError
from sidecar.keystore.factory import create
from sidecar.keystore.port import KeyringRecord, KeyState
from sidecar.keystore.postgresql import Postgresql
from sidecar.keystore.postgresql_url import parse
from sidecar.keystore.schema import SCHEMA_VERSION
from sidecar.keystore.sql import Database, SqlKeystore
from sidecar.keystore.sqlite import Sqlite
from tests.keystore import processes
from tests.keystore.postgres import PostgresServer
from tests.keystore.records import record

VERSION_1 = """
CREATE TABLE data_keys (
    key_id VARCHAR(14) NOT NULL,
    keyring VARCHAR(255){collation} NOT NULL,
    generation BIGINT NOT NULL,
    state VARCHAR(16) NOT NULL,
    created_at {time} NOT NULL,
    kek_id VARCHAR(2048) NOT NULL,
    wrapped_key {bytes} NOT NULL,
    commitment {bytes} NOT NULL,
    values_encrypted BIGINT NOT NULL,
    PRIMARY KEY (key_id),
    CONSTRAINT data_keys_keyring_generation UNIQUE (keyring, generation)
);
CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version));
INSERT INTO schema_version VALUES (1);
INSERT INTO data_keys VALUES
    ('000000000000a1', 'payments', 1, 'disabled', '2026-01-02 03:04:05.000006{zone}', 'local:0011223344556677',
     {quote}{one}', {quote}{two}', 7),
    ('000000000000a2', 'payments', 2, 'enabled', '2026-01-03 03:04:05.000000{zone}', 'local:0011223344556677',
     {quote}{one}', {quote}{two}', 0);
"""
ONE_OF_VERSION_1 = """
INSERT INTO data_keys
    (key_id, keyring, generation, state, created_at, kek_id, wrapped_key, commitment, values_encrypted)
VALUES ('000000000000a{n}', 'payments', {n}, '{state}', '2026-01-04 00:00:00.000000{zone}', 'local:0011223344556677',
        {quote}{one}', {quote}{two}', 0);
"""
ROWS = [
    record(
        "payments",
        generation,
        key_id=f"000000000000a{generation}",
        state=state,
        created_at=datetime(2026, 1, generation + 1, 3, 4, 5, micros, tzinfo=UTC),
        wrapped_key=b"w" * 60,
        commitment=b"c" * 32,
        values_encrypted=count,
    )
    for generation, state, micros, count in [(1, KeyState.DISABLED, 6, 7), (2, KeyState.ENABLED, 0, 0)]
]


@dataclass
class Place:
    """Where a keystore may be, seen past the sidecar."""

    url: str
    run: Callable[[str], list[str]]
    database: Callable[[], Database]
    spelling: dict[str, str]

    def script(self, text: str, **words: object) -> None:
        self.run(text.format(one="77" * 60, two="63" * 32, **self.spelling, **words))

    def keystore(self) -> SqlKeystore:
        made = create(self.url)
        assert isinstance(made, SqlKeystore)
        return made


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name = server.new_database()
        url = server.url(name)
        words = {"collation": ' COLLATE "C"', "time": "TIMESTAMPTZ", "bytes": "BYTEA", "quote": "'\\x", "zone": "+00"}
        return Place(url, lambda script: server.sql(name, script), lambda: Postgresql(parse(url)), words)
    path = tmp_path / "keystore.db"

    def run(script: str) -> list[str]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if script.lstrip().startswith("SELECT"):
                return ["|".join(map(str, row)) for row in connection.execute(script)]
            connection.executescript(script)
            return []

    words = {"collation": "", "time": "DATETIME", "bytes": "BLOB", "quote": "x'", "zone": ""}
    return Place(f"sqlite:///{path}", run, lambda: Sqlite(path), words)


async def columns(place: Place) -> dict[str, object]:
    """Every table with its columns, keys and constraints, as the database tells them."""

    def look(connection: Connection) -> dict[str, object]:
        found = inspect(connection)
        return {
            table: (
                {
                    each["name"]: (str(each["type"]), each["nullable"], each["default"])
                    for each in found.get_columns(table)
                },
                found.get_pk_constraint(table)["constrained_columns"],
                found.get_unique_constraints(table),
            )
            for table in found.get_table_names()
        }

    engine = place.database().engine()
    async with engine.connect() as connection:
        seen = await connection.run_sync(look)
    await engine.dispose()
    return seen


async def test_a_keystore_of_version_1_is_upgraded_with_its_rows_intact(place: Place) -> None:
    place.script(VERSION_1)
    keystore = place.keystore()
    assert await keystore.schema_version() == 1
    await keystore.open(upgrade=True)
    assert await keystore.list_keys() == ROWS
    assert await keystore.primary("payments") == ROWS[1]
    assert await keystore.save_keyring(KeyringRecord("audit", datetime(2026, 1, 1, tzinfo=UTC))) is True
    assert await keystore.list_keyrings() == ["audit", "payments"]
    assert await keystore.schema_version() == SCHEMA_VERSION
    await keystore.close()


async def test_an_upgraded_schema_is_the_same_as_a_new_one(place: Place) -> None:
    keystore = place.keystore()
    await keystore.open(upgrade=True)
    await keystore.close()
    new = await columns(place)
    assert sorted(new) == ["data_keys", "keyrings", "schema_version"]
    place.run("DROP TABLE data_keys; DROP TABLE keyrings; DROP TABLE schema_version")
    place.script(VERSION_1)
    await keystore.open(upgrade=True)
    await keystore.close()
    assert await columns(place) == new


async def test_a_sidecar_of_version_1_that_still_runs_can_insert_after_the_upgrade(place: Place) -> None:
    place.script(VERSION_1)
    keystore = place.keystore()
    await keystore.open(upgrade=True)
    place.script(ONE_OF_VERSION_1, n=3, state="enabled")
    primary = await keystore.primary("payments")
    assert primary is not None
    assert (primary.generation, primary.further_copies, primary.values_decrypted) == (3, (), 0)
    await keystore.close()


async def test_a_destroyed_data_key_of_version_1_that_still_has_its_key_becomes_a_disabled_one(place: Place) -> None:
    place.script(VERSION_1)
    place.script(ONE_OF_VERSION_1, n=3, state="destroyed")
    keystore = place.keystore()
    await keystore.open(upgrade=True)
    found = await keystore.get("000000000000a3")
    assert found is not None
    assert (found.state, found.wrapped_key) == (KeyState.DISABLED, b"w" * 60)
    await keystore.close()


async def test_an_older_schema_is_refused_without_an_upgrade_and_left_alone(place: Place) -> None:
    place.script(VERSION_1)
    keystore = place.keystore()
    with pytest.raises(StartupError, match=r"version 1,.*needs version 2: run 'sidekey keystore upgrade'"):
        await keystore.open()
    assert await keystore.schema_version() == 1
    assert "keyrings" not in await columns(place)
    with pytest.raises(KeystoreUnavailableError):
        await keystore.list_keys()


@pytest.mark.parametrize("upgrade", [False, True])
async def test_a_newer_schema_is_refused_with_both_versions_and_left_alone(place: Place, upgrade: bool) -> None:
    place.script(VERSION_1)
    place.run("UPDATE schema_version SET version = 7")
    before = await columns(place)
    keystore = place.keystore()
    with pytest.raises(StartupError, match=rf"version 7.*up to {SCHEMA_VERSION}"):
        await keystore.open(upgrade=upgrade)
    assert await keystore.schema_version() == 7
    assert await columns(place) == before


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM schema_version", "INSERT INTO schema_version VALUES (9)", "UPDATE schema_version SET version = 0"],
)
async def test_a_schema_version_that_makes_no_sense_is_refused(place: Place, statement: str) -> None:
    place.script(VERSION_1)
    place.run(statement)
    with pytest.raises(StartupError, match="schema version does not parse"):
        await place.keystore().open(upgrade=True)


async def test_the_database_of_another_program_is_refused_and_left_alone(place: Place) -> None:
    place.run("CREATE TABLE cookies (name TEXT)")
    for upgrade in (False, True):
        with pytest.raises(StartupError, match="another program"):
            await place.keystore().open(upgrade=upgrade)
    assert list(await columns(place)) == ["cookies"]


async def test_an_upgrade_that_fails_midway_changes_nothing(place: Place) -> None:
    place.script(VERSION_1)
    place.run("CREATE TABLE keyrings (in_the_way TEXT)")
    before = await columns(place)
    keystore = place.keystore()
    with pytest.raises(KeystoreUnavailableError):
        await keystore.open(upgrade=True)
    assert await columns(place) == before
    place.run("DROP TABLE keyrings")
    await keystore.open(upgrade=True)
    assert await keystore.list_keys() == ROWS
    await keystore.close()


async def test_without_an_upgrade_nothing_is_created(place: Place, tmp_path: Path) -> None:
    keystore = place.keystore()
    assert await keystore.schema_version() == 0
    with pytest.raises(StartupError, match="run 'sidekey keystore upgrade'"):
        await keystore.open()
    assert os.listdir(tmp_path) == []
    assert await columns(place) == {}


@pytest.mark.parametrize("old", [False, True])
def test_eight_processes_that_upgrade_at_once_make_one_schema(place: Place, old: bool) -> None:
    if old:
        place.script(VERSION_1)
    printed = processes.start_together("upgrade", place.url, 8)
    assert printed == [[str(SCHEMA_VERSION)]] * 8
    assert place.run("SELECT version FROM schema_version") == [str(SCHEMA_VERSION)]
    assert place.run("SELECT count(*) FROM data_keys") == ["2" if old else "0"]


async def test_an_empty_sqlite_file_has_no_schema_yet_and_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "keystore.db"
    path.touch()
    with pytest.raises(StartupError, match="run 'sidekey keystore upgrade'"):
        await create(f"sqlite:///{path}").open()
    assert path.read_bytes() == b""
