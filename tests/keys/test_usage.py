"""Counts of values encrypted: added to the keystore, and kept through whatever goes wrong."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from sidecar.errors import CorruptKeyError, KeystoreUnavailableError
from sidecar.keys.usage import UsageCounts
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryKeystore
from tests.keys.settling import turns
from tests.keystore.records import record

CLOCK = FakeClock()


@pytest.fixture
async def store() -> MemoryKeystore:
    store = MemoryKeystore()
    await store.open(upgrade=True)
    for generation in (1, 2):
        row = record(generation=generation)
        assert await store.insert(row)
    return store


@pytest.fixture
def ids(store: MemoryKeystore) -> list[str]:
    return list(store.rows)


def counts(store: MemoryKeystore) -> list[int]:
    """What the keystore has counted, by generation."""
    return [row.values_encrypted for row in store.rows.values()]


async def test_a_flush_adds_what_was_counted_since_the_last(store: MemoryKeystore, ids: list[str]) -> None:
    usage = UsageCounts(store, CLOCK)
    usage.encrypted(ids[0], 3)
    usage.encrypted(ids[1], 10)
    usage.encrypted(ids[0], 4)
    await usage.flush()
    assert counts(store) == [7, 10]
    usage.encrypted(ids[1], 1)
    await usage.flush()
    assert counts(store) == [7, 11]


async def test_nothing_counted_asks_nothing_of_the_keystore(store: MemoryKeystore) -> None:
    await UsageCounts(store, CLOCK).flush()
    assert "add_usage" not in store.calls


async def test_a_flush_that_fails_keeps_the_counts_and_says_so(
    store: MemoryKeystore, ids: list[str], logs: list[MutableMapping[str, Any]]
) -> None:
    usage = UsageCounts(store, CLOCK)
    usage.encrypted(ids[0], 3)
    store.fail_with = KeystoreUnavailableError("away")
    await usage.flush()
    assert [(line["event"], line["reason"]) for line in logs] == [("usage_not_flushed", "KEYSTORE_UNAVAILABLE")]
    usage.encrypted(ids[0], 4)
    store.fail_with = None
    await usage.flush()
    await usage.flush()
    assert counts(store) == [7, 0]


async def test_what_one_data_key_cannot_be_given_is_kept_and_said_and_no_other_is_counted_twice(
    store: MemoryKeystore, ids: list[str], logs: list[MutableMapping[str, Any]]
) -> None:
    usage = UsageCounts(store, CLOCK)
    store.fail_usage_with = {ids[0]: CorruptKeyError("damaged")}
    for _ in range(3):
        usage.encrypted(ids[0], 3)
        usage.encrypted(ids[1], 4)
        await usage.flush()
    assert counts(store) == [0, 12]
    assert (usage.unflushed(ids[0]), usage.unflushed(ids[1])) == (9, 0)
    line = {"event": "usage_not_flushed", "reason": "CORRUPT_KEY", "data_keys": 1, "key_id": ids[0]}
    assert [line.items() <= logged.items() for logged in logs] == [True] * 3
    store.fail_usage_with = {}
    await usage.flush()
    assert counts(store) == [9, 12]


async def test_a_defect_in_a_flush_keeps_the_counts(store: MemoryKeystore, ids: list[str]) -> None:
    usage = UsageCounts(store, CLOCK)
    usage.encrypted(ids[0], 3)
    store.fail_with = RuntimeError("a defect")
    with pytest.raises(RuntimeError):
        await usage.flush()
    store.fail_with = None
    await usage.flush()
    assert counts(store) == [3, 0]


async def test_a_flush_that_is_cancelled_keeps_the_counts_and_those_that_came_meanwhile(
    store: MemoryKeystore, ids: list[str]
) -> None:
    usage = UsageCounts(store, CLOCK)
    usage.encrypted(ids[0], 3)
    store.gate = asyncio.Event()
    flush = asyncio.create_task(usage.flush())
    await turns()
    usage.encrypted(ids[0], 4)
    usage.encrypted(ids[1], 5)
    flush.cancel()
    await asyncio.wait([flush])
    assert flush.cancelled()
    store.gate = None
    await usage.flush()
    assert counts(store) == [7, 5]


async def test_nothing_is_lost_between_adds_and_flushes_that_overlap_and_fail(
    store: MemoryKeystore, ids: list[str]
) -> None:
    usage = UsageCounts(store, CLOCK)

    async def encrypting(key_id: str) -> None:
        for _ in range(200):
            usage.encrypted(key_id, 1)
            await asyncio.sleep(0)

    async def flushing(fails: bool) -> None:
        for turn in range(60):
            store.fail_with = KeystoreUnavailableError("away") if fails and turn % 3 == 0 else None
            await usage.flush()
            await asyncio.sleep(0)

    await asyncio.gather(*(encrypting(key_id) for key_id in ids * 10), flushing(True), flushing(False))
    store.fail_with = None
    await usage.flush()
    assert counts(store) == [2000, 2000]


async def test_a_data_key_knows_what_it_was_used_for_and_when_first_and_last(
    store: MemoryKeystore, ids: list[str]
) -> None:
    clock = FakeClock()
    usage = UsageCounts(store, clock)
    first = clock.now()
    usage.decrypted(ids[0], 5)
    clock.advance(60.0)
    usage.encrypted(ids[0], 3)
    last = clock.now()
    clock.advance(60.0)
    usage.encrypted(ids[0], 0)  # a batch of NULLs is no use
    usage.decrypted(ids[1], 0)
    await usage.flush()
    row, unused = store.rows[ids[0]], store.rows[ids[1]]
    assert (row.values_encrypted, row.values_decrypted, row.first_used_at, row.last_used_at) == (3, 5, first, last)
    assert (unused.values_decrypted, unused.first_used_at, unused.last_used_at) == (0, None, None)


async def test_times_of_use_survive_a_flush_that_fails_and_a_clock_that_is_set_back(
    store: MemoryKeystore, ids: list[str]
) -> None:
    clock = FakeClock()
    usage = UsageCounts(store, clock)
    first = clock.now()
    usage.encrypted(ids[0], 1)
    store.fail_with = KeystoreUnavailableError("away")
    await usage.flush()
    clock.advance(60.0)
    last = clock.now()
    usage.decrypted(ids[0], 1)
    clock.set_back(30.0)
    usage.decrypted(ids[0], 1)
    await usage.flush()
    store.fail_with = None
    await usage.flush()
    row = store.rows[ids[0]]
    assert (row.values_encrypted, row.values_decrypted, row.first_used_at, row.last_used_at) == (1, 2, first, last)


async def test_what_is_not_flushed_is_known_while_it_is_on_its_way_too(store: MemoryKeystore, ids: list[str]) -> None:
    usage = UsageCounts(store, CLOCK)
    usage.encrypted(ids[0], 3)
    usage.decrypted(ids[0], 9)
    assert (usage.unflushed(ids[0]), usage.unflushed(ids[1])) == (3, 0)
    store.gate = asyncio.Event()
    flush = asyncio.create_task(usage.flush())
    await turns()
    usage.encrypted(ids[0], 4)
    assert usage.unflushed(ids[0]) == 7
    store.gate.set()
    await flush
    assert usage.unflushed(ids[0]) == 4
    assert store.calls["add_usage"] == 1
