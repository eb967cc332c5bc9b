"""What every keystore must do with keyrings and with the use of data keys."""

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sidecar.keystore.port import KeyringRecord, KeyringSettings, KeyState, Keystore, Usage
from tests.keystore.implementations import Opener
from tests.keystore.records import UNORDERED_NAMES, record

EARLY = datetime(2026, 6, 1, tzinfo=UTC)
LATE = datetime(2026, 6, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = LATE + timedelta(microseconds=1)


def used(encrypted: int = 0, decrypted: int = 0, first_at: datetime = EARLY, last_at: datetime = LATE) -> Usage:
    return Usage(encrypted, decrypted, first_at, last_at)


@pytest.mark.parametrize(
    "settings",
    [
        KeyringSettings(),
        KeyringSettings(0.5, "deterministic", True),
        KeyringSettings(math.inf, "randomized", False),
        KeyringSettings(allow_deterministic=False),
        KeyringSettings(roll_over_days=36_500),
    ],
)
async def test_a_keyring_is_read_back_in_every_field(keystore: Keystore, settings: KeyringSettings) -> None:
    stored = KeyringRecord("größe", LATE, settings)
    assert await keystore.save_keyring(stored) is True
    assert await keystore.keyring("größe") == stored
    assert await keystore.keyring("große") is None


async def test_a_keyring_that_is_there_is_replaced_only_on_demand_and_keeps_its_time(keystore: Keystore) -> None:
    first = KeyringRecord("payments", EARLY.astimezone(timezone(timedelta(hours=2))), KeyringSettings(1.0))
    second = KeyringRecord("payments", LATE, KeyringSettings(default_mode="deterministic"))
    assert await keystore.save_keyring(first) is True
    assert await keystore.save_keyring(second) is False
    assert await keystore.keyring("payments") == first
    assert await keystore.save_keyring(second, replace=True) is True
    assert await keystore.keyring("payments") == replace(second, created_at=EARLY)
    assert await keystore.save_keyring(KeyringRecord("new", LATE), replace=True) is True
    assert await keystore.keyring("new") == KeyringRecord("new", LATE)


async def test_of_many_that_create_a_keyring_exactly_one_wins(opener: Opener) -> None:
    first, second = await opener(), await opener()
    records = [KeyringRecord("payments", LATE, KeyringSettings(number + 1.0)) for number in range(8)]
    results = await asyncio.gather(*((first, second)[i % 2].save_keyring(records[i]) for i in range(8)))
    assert sorted(results) == [False] * 7 + [True]
    assert await first.keyring("payments") == records[results.index(True)]


async def test_a_keyring_that_only_has_data_keys_was_not_created_by_call(keystore: Keystore) -> None:
    await keystore.insert(record("payments"))
    assert await keystore.keyring("payments") is None
    assert list(await keystore.list_keyrings()) == ["payments"]


@pytest.mark.parametrize(
    "wrong",
    [
        KeyringRecord("", LATE),
        KeyringRecord("a\0", LATE),
        KeyringRecord("a", datetime(2026, 1, 1)),  # noqa: DTZ001
        KeyringRecord("a", LATE, KeyringSettings(roll_over_days=0)),
        KeyringRecord("a", LATE, KeyringSettings(roll_over_days=math.nan)),
        KeyringRecord("a", LATE, KeyringSettings(default_mode="sometimes")),
    ],
)
async def test_a_keyring_that_could_not_be_read_back_is_refused(keystore: Keystore, wrong: KeyringRecord) -> None:
    with pytest.raises(ValueError, match="no record of a keyring"):
        await keystore.save_keyring(wrong)
    assert list(await keystore.list_keyrings()) == []


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_keyrings_with_data_keys_and_without_are_listed_once_each_in_the_order_of_bytes(
    keystore: Keystore, limit: int
) -> None:
    for number, name in enumerate(UNORDERED_NAMES):
        # Some have data keys, some a row, some both; and no generation, state or count of data keys is special.
        if number % 3 != 0:
            await keystore.save_keyring(KeyringRecord(name, LATE))
        if number % 3 != 1:
            await keystore.insert(record(name, 7 + number))
            await keystore.insert(record(name, 2**40, state=KeyState.DISABLED))
    seen: list[str] = []
    while page := await keystore.list_keyrings(after=seen[-1] if seen else "", limit=limit):
        assert len(page) <= limit
        seen += page
    assert seen == sorted(UNORDERED_NAMES, key=str.encode)


async def test_a_page_of_keyrings_begins_after_a_name_that_none_has(keystore: Keystore) -> None:
    for name in ("a", "c"):
        await keystore.insert(record(name))
    await keystore.save_keyring(KeyringRecord("b", LATE))
    assert list(await keystore.list_keyrings(after="aa")) == ["b", "c"]
    assert list(await keystore.list_keyrings(after="c")) == []


async def test_counts_add_up_and_unknown_ids_are_passed_over(keystore: Keystore) -> None:
    one, two = record(generation=1), record(generation=2, values_encrypted=2**45)
    await keystore.insert(one)
    await keystore.insert(two)
    await keystore.add_usage(
        {one.key_id: used(5, 1), two.key_id: used(2**45, 0), "0123456789abcd": used(1), "?": used()}
    )
    await keystore.add_usage({one.key_id: used(6, 2**50), two.key_id: used(0, 0)})
    await keystore.add_usage({})
    one, two = (replace(row, first_used_at=EARLY, last_used_at=LATE) for row in (one, two))
    assert await keystore.get(one.key_id) == replace(one, values_encrypted=11, values_decrypted=2**50 + 1)
    assert await keystore.get(two.key_id) == replace(two, values_encrypted=2**46)


@pytest.mark.parametrize(
    ("first_at", "last_at", "earliest", "latest"),
    [
        (EARLY, LATER, EARLY, LATER),
        (LATE, LATE, EARLY, LATE),
        (EARLY - timedelta(microseconds=1), EARLY, EARLY - timedelta(microseconds=1), LATE),
        (LATER, LATER, EARLY, LATER),
        # As text, later: 23:59 of the day before, ten hours east.
        (
            EARLY.astimezone(timezone(timedelta(hours=-10))),
            LATER.astimezone(timezone(timedelta(hours=10))),
            EARLY,
            LATER,
        ),
    ],
)
async def test_the_first_use_only_becomes_earlier_and_the_last_only_later(
    keystore: Keystore, first_at: datetime, last_at: datetime, earliest: datetime, latest: datetime
) -> None:
    stored = record()
    await keystore.insert(stored)
    await keystore.add_usage({stored.key_id: used(1)})
    await keystore.add_usage({stored.key_id: used(1, 0, first_at, last_at)})
    found = await keystore.get(stored.key_id)
    assert found is not None
    assert (found.first_used_at, found.last_used_at) == (earliest, latest)


async def test_a_count_stays_at_the_highest_that_can_be_stored(keystore: Keystore) -> None:
    stored = record(values_encrypted=2**63 - 3)
    await keystore.insert(stored)
    await keystore.add_usage({stored.key_id: used(2, 2**63 - 1)})
    await keystore.add_usage({stored.key_id: used(7, 1)})
    found = await keystore.get(stored.key_id)
    assert found is not None
    assert (found.values_encrypted, found.values_decrypted) == (2**63 - 1, 2**63 - 1)


async def test_concurrent_counts_are_not_lost(opener: Opener) -> None:
    first, second = await opener(), await opener()
    stored = [record(generation=generation) for generation in range(1, 4)]
    for row in stored:
        await first.insert(row)
    forth = {row.key_id: used(3, 1) for row in stored}
    # In the other order, which must not make two of them wait for each other.
    back = dict(reversed(forth.items()))
    await asyncio.gather(
        *(store.add_usage(usage) for _ in range(5) for store, usage in ((first, forth), (second, back)))
    )
    found = await second.get_many(forth)
    assert {(row.values_encrypted, row.values_decrypted) for row in found.values()} == {(30, 10)}


@pytest.mark.parametrize("wrong", [used(-1), used(0, -1), used(2**63), used(last_at=datetime(2026, 1, 1))])  # noqa: DTZ001
async def test_a_use_that_could_not_be_stored_is_refused(keystore: Keystore, wrong: Usage) -> None:
    with pytest.raises(ValueError, match=r"negative|time zone"):
        await keystore.add_usage({"0123456789abcd": wrong})
