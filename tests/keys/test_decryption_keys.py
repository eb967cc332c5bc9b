"""Data keys for decryption: found, refused, remembered, and kept through outages."""

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any

import pytest

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.format import RowFailure
from sidecar.errors import (
    CorruptKeyError,
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
)
from sidecar.keystore.port import KeyState
from tests.keys.settling import fetches_done, turns
from tests.keys.world import FAILURE_SECONDS, TTL, World, encrypted

TICK = 1 / 64
UNKNOWN = "0123456789abcd"
Logs = list[MutableMapping[str, Any]]


@pytest.fixture
async def maker() -> World:
    """A sidecar that has made a data key."""
    world = await World().opened()
    await world.keyrings.primary("default")
    return world


@pytest.fixture
async def reader(maker: World) -> World:
    """Another sidecar on the same keystore, whose cache is cold."""
    return await maker.second().opened()


async def answer(world: World, key_id: str, keyring: str | None = None) -> DataKeyCipher | RowFailure:
    """What one data key gives."""
    return (await world.keyrings.for_decryption([key_id], keyring))[key_id]


async def test_400_calls_on_a_cold_cache_make_one_unwrap_a_data_key(maker: World, reader: World) -> None:
    assert await maker.data_keys.make("default", 2)
    ids = [maker.row(generation).key_id for generation in (1, 2)]
    before = maker.kms.unwraps
    answers = await asyncio.gather(*(reader.keyrings.for_decryption(ids, None) for _ in range(400)))
    assert maker.kms.unwraps - before == 2
    assert reader.store.calls == {"get_many": 1}
    assert all(answer == answers[0] for answer in answers)
    assert [cipher.key_id for cipher in answers[0].values() if isinstance(cipher, DataKeyCipher)] == ids


async def test_another_sidecar_reads_what_the_first_one_encrypted(maker: World, reader: World) -> None:
    cipher = await answer(reader, maker.row().key_id)
    assert isinstance(cipher, DataKeyCipher)
    assert encrypted(cipher) == encrypted((await maker.keyrings.primary("default")).cipher)


async def test_every_generation_decrypts(maker: World, reader: World) -> None:
    for generation in range(2, 6):
        assert await maker.data_keys.make("default", generation)
    found = await reader.keyrings.for_decryption(list(maker.store.rows), "default")
    assert {key_id: type(cipher) for key_id, cipher in found.items()} == dict.fromkeys(maker.store.rows, DataKeyCipher)


async def test_no_data_keys_are_no_question(reader: World) -> None:
    assert await reader.keyrings.for_decryption([], None) == {}
    assert reader.store.calls == {}


@pytest.mark.parametrize("warm", [False, True])
async def test_a_data_key_of_another_keyring_is_the_wrong_keyring(maker: World, reader: World, warm: bool) -> None:
    key_id = maker.row().key_id
    world = maker if warm else reader
    assert await answer(world, key_id, "other") is RowFailure.WRONG_KEYRING
    assert isinstance(await answer(world, key_id, "default"), DataKeyCipher)


Setup = Callable[[World], None]


def _kms(error: SidekeyError) -> Setup:
    def fail(world: World) -> None:
        world.kms.fail_unwrap_with = error

    return fail


def _state(state: KeyState) -> Setup:
    def change(world: World) -> None:
        row = world.row()
        world.store.rows[row.key_id] = replace(row, state=state)

    return change


def _keystore_fails(world: World) -> None:
    world.store.fail_with = KeystoreUnavailableError("away")


def _corrupt(world: World) -> None:
    world.kms.corrupt_answers = True


def _lost(world: World) -> None:
    world.store.rows.clear()


PERMANENT = [
    pytest.param(_lost, RowFailure.UNKNOWN_KEY, id="lost"),
    pytest.param(_state(KeyState.DISABLED), RowFailure.KEY_DISABLED, id="disabled"),
    pytest.param(_state(KeyState.DESTROYED), RowFailure.KEY_DESTROYED, id="destroyed"),
    pytest.param(_kms(KmsDisabledError("off")), RowFailure.KEY_DISABLED, id="wrapping key disabled"),
    pytest.param(_kms(KmsDeniedError("no")), RowFailure.PERMISSION_DENIED, id="denied"),
    pytest.param(_kms(CorruptKeyError("bad")), RowFailure.KEY_CORRUPT, id="corrupt"),
    pytest.param(_corrupt, RowFailure.KEY_CORRUPT, id="another key"),
]
OUTAGES = [
    pytest.param(_kms(KmsThrottledError("slow down")), RowFailure.KEY_UNAVAILABLE, id="throttled"),
    pytest.param(_kms(KmsUnavailableError("away")), RowFailure.KEY_UNAVAILABLE, id="unavailable"),
    pytest.param(_keystore_fails, RowFailure.KEY_UNAVAILABLE, id="keystore"),
]


@pytest.mark.parametrize(("setup", "failure"), PERMANENT + OUTAGES)
async def test_what_fails_a_cold_data_key_is_the_failure_of_its_rows(
    reader: World, setup: Setup, failure: RowFailure
) -> None:
    key_id = reader.row().key_id
    setup(reader)
    assert await answer(reader, key_id) is failure
    assert await answer(reader, key_id, "default") is failure
    assert failure.retryable == (failure is RowFailure.KEY_UNAVAILABLE)


async def test_one_bad_data_key_leaves_the_others_alone(maker: World, reader: World) -> None:
    key_id = maker.row().key_id
    found = await reader.keyrings.for_decryption([UNKNOWN, key_id], None)
    assert found[UNKNOWN] is RowFailure.UNKNOWN_KEY
    assert isinstance(found[key_id], DataKeyCipher)


async def test_a_defect_is_not_passed_off_as_a_failure_of_rows(reader: World) -> None:
    reader.store.fail_with = RuntimeError("a defect")
    with pytest.raises(RuntimeError):
        await answer(reader, reader.row().key_id)


@pytest.mark.parametrize(("setup", "failure"), PERMANENT)
async def test_a_permanent_failure_evicts_a_cached_data_key_at_once(
    maker: World, setup: Setup, failure: RowFailure
) -> None:
    key_id = maker.row().key_id
    assert isinstance(await answer(maker, key_id), DataKeyCipher)
    setup(maker)
    maker.clock.advance(TTL * 0.75)
    maker.keyrings.sweep()
    await fetches_done()
    assert await answer(maker, key_id) is failure
    assert maker.metric("sidekey_cache_evictions_total", cause="refused") == 1


@pytest.mark.parametrize(("setup", "failure"), OUTAGES)
async def test_an_outage_leaves_a_cached_data_key_until_its_expiry(
    maker: World, setup: Setup, failure: RowFailure
) -> None:
    key_id = maker.row().key_id
    setup(maker)
    while maker.clock.monotonic() < 1000.0 + TTL:
        assert isinstance(await answer(maker, key_id), DataKeyCipher)
        assert (await maker.keyrings.primary("default")).key_id == key_id
        maker.keyrings.sweep()
        await turns()
        maker.clock.advance(3.0)
    assert await answer(maker, key_id) is failure
    with pytest.raises(SidekeyError) as caught:
        await maker.keyrings.primary("default")
    assert type(caught.value) in {KmsThrottledError, KmsUnavailableError, KeystoreUnavailableError}
    assert maker.metric("sidekey_cache_refreshes_total", result="retry") >= 4
    assert maker.metric("sidekey_cache_lookups_total", result="stale") > 0


async def test_an_outage_ends_with_the_next_call_a_moment_later(reader: World) -> None:
    key_id = reader.row().key_id
    reader.kms.fail_unwrap_with = KmsUnavailableError("away")
    assert await answer(reader, key_id) is RowFailure.KEY_UNAVAILABLE
    reader.kms.fail_unwrap_with = None
    reader.clock.advance(1.0)
    assert isinstance(await answer(reader, key_id), DataKeyCipher)


async def test_a_sweep_refreshes_data_keys_in_use_and_no_call_waits(maker: World) -> None:
    key_id = maker.row().key_id
    for _ in range(60 * 4):
        assert isinstance(await answer(maker, key_id), DataKeyCipher)
        maker.clock.advance(TTL / 60)
        maker.keyrings.sweep()
        await fetches_done()
    assert maker.metric("sidekey_cache_lookups_total", result="miss") == 0
    refreshed = maker.metric("sidekey_cache_refreshes_total", result="ok")
    assert refreshed == maker.kms.unwraps - 1 == 5  # every 225 of 1,200 seconds


async def test_an_unknown_key_id_reads_the_keystore_once_and_is_remembered(reader: World) -> None:
    answers = await asyncio.gather(*(answer(reader, UNKNOWN) for _ in range(400)))
    assert set(answers) == {RowFailure.UNKNOWN_KEY}
    reader.clock.advance(FAILURE_SECONDS - TICK)
    assert await answer(reader, UNKNOWN) is RowFailure.UNKNOWN_KEY
    assert reader.store.calls == {"get_many": 1}
    reader.clock.advance(TICK)
    assert await answer(reader, UNKNOWN) is RowFailure.UNKNOWN_KEY
    assert reader.store.calls == {"get_many": 2}


async def test_a_data_key_that_another_sidecar_stored_is_found_at_once_or_after_the_memory_ends(
    maker: World, reader: World
) -> None:
    made = await maker.data_keys.make("default", 2)
    assert made is not None
    _, record = made
    assert isinstance(await answer(reader, record.key_id), DataKeyCipher)
    hidden = maker.store.rows.pop(record.key_id)
    third = await maker.second().opened()
    assert await answer(third, record.key_id) is RowFailure.UNKNOWN_KEY
    maker.store.rows[record.key_id] = hidden
    third.clock.advance(FAILURE_SECONDS)
    assert isinstance(await answer(third, record.key_id), DataKeyCipher)


async def test_the_cache_stays_within_its_bounds(maker: World) -> None:
    small = await maker.second(max_entries=3).opened()
    for generation in range(2, 9):
        assert await maker.data_keys.make("default", generation)
    found = await small.keyrings.for_decryption(list(maker.store.rows), None)
    assert all(isinstance(cipher, DataKeyCipher) for cipher in found.values())
    assert small.keyrings.cached_keys == small.metric("sidekey_cache_size") == 3
    assert small.metric("sidekey_cache_evictions_total", cause="capacity") == 5


async def test_close_forgets_all_data_keys(maker: World) -> None:
    await maker.keyrings.close()
    assert maker.keyrings.cached_keys == maker.metric("sidekey_cache_size") == 0


async def test_thousands_of_unknown_data_keys_are_one_round_trip_and_no_call_of_the_kms(reader: World) -> None:
    key_ids = [f"{number:014x}" for number in range(1, 4001)]
    before = reader.kms.unwraps
    found = await reader.keyrings.for_decryption(key_ids, None)
    assert set(found.values()) == {RowFailure.UNKNOWN_KEY}
    assert reader.store.calls == {"get_many": 1}
    assert reader.kms.unwraps == before


async def test_a_corrupt_data_key_is_loud_once_for_each_look_and_counted(reader: World, logs: Logs) -> None:
    row = reader.row()
    reader.kms.corrupt_answers = True
    for _ in range(3):
        assert await answer(reader, row.key_id) is RowFailure.KEY_CORRUPT
    (line,) = [line for line in logs if line["event"] == "data_key_corrupt"]
    named = (line["log_level"], line["key_id"], line["keyring"], line["kek_id"])
    assert named == ("error", row.key_id, "default", row.kek_id)
    assert reader.metric("sidekey_corrupt_data_keys_total") == 1
    reader.clock.advance(FAILURE_SECONDS)
    assert await answer(reader, row.key_id) is RowFailure.KEY_CORRUPT
    assert sum(line["event"] == "data_key_corrupt" for line in logs) == 2


async def test_a_row_that_vanished_while_its_data_key_was_cached_is_loud(maker: World, logs: Logs) -> None:
    row = maker.row()
    maker.store.rows.clear()
    maker.clock.advance(TTL * 0.8)
    assert isinstance(await answer(maker, row.key_id), DataKeyCipher)
    await fetches_done()
    assert await answer(maker, row.key_id) is RowFailure.UNKNOWN_KEY
    (line,) = [line for line in logs if line["event"] == "data_key_vanished"]
    assert (line["log_level"], line["key_id"], line["keyring"]) == ("error", row.key_id, "default")
    assert "restore its row" in line["hint"]
