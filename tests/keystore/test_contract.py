"""What every keystore must do, whatever the database: one suite over all implementations of the port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore.factory import create
from sidecar.keystore.port import DataKeyRecord, KeyState, Keystore
from tests.fakes.keystore import MemoryKeystore
from tests.keystore.records import record

Opener = Callable[[], Awaitable[Keystore]]
"""Opens one more keystore on the same database."""


@pytest.fixture(params=["memory", "sqlite"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    rows: dict[str, DataKeyRecord] = {}
    made: dict[str, Callable[[], Keystore]] = {
        "memory": lambda: MemoryKeystore(rows),
        "sqlite": lambda: create(f"sqlite:///{tmp_path / 'keystore.db'}"),
    }
    async with AsyncExitStack() as stack:

        async def open_one() -> Keystore:
            keystore = made[request.param]()
            await keystore.open()
            stack.push_async_callback(keystore.close)
            return keystore

        yield open_one


@pytest.fixture
async def keystore(opener: Opener) -> Keystore:
    return await opener()


async def test_what_is_inserted_is_read_back_in_every_field(keystore: Keystore) -> None:
    stored = record("größe/π", 3, values_encrypted=7, state=KeyState.DISABLED)
    assert await keystore.insert(stored) is True
    assert await keystore.get(stored.key_id) == stored


async def test_another_keystore_on_the_same_database_sees_what_was_inserted(opener: Opener) -> None:
    first, second = await opener(), await opener()
    stored = record()
    await first.insert(stored)
    assert await second.get(stored.key_id) == stored
    assert await second.primary("default") == stored


async def test_points_in_time_come_back_aware_and_in_utc(keystore: Keystore) -> None:
    elsewhere = datetime(2026, 7, 1, 8, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    stored = record(created_at=elsewhere)
    await keystore.insert(stored)
    read = await keystore.get(stored.key_id)
    assert read is not None
    assert read.created_at == elsewhere
    assert read.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("key_id", ["0123456789abcd", "", "' OR 1=1 --", "ABCDEF01234567", "\0", "x" * 10_000])
async def test_an_unknown_key_id_is_none_whatever_it_looks_like(keystore: Keystore, key_id: str) -> None:
    await keystore.insert(record())
    assert await keystore.get(key_id) is None


async def test_a_taken_generation_is_refused_and_nothing_is_stored(keystore: Keystore) -> None:
    first, second = record(generation=4), record(generation=4)
    assert await keystore.insert(first) is True
    assert await keystore.insert(second) is False
    assert await keystore.get(second.key_id) is None
    assert await keystore.get(first.key_id) == first


async def test_a_taken_key_id_is_refused_and_the_first_row_stands(keystore: Keystore) -> None:
    first = record("payments", 1)
    assert await keystore.insert(first) is True
    assert await keystore.insert(record("audit", 9, key_id=first.key_id)) is False
    assert await keystore.get(first.key_id) == first
    assert await keystore.newest_generation("audit") == 0


async def test_two_keyrings_may_have_the_same_generation(keystore: Keystore) -> None:
    assert await keystore.insert(record("a", 1)) is True
    assert await keystore.insert(record("b", 1)) is True


async def test_a_refused_insert_leaves_the_keystore_usable(keystore: Keystore) -> None:
    await keystore.insert(record(generation=1))
    await keystore.insert(record(generation=1))
    assert await keystore.insert(record(generation=2)) is True


async def test_of_many_concurrent_inserts_of_one_generation_exactly_one_wins(opener: Opener) -> None:
    first, second = await opener(), await opener()
    records = [record(generation=1) for _ in range(12)]
    inserts = [(first if i % 2 else second).insert(records[i]) for i in range(12)]
    results = await asyncio.gather(*inserts)
    assert sorted(results) == [False] * 11 + [True]
    assert await first.list_keys() == [records[results.index(True)]]


async def test_the_primary_is_the_newest_enabled_generation(keystore: Keystore) -> None:
    enabled = record(generation=2)
    for stored in (record(generation=1), enabled, record(generation=10, state=KeyState.DISABLED)):
        await keystore.insert(stored)
    await keystore.insert(record("other", 99))
    assert await keystore.primary("default") == enabled
    assert await keystore.newest_generation("default") == 10


async def test_a_keyring_of_disabled_and_destroyed_keys_has_no_primary(keystore: Keystore) -> None:
    await keystore.insert(record(generation=1, state=KeyState.DISABLED))
    await keystore.insert(record(generation=2, state=KeyState.DESTROYED))
    assert await keystore.primary("default") is None
    assert await keystore.newest_generation("default") == 2


async def test_an_unknown_keyring_has_no_primary_and_generation_zero(keystore: Keystore) -> None:
    assert await keystore.primary("nobody") is None
    assert await keystore.newest_generation("nobody") == 0


async def test_generations_are_ordered_as_numbers(keystore: Keystore) -> None:
    for generation in (9, 10, 100, 2):
        await keystore.insert(record(generation=generation))
    assert [row.generation for row in await keystore.list_keys("default")] == [2, 9, 10, 100]
    primary = await keystore.primary("default")
    assert primary is not None
    assert primary.generation == 100


async def test_pages_cover_every_key_once_in_order(keystore: Keystore) -> None:
    stored = [record(keyring, generation) for keyring in ("a", "B", "ä", "a b") for generation in (1, 2, 3)]
    for row in stored:
        await keystore.insert(row)
    seen: list[DataKeyRecord] = []
    after: tuple[str, int] | None = None
    while page := await keystore.list_keys(after=after, limit=5):
        assert len(page) <= 5
        seen += page
        after = (page[-1].keyring, page[-1].generation)
    assert seen == sorted(stored, key=lambda row: (row.keyring, row.generation))


async def test_a_page_of_one_keyring_holds_no_other(keystore: Keystore) -> None:
    for keyring in ("a", "b", "c"):
        for generation in (1, 2, 3):
            await keystore.insert(record(keyring, generation))
    page = await keystore.list_keys("b", after=("b", 1))
    assert [(row.keyring, row.generation) for row in page] == [("b", 2), ("b", 3)]


async def test_keyrings_are_listed_once_each_in_pages(keystore: Keystore) -> None:
    for keyring in ("c", "a", "b"):
        for generation in (1, 2):
            await keystore.insert(record(keyring, generation))
    assert await keystore.list_keyrings(limit=2) == ["a", "b"]
    assert await keystore.list_keyrings(after="b") == ["c"]


async def test_an_empty_keystore_lists_nothing(keystore: Keystore) -> None:
    assert list(await keystore.list_keys()) == []
    assert list(await keystore.list_keyrings()) == []


async def test_an_empty_page_is_refused(keystore: Keystore) -> None:
    with pytest.raises(ValueError, match="page"):
        await keystore.list_keys(limit=0)
    with pytest.raises(ValueError, match="page"):
        await keystore.list_keyrings(limit=-1)


async def test_counts_add_up_and_unknown_ids_are_passed_over(keystore: Keystore) -> None:
    one, two = record(generation=1), record(generation=2, values_encrypted=2**45)
    await keystore.insert(one)
    await keystore.insert(two)
    await keystore.add_values_encrypted({one.key_id: 5, two.key_id: 2**45, "0123456789abcd": 1})
    await keystore.add_values_encrypted({one.key_id: 6, two.key_id: 0})
    await keystore.add_values_encrypted({})
    assert await keystore.get(one.key_id) == replace(one, values_encrypted=11)
    assert await keystore.get(two.key_id) == replace(two, values_encrypted=2**46)


async def test_concurrent_counts_are_not_lost(opener: Opener) -> None:
    first, second = await opener(), await opener()
    stored = record()
    await first.insert(stored)
    await asyncio.gather(*((first if i % 2 else second).add_values_encrypted({stored.key_id: 3}) for i in range(10)))
    read = await first.get(stored.key_id)
    assert read is not None
    assert read.values_encrypted == 30


async def test_a_negative_count_is_refused(keystore: Keystore) -> None:
    with pytest.raises(ValueError, match="negative"):
        await keystore.add_values_encrypted({"0123456789abcd": -1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"key_id": "00000000000000"},
        {"key_id": "ABCDEF01234567"},
        {"keyring": ""},
        {"generation": 0},
        {"generation": 2**63},
        {"created_at": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"wrapped_key": b""},
        {"commitment": b"short"},
        {"values_encrypted": -1},
    ],
)
async def test_a_record_that_could_not_be_read_back_is_refused(keystore: Keystore, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        await keystore.insert(record(**wrong))
    assert list(await keystore.list_keys()) == []


async def test_a_closed_keystore_is_unavailable(keystore: Keystore) -> None:
    await keystore.close()
    with pytest.raises(KeystoreUnavailableError):
        await keystore.get("0123456789abcd")


async def test_a_record_survives_closing_and_opening_again(opener: Opener) -> None:
    first = await opener()
    stored = record(created_at=datetime.now(UTC))
    await first.insert(stored)
    await first.close()
    assert await (await opener()).get(stored.key_id) == stored


async def test_no_repr_shows_a_wrapped_key(keystore: Keystore) -> None:
    stored = record(wrapped_key=b"wrapped-key-bytes", commitment=b"c" * 32)
    await keystore.insert(stored)
    shown = repr(await keystore.get(stored.key_id))
    assert stored.key_id in shown
    assert "wrapped-key-bytes" not in shown
    assert "cccc" not in shown
