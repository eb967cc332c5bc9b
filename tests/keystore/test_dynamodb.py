"""DynamoDB's own risks: pages of 1 MB, long names, races of many clients, and reads that are not consistent."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore.dynamodb import DynamoDbKeystore, from_url
from sidecar.keystore.port import KeyringRecord, KeyringSettings, KeyState, Usage, WrappedCopy
from tests.keystore import dynamodb_proxy as proxies
from tests.keystore.dynamodb import DynamoDb
from tests.keystore.records import CREATED_AT, record

LARGE = 60_000


@pytest.fixture
async def keystore(dynamodb: DynamoDb) -> AsyncIterator[DynamoDbKeystore]:
    made = from_url(dynamodb.url, timeout_seconds=60.0)
    await made.open(upgrade=True)
    yield made
    await made.close()


async def test_pages_of_one_megabyte_are_put_together(keystore: DynamoDbKeystore) -> None:
    disabled = [
        record(generation=generation, state=KeyState.DISABLED, wrapped_key=bytes([generation]) * LARGE)
        for generation in range(2, 42)
    ]
    enabled = record(generation=1)
    for stored in (enabled, *disabled):
        await keystore.insert(stored)
    assert await keystore.list_keys("default") == [enabled, *disabled]
    assert await keystore.list_keys(after=("default", 1), limit=39) == disabled[:39]
    assert await keystore.primary("default") == enabled
    assert await keystore.newest_generation("default") == 41
    found = await keystore.get_many(stored.key_id for stored in disabled)
    assert found == {stored.key_id: stored for stored in disabled}


async def test_an_item_beyond_what_dynamodb_stores_is_refused_and_nothing_is_stored(keystore: DynamoDbKeystore) -> None:
    copies = tuple(WrappedCopy(f"kek {n}", bytes(LARGE)) for n in range(6))
    with pytest.raises(KeystoreUnavailableError, match="does not fit the table"):
        await keystore.insert(record(further_copies=copies))
    assert await keystore.list_keyrings() == []


async def test_names_as_long_as_names_may_be_are_stored_and_listed_in_order(keystore: DynamoDbKeystore) -> None:
    names = [letter * 255 for letter in ("a", "ß", "中", "🔑")]
    for name in reversed(names):
        assert await keystore.insert(record(name)) is True
    assert await keystore.save_keyring(KeyringRecord(names[3], CREATED_AT)) is True
    assert await keystore.list_keyrings() == names
    assert await keystore.list_keyrings(after=names[2]) == names[3:]
    assert [row.keyring for row in await keystore.list_keys(after=(names[1], 1))] == names[2:]
    saved = await keystore.keyring(names[3])
    assert saved is not None
    assert saved.name == names[3]


@pytest.mark.parametrize("letter", ["a", "ß", "中", "🔑"])
async def test_a_place_in_the_list_that_is_longer_than_any_name_is_still_a_place(
    keystore: DynamoDbKeystore, letter: str
) -> None:
    await keystore.insert(record(letter * 255))
    await keystore.insert(record("🔑🔑"))
    rest = [] if letter == "🔑" else ["🔑🔑"]
    for length in (256, 1024, 10_000):
        after = letter * length
        assert [name for name in await keystore.list_keyrings(after=after) if name == "🔑🔑"] == rest
        assert letter * 255 not in await keystore.list_keyrings(after=after)
        assert letter * 255 not in [row.keyring for row in await keystore.list_keys(after=(after, 1))]


async def test_a_page_may_begin_after_any_number(keystore: DynamoDbKeystore) -> None:
    for stored in (1, 2, 3):
        await keystore.insert(record(generation=stored))
    for generation in (-(2**80), -1, 0, 2, 2**63, 10**30):
        listed = await keystore.list_keys("default", after=("default", generation))
        assert [row.generation for row in listed] == [stored for stored in (1, 2, 3) if stored > generation]


async def test_a_page_over_many_keyrings_stops_at_its_limit_and_goes_on_behind_it(keystore: DynamoDbKeystore) -> None:
    names = [f"keyring-{number:02d}" for number in range(20)]
    for name in names:
        for generation in (1, 2):
            await keystore.insert(record(name, generation))
    everything = [(name, generation) for name in names for generation in (1, 2)]
    for limit in (1, 7, 39, 40, 41):
        first = [(row.keyring, row.generation) for row in await keystore.list_keys(limit=limit)]
        assert first == everything[:limit]
        rest = [(row.keyring, row.generation) for row in await keystore.list_keys(after=first[-1])]
        assert rest == everything[limit:]


async def test_settings_of_a_keyring_survive_its_data_keys(keystore: DynamoDbKeystore) -> None:
    saved = KeyringRecord("default", CREATED_AT, KeyringSettings(30.5, "deterministic", False))
    await keystore.save_keyring(saved)
    for generation in (1, 2):
        await keystore.insert(record(generation=generation))
    assert await keystore.keyring("default") == saved


async def test_settings_that_are_taken_back_are_gone(keystore: DynamoDbKeystore) -> None:
    saved = KeyringRecord("default", CREATED_AT, KeyringSettings(30.5, "deterministic", False))
    await keystore.save_keyring(saved)
    later = replace(saved, created_at=CREATED_AT + timedelta(days=1), settings=KeyringSettings())
    assert await keystore.save_keyring(later, replace=True) is True
    assert await keystore.keyring("default") == replace(saved, settings=KeyringSettings())


async def test_a_table_that_vanished_is_unavailable(dynamodb: DynamoDb, keystore: DynamoDbKeystore) -> None:
    async with dynamodb.client() as client:
        await client.update_table(TableName=dynamodb.table, DeletionProtectionEnabled=False)
        await client.delete_table(TableName=dynamodb.table)
    with pytest.raises(KeystoreUnavailableError, match="there is no such table"):
        await keystore.get("0123456789abcd")


async def test_of_many_clients_that_race_for_generations_exactly_one_wins_each(dynamodb: DynamoDb) -> None:
    clients = [from_url(dynamodb.url, timeout_seconds=60.0) for _ in range(4)]
    await asyncio.gather(*(client.open(upgrade=True) for client in clients))
    records = [record(generation=generation) for generation in range(1, 9) for _ in clients]
    races = (clients[number % 4].insert(each) for number, each in enumerate(records))
    won = [each for each, result in zip(records, await asyncio.gather(*races), strict=True) if result]
    assert await clients[0].list_keys() == won
    assert [each.generation for each in won] == list(range(1, 9))
    for client in clients:
        await client.close()


async def test_uses_of_many_clients_add_up_whatever_their_order(dynamodb: DynamoDb) -> None:
    clients = [from_url(dynamodb.url, timeout_seconds=60.0) for _ in range(3)]
    await asyncio.gather(*(client.open(upgrade=True) for client in clients))
    stored = record()
    await clients[0].insert(stored)
    start = datetime(2026, 5, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=second * 7 % 24) for second in range(24)]
    uses = [Usage(1, 2, at, at) for at in times]
    await asyncio.gather(*(clients[n % 3].add_usage({stored.key_id: use}) for n, use in enumerate(uses)))
    read = await clients[0].get(stored.key_id)
    first, last = min(times), max(times)
    used = replace(stored, values_encrypted=24, values_decrypted=48, first_used_at=first, last_used_at=last)
    assert read == used
    for client in clients:
        await client.close()


async def test_every_read_is_consistent(
    dynamodb: DynamoDb, keystore: DynamoDbKeystore, aws_environment: pytest.MonkeyPatch
) -> None:
    stored = record()
    await keystore.insert(stored)
    async with proxies.serve(dynamodb.endpoint) as proxy:
        aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", proxy.url)
        watched = from_url(dynamodb.url, timeout_seconds=60.0)
        await watched.open()
        await watched.get(stored.key_id)
        await watched.primary("default")
        await watched.newest_generation("default")
        await watched.keyring("default")
        await watched.list_keys()
        await watched.close()
    batches = [table for body in proxy.bodies_of("BatchGetItem") for table in body["RequestItems"].values()]
    reads = [*batches, *proxy.bodies_of("GetItem"), *proxy.bodies_of("Query")]
    assert len(reads) == 9
    assert all(read["ConsistentRead"] is True for read in reads)


async def test_ids_and_names_that_nothing_can_have_are_answered_without_a_call(dynamodb: DynamoDb) -> None:
    unopened = from_url(dynamodb.url)
    for key_id in ("", "ABCDEF01234567", "00000000000000", "x" * 10_000):
        assert await unopened.get(key_id) is None
    for name in ("", "x" * 256, "\ud800"):
        assert await unopened.primary(name) is None
        assert await unopened.newest_generation(name) == 0
        assert await unopened.keyring(name) is None


async def test_no_more_than_4096_data_keys_are_read_at_once(keystore: DynamoDbKeystore) -> None:
    with pytest.raises(ValueError, match="4096"):
        await keystore.get_many(f"{number:014x}" for number in range(1, 4098))
    assert await keystore.get_many(f"{number:014x}" for number in range(1, 4097)) == {}
