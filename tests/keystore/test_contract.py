"""What every keystore must do, whatever the database: one suite over all implementations of the port."""

import asyncio
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from sidecar.errors import KeystoreUnavailableError, StartupError
from sidecar.keystore.port import NO_SCHEMA, DataKeyRecord, KeyState, Keystore, WrappedCopy
from tests.keystore.implementations import Maker, Opener
from tests.keystore.records import EVERY_FIELD, UNORDERED_NAMES, record, whole


async def test_without_an_upgrade_a_place_without_a_schema_is_refused_and_says_what_makes_one(maker: Maker) -> None:
    for _ in range(2):
        with pytest.raises(StartupError, match=f"^{re.escape(NO_SCHEMA)}$"):
            await maker().open()


async def test_once_upgraded_it_opens_without_and_with_an_upgrade(maker: Maker) -> None:
    stored = record()
    for upgrade in (True, False, True):
        keystore = maker()
        await keystore.open(upgrade=upgrade)
        await keystore.insert(stored)
        assert await keystore.get(stored.key_id) == stored
        await keystore.close()


async def test_many_that_upgrade_at_once_all_open(maker: Maker) -> None:
    keystores = [maker() for _ in range(6)]
    await asyncio.gather(*(keystore.open(upgrade=True) for keystore in keystores))
    assert [await keystore.insert(record(generation=7)) for keystore in keystores] == [True] + 5 * [False]
    for keystore in keystores:
        await keystore.close()


async def test_what_is_inserted_is_read_back_in_every_field(keystore: Keystore) -> None:
    for stored in (record("größe/π", 3, **EVERY_FIELD), record("größe/π", 4)):
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
    await keystore.insert(record(generation=2, state=KeyState.DESTROYED, wrapped_key=b""))
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
    stored = [record(keyring, generation) for keyring in UNORDERED_NAMES for generation in (1, 2, 3)]
    for row in stored:
        await keystore.insert(row)
    seen: list[DataKeyRecord] = []
    after: tuple[str, int] | None = None
    while page := await keystore.list_keys(after=after, limit=5):
        assert len(page) <= 5
        seen += whole(page)
        after = (page[-1].keyring, page[-1].generation)
    assert seen == sorted(stored, key=lambda row: (row.keyring.encode(), row.generation))


async def test_a_page_of_one_keyring_holds_no_other(keystore: Keystore) -> None:
    for keyring in ("a", "b", "c"):
        for generation in (1, 2, 3):
            await keystore.insert(record(keyring, generation))
    page = await keystore.list_keys("b", after=("b", 1))
    assert [(row.keyring, row.generation) for row in page] == [("b", 2), ("b", 3)]


async def test_an_empty_keystore_lists_nothing(keystore: Keystore) -> None:
    assert list(await keystore.list_keys()) == []
    assert list(await keystore.list_keyrings()) == []


async def test_an_empty_page_is_refused(keystore: Keystore) -> None:
    with pytest.raises(ValueError, match="page"):
        await keystore.list_keys(limit=0)
    with pytest.raises(ValueError, match="page"):
        await keystore.list_keyrings(limit=-1)


async def test_a_name_that_no_keyring_can_have_is_an_unknown_one(keystore: Keystore) -> None:
    for name in ("", "a\0", "\ud800", "x" * 256):
        assert await keystore.primary(name) is None
        assert await keystore.newest_generation(name) == 0
        assert list(await keystore.list_keys(name)) == []
        assert await keystore.keyring(name) is None


async def test_many_ids_are_read_at_once_and_unknown_ones_are_left_out(keystore: Keystore) -> None:
    stored = [record(generation=generation) for generation in range(1, 21)]
    for row in stored:
        await keystore.insert(row)
    unknown = [f"{number:014x}" for number in range(1, 4096 - 20 + 1)]
    found = await keystore.get_many([*unknown[:2000], *(row.key_id for row in stored), *unknown[2000:]])
    assert found == {row.key_id: row for row in stored}
    assert await keystore.get_many([]) == {}
    assert await keystore.get_many(iter([stored[0].key_id, stored[0].key_id, "\0"])) == {stored[0].key_id: stored[0]}


async def test_more_than_4096_ids_are_refused(keystore: Keystore) -> None:
    with pytest.raises(ValueError, match="4096"):
        await keystore.get_many(f"{number:014x}" for number in range(4097))


@pytest.mark.parametrize(
    "wrong",
    [
        {"key_id": "00000000000000"},
        {"key_id": "ABCDEF01234567"},
        {"keyring": ""},
        {"generation": 0},
        {"generation": 2**63},
        {"created_at": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"keyring": "a\0b"},
        {"kek_id": "\ud800"},
        {"wrapped_key": b""},
        {"wrapped_key": b"k", "state": KeyState.DESTROYED},
        {"further_copies": (WrappedCopy("other", b"k"),), "state": KeyState.DESTROYED, "wrapped_key": b""},
        {"further_copies": (WrappedCopy("same", b"k"),), "kek_id": "same"},
        {"further_copies": (WrappedCopy("same", b"k"), WrappedCopy("same", b"l"))},
        {"further_copies": tuple(WrappedCopy(f"kek {number}", b"k") for number in range(16))},
        {"further_copies": (WrappedCopy("other", b""),)},
        {"further_copies": (WrappedCopy("", b"k"),)},
        {"commitment": b"short"},
        {"values_encrypted": -1},
        {"values_decrypted": 2**63},
        {"state_changed_at": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"first_used_at": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"last_used_at": datetime(2026, 1, 1)},  # noqa: DTZ001
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
