"""What stands in the table, and what is said where it was damaged or moved."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sidecar.errors import CorruptKeyError
from sidecar.keystore.dynamodb import DynamoDbKeystore, from_url
from sidecar.keystore.port import DamagedRow, DataKeyRecord, KeyringRecord, KeyringSettings, WrappedCopy
from tests.keystore.dynamodb import DynamoDb
from tests.keystore.records import CREATED_AT, record

Change = Callable[[dict[str, Any], str, Any], Awaitable[None]]
"""Sets a column of the item of a key behind the keystore's back; None removes it."""
SCHEMA = {"pk": {"S": "schema"}, "sk": {"S": "-"}}


@pytest.fixture
async def keystore(dynamodb: DynamoDb) -> AsyncIterator[DynamoDbKeystore]:
    made = from_url(dynamodb.url, timeout_seconds=60.0)
    await made.open(upgrade=True)
    yield made
    await made.close()


def place_of(stored: DataKeyRecord) -> dict[str, Any]:
    """The key of a data key's item, written out: what is stored stays where it is."""
    return {"pk": {"S": f"keyring#{stored.keyring}"}, "sk": {"S": f"generation#{stored.generation:020d}"}}


def pointer_to(stored: DataKeyRecord) -> dict[str, Any]:
    """As above, the key of the item that points to it."""
    return {"pk": {"S": f"key#{stored.key_id}"}, "sk": {"S": "-"}}


@pytest.fixture
async def change(dynamodb: DynamoDb) -> AsyncIterator[Change]:
    async with dynamodb.client() as client:

        async def set_column(key: dict[str, Any], column: str, value: Any) -> None:
            values = {} if value is None else {"ExpressionAttributeValues": {":value": value}}
            await client.update_item(
                TableName=dynamodb.table,
                Key=key,
                UpdateExpression="REMOVE #column" if value is None else "SET #column = :value",
                ExpressionAttributeNames={"#column": column},
                **values,
            )

        yield set_column


async def test_an_item_is_what_a_table_of_this_version_holds(dynamodb: DynamoDb, keystore: DynamoDbKeystore) -> None:
    stored = record(
        "größe",
        3,
        key_id="0123456789abcd",
        wrapped_key=b"wrapped",
        commitment=b"c" * 32,
        further_copies=(WrappedCopy("local:2", b"again"),),
        first_used_at=CREATED_AT,
    )
    await keystore.insert(stored)
    await keystore.save_keyring(KeyringRecord("größe", CREATED_AT, KeyringSettings(float("inf"), None, True)))
    async with dynamodb.client() as client:
        found = {item["pk"]["S"]: item for item in (await client.scan(TableName=dynamodb.table))["Items"]}
    assert found["schema"] == {**SCHEMA, "version": {"N": "1"}}
    assert found["key#0123456789abcd"] == {
        "pk": {"S": "key#0123456789abcd"},
        "sk": {"S": "-"},
        "keyring": {"S": "größe"},
        "generation": {"N": "3"},
    }
    assert found["keyring#größe"] == {
        "pk": {"S": "keyring#größe"},
        "sk": {"S": "generation#00000000000000000003"},
        "key_id": {"S": "0123456789abcd"},
        "keyring": {"S": "größe"},
        "generation": {"N": "3"},
        "state": {"S": "enabled"},
        "created_at": {"S": "2026-03-01T12:30:15.123456Z"},
        "kek_id": {"S": "local:0011223344556677"},
        "wrapped_key": {"B": b"wrapped"},
        "commitment": {"B": b"c" * 32},
        "further_copies": {"S": '[["local:2","YWdhaW4="]]'},
        "values_encrypted": {"N": "0"},
        "values_decrypted": {"N": "0"},
        "first_used_at": {"S": "2026-03-01T12:30:15.123456Z"},
    }
    keyring = found["keyrings"]
    assert len(keyring.pop("written_by")["S"]) == 32
    assert keyring == {
        "pk": {"S": "keyrings"},
        "sk": {"S": "größe"},
        "has_data_keys": {"BOOL": True},
        "created_at": {"S": "2026-03-01T12:30:15.123456Z"},
        "roll_over_days": {"S": "inf"},
        "allow_deterministic": {"BOOL": True},
    }


DAMAGE: dict[str, tuple[str, Any]] = {
    "no id": ("key_id", None),
    "another keyring": ("keyring", {"S": "payments"}),
    "another generation": ("generation", {"N": "2"}),
    "a generation as text": ("generation", {"S": "1"}),
    "half a generation": ("generation", {"N": "1.5"}),
    "an unknown state": ("state", {"S": "sleeping"}),
    "no time": ("created_at", {"S": "yesterday"}),
    "a time without a zone": ("created_at", {"S": "2026-03-01T12:30:15.123456"}),
    "a time of another length": ("last_used_at", {"S": "2026-03-01T12:30:15Z"}),
    "a time as a number": ("first_used_at", {"N": "5"}),
    "a wrapped key as text": ("wrapped_key", {"S": "text"}),
    "an empty wrapped key": ("wrapped_key", {"B": b""}),
    "a short commitment": ("commitment", {"B": b"short"}),
    "no copies": ("further_copies", None),
    "copies that do not parse": ("further_copies", {"S": "[[]]"}),
    "a negative count": ("values_encrypted", {"N": "-1"}),
    "a count too high": ("values_decrypted", {"N": str(2**63)}),
    "a count beyond all": ("values_decrypted", {"N": "9" * 30}),
}


ELSEWHERE: list[tuple[str, Any]] = [
    ("keyring", None),
    ("keyring", {"S": "payments"}),
    ("keyring", {"N": "5"}),
    ("generation", {"N": "2"}),  # where there is a data key, and another
    ("generation", {"N": "0"}),
    ("generation", {"S": "1"}),
]
KEYRING_DAMAGE: list[tuple[str, Any]] = [
    ("created_at", {"S": "yesterday"}),
    ("roll_over_days", {"S": "soon"}),
    ("roll_over_days", {"S": "nan"}),
    ("roll_over_days", {"S": "0"}),
    ("default_mode", {"S": "mixed"}),
    ("allow_deterministic", {"S": "yes"}),
]


async def test_an_item_that_does_not_parse_is_a_corrupt_key_and_names_the_column(
    change: Change, keystore: DynamoDbKeystore
) -> None:
    for keyring, (column, value) in DAMAGE.items():
        stored = record(keyring)
        await keystore.insert(stored)
        await change(place_of(stored), column, value)
        with pytest.raises(CorruptKeyError, match=f"column {column}") as caught:
            await keystore.get(stored.key_id)
        assert caught.value.__cause__ is None
        known = None if column == "key_id" else stored.key_id
        assert list(await keystore.list_keys(keyring)) == [DamagedRow(known, keyring, 1, str(caught.value))]


async def test_a_data_key_that_was_moved_to_another_keyring_is_corrupt(
    dynamodb: DynamoDb, keystore: DynamoDbKeystore
) -> None:
    stored = record()
    await keystore.insert(stored)
    async with dynamodb.client() as client:
        item = (await client.get_item(TableName=dynamodb.table, Key=place_of(stored)))["Item"]
        await client.put_item(TableName=dynamodb.table, Item={**item, "pk": {"S": "keyring#payments"}})
    with pytest.raises(CorruptKeyError, match="column keyring"):
        await keystore.primary("payments")
    assert await keystore.primary("default") == stored


async def test_a_pointer_that_leads_elsewhere_is_a_corrupt_key_and_not_an_unknown_one(
    change: Change, keystore: DynamoDbKeystore
) -> None:
    stored = record()
    await keystore.insert(stored)
    await keystore.insert(record(generation=2))
    right = {"keyring": {"S": "default"}, "generation": {"N": "1"}}
    for column, value in ELSEWHERE:
        await change(pointer_to(stored), column, value)
        with pytest.raises(CorruptKeyError, match=stored.key_id):
            await keystore.get(stored.key_id)
        await change(pointer_to(stored), column, right[column])
    assert await keystore.get(stored.key_id) == stored


async def test_a_generation_that_is_no_number_does_not_pass_for_the_newest(
    change: Change, keystore: DynamoDbKeystore
) -> None:
    stored = record()
    await keystore.insert(stored)
    for wrong in ({"S": "many"}, {"N": "7"}, None):
        await change(place_of(stored), "generation", wrong)
        with pytest.raises(CorruptKeyError, match="column generation"):
            await keystore.newest_generation("default")


async def test_a_keyring_that_does_not_parse_is_corrupt_and_names_the_column(
    change: Change, keystore: DynamoDbKeystore
) -> None:
    for number, (column, value) in enumerate(KEYRING_DAMAGE):
        name = f"keyring-{number}"
        await keystore.save_keyring(KeyringRecord(name, CREATED_AT))
        await change({"pk": {"S": "keyrings"}, "sk": {"S": name}}, column, value)
        with pytest.raises(CorruptKeyError, match=f"column {column}"):
            await keystore.keyring(name)
