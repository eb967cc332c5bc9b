"""A row that does not parse hides no other: what every keystore's listing must show, whatever the database."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import update

from sidecar.errors import CorruptKeyError
from sidecar.keystore.port import DamagedRow, DataKeyRecord, Keystore
from sidecar.keystore.postgresql import Postgresql
from sidecar.keystore.postgresql_url import parse
from sidecar.keystore.schema import DATA_KEYS
from sidecar.keystore.sql import Database
from sidecar.keystore.sqlite import Sqlite
from tests.fakes.keystore import MemoryKeystore
from tests.keystore.implementations import IMPLEMENTATIONS
from tests.keystore.records import record

Damage = Callable[[DataKeyRecord], Awaitable[None]]
"""Shortens the commitment of a stored data key, behind the keystore's back."""


def _in_sql(database: Database) -> Damage:
    async def damage(stored: DataKeyRecord) -> None:
        engine = database.engine()
        async with engine.begin() as connection:
            await connection.execute(
                update(DATA_KEYS).where(DATA_KEYS.c.key_id == stored.key_id).values(commitment=b"short")
            )
        await engine.dispose()

    return damage


def _memory(_request: pytest.FixtureRequest, keystore: Keystore) -> Damage:
    assert isinstance(keystore, MemoryKeystore)
    database = keystore.database

    async def damage(stored: DataKeyRecord) -> None:
        database.damaged.add(stored.key_id)

    return damage


def _sqlite(request: pytest.FixtureRequest, _keystore: Keystore) -> Damage:
    return _in_sql(Sqlite(request.getfixturevalue("tmp_path") / "keystore.db"))


def _postgres(request: pytest.FixtureRequest, _keystore: Keystore) -> Damage:
    return _in_sql(Postgresql(parse(request.getfixturevalue("postgres_url"))))


def _dynamodb(request: pytest.FixtureRequest, _keystore: Keystore) -> Damage:
    place = request.getfixturevalue("dynamodb")

    async def damage(stored: DataKeyRecord) -> None:
        async with place.client() as client:
            await client.update_item(
                TableName=place.table,
                Key={
                    "pk": {"S": f"keyring#{stored.keyring}"},
                    "sk": {"S": f"generation#{stored.generation:020d}"},
                },
                UpdateExpression="SET commitment = :short",
                ExpressionAttributeValues={":short": {"B": b"short"}},
            )

    return damage


DAMAGE = {"memory": _memory, "sqlite": _sqlite, "postgres": _postgres, "dynamodb": _dynamodb}


@pytest.fixture(params=DAMAGE)
async def damaged(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Keystore, Damage]]:
    """An open keystore, of each implementation in turn, and what damages its rows."""
    keystore = IMPLEMENTATIONS[request.param](request)()
    await keystore.open(upgrade=True)
    yield keystore, DAMAGE[request.param](request, keystore)
    await keystore.close()


async def test_a_row_that_does_not_parse_stands_in_its_place_in_listings(damaged: tuple[Keystore, Damage]) -> None:
    keystore, damage = damaged
    stored = [record(keyring, generation) for keyring in ("a", "b") for generation in (1, 2, 3)]
    for each in stored:
        await keystore.insert(each)
    expected: list[DataKeyRecord | DamagedRow] = [*stored]
    for place in (2, 4):
        key_id, keyring, generation = stored[place].key_id, stored[place].keyring, stored[place].generation
        await damage(stored[place])
        text = f"the keystore's row of data key {key_id} is damaged: column commitment"
        expected[place] = DamagedRow(key_id, keyring, generation, text)
        with pytest.raises(CorruptKeyError, match="column commitment"):
            await keystore.get(key_id)
    assert list(await keystore.list_keys()) == expected
    assert list(await keystore.list_keys("b")) == expected[3:]
    for limit in (1, 2, 3, 5):
        seen: list[DataKeyRecord | DamagedRow] = []
        after: tuple[str, int] | None = None
        while page := await keystore.list_keys(after=after, limit=limit):
            assert len(page) <= limit
            seen += page
            after = (page[-1].keyring, page[-1].generation)
        assert seen == expected
    assert await keystore.primary("b") == stored[5]
    with pytest.raises(CorruptKeyError):
        await keystore.primary("a")
