"""Counts of data keys in DynamoDB: what is wrong with one of them is no reason not to add to the others."""

from collections.abc import Mapping

import pytest
from aiohttp import web

from sidecar.errors import CorruptKeyError, KeystoreUnavailableError, SidekeyError
from sidecar.keystore.dynamodb import DynamoDbKeystore
from sidecar.keystore.port import DataKeyRecord, Usage
from tests.keystore import dynamodb_proxy as proxies
from tests.keystore.dynamodb import DynamoDb
from tests.keystore.dynamodb_proxy import Answer, DynamoDbProxy, Forward
from tests.keystore.dynamodb_through_proxy import keystore, proxy
from tests.keystore.records import CREATED_AT, record

__all__ = ["keystore", "proxy"]

USED = Usage(5, 1, CREATED_AT, CREATED_AT)
UNKNOWN_ID = "0123456789abcd"
THROTTLED = proxies.error(400, "ThrottlingException")


@pytest.fixture
async def stored(keystore: DynamoDbKeystore) -> list[DataKeyRecord]:
    """Data keys of two keyrings, of ten generations each."""
    made = [record(name, generation) for name in ("sound", "wrong") for generation in range(1, 11)]
    for each in made:
        await keystore.insert(each)
    return made


def of_wrong(answer: Answer) -> Answer:
    """Answers what is about a data key of the keyring "wrong"; forwards the rest."""

    async def answered(request: web.Request, forward: Forward) -> web.StreamResponse:
        return await (answer(request, forward) if b"keyring#wrong" in await request.read() else forward())

    return answered


async def added(keystore: DynamoDbKeystore, stored: list[DataKeyRecord]) -> Mapping[str, SidekeyError]:
    """Add to the counts of all, and of an id that no data key has."""
    return await keystore.add_usage(dict.fromkeys([UNKNOWN_ID, *(each.key_id for each in stored)], USED))


async def counts(keystore: DynamoDbKeystore, stored: list[DataKeyRecord]) -> dict[str, set[int]]:
    """What the data keys of each keyring have counted."""
    found = (await keystore.get_many(each.key_id for each in stored)).values()
    return {name: {row.values_encrypted for row in found if row.keyring == name} for name in ("sound", "wrong")}


@pytest.mark.parametrize("place", ["data key", "pointer"])
async def test_a_damaged_row_is_told_and_all_others_are_counted(
    dynamodb: DynamoDb, keystore: DynamoDbKeystore, stored: list[DataKeyRecord], place: str
) -> None:
    *sound, damaged = stored
    places = {
        "data key": {"pk": {"S": "keyring#wrong"}, "sk": {"S": f"generation#{10:020d}"}},
        "pointer": {"pk": {"S": f"key#{damaged.key_id}"}, "sk": {"S": "-"}},
    }
    async with dynamodb.client() as client:
        await client.update_item(
            TableName=dynamodb.table,
            Key=places[place],
            UpdateExpression="SET generation = :wrong",
            ExpressionAttributeValues={":wrong": {"S": "many"}},
        )
    failed = await added(keystore, stored)
    assert {key_id: type(error) for key_id, error in failed.items()} == {damaged.key_id: CorruptKeyError}
    assert await counts(keystore, sound) == {"sound": {5}, "wrong": {5}}


@pytest.mark.parametrize("operation", ["BatchGetItem", "UpdateItem"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [(THROTTLED, "fewer calls"), (proxies.error(400, "ValidationException"), "does not fit the table")],
    ids=["throttled", "refused"],
)
async def test_what_is_refused_of_some_is_told_of_these_and_never_added_to_the_others_again(
    keystore: DynamoDbKeystore,
    proxy: DynamoDbProxy,
    stored: list[DataKeyRecord],
    operation: str,
    answer: Answer,
    said: str,
) -> None:
    proxy.always[operation] = of_wrong(answer)
    failed = await added(keystore, stored)
    assert set(failed) == {each.key_id for each in stored if each.keyring == "wrong"}
    assert {type(error) for error in failed.values()} == {KeystoreUnavailableError}
    assert all(said in str(error) for error in failed.values())
    proxy.always.clear()
    assert await counts(keystore, stored) == {"sound": {5}, "wrong": {0}}
    assert await keystore.add_usage(dict.fromkeys(failed, USED)) == {}
    assert await counts(keystore, stored) == {"sound": {5}, "wrong": {5}}


async def test_what_hangs_until_the_time_is_up_is_told_and_what_is_not_told_is_counted(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, stored: list[DataKeyRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.always["UpdateItem"] = of_wrong(proxies.hang)
    with monkeypatch.context() as patch:
        patch.setattr(keystore._client, "_timeout_seconds", 4.0)
        failed = await added(keystore, stored)
    assert set(failed) >= {each.key_id for each in stored if each.keyring == "wrong"}
    assert all("in time" in str(error) for error in failed.values())
    done = [each for each in stored if each.key_id not in failed]
    # However slow the machine is: none of the others has to be done by then, and what is told is true.
    assert (await counts(keystore, done))["sound"] <= {5}


async def test_where_nothing_can_be_added_the_keystore_is_unavailable(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, stored: list[DataKeyRecord]
) -> None:
    proxy.always["UpdateItem"] = THROTTLED
    with pytest.raises(KeystoreUnavailableError, match="fewer calls"):
        await keystore.add_usage(dict.fromkeys((each.key_id for each in stored), USED))
