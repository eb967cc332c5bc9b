"""A keyring's first data key, its primary, and what becomes of both when states change."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from sidecar.errors import (
    CorruptKeyError,
    KeyDestroyedError,
    KeyDisabledError,
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsUnavailableError,
    UnknownKeyringError,
)
from sidecar.keystore.port import DataKeyRecord, KeyState
from tests.fakes.keystore import MemoryKeystore
from tests.keys.settling import fetches_done, turns
from tests.keys.world import FAILURE_SECONDS, TTL, World, encrypted
from tests.keystore.records import record

TICK = 1 / 64


@pytest.fixture
async def world() -> World:
    return await World().opened()


def set_state(world: World, generation: int, state: KeyState) -> None:
    """What an operator does in the database."""
    row = world.row(generation)
    world.store.rows[row.key_id] = replace(row, state=state)


async def test_400_first_calls_make_one_data_key_with_one_wrap_and_one_unwrap(world: World) -> None:
    keys = await asyncio.gather(*(world.keyrings.primary("default") for _ in range(400)))
    assert {id(key) for key in keys} == {id(keys[0])}
    assert (world.kms.wraps, world.kms.unwraps) == (1, 1)
    assert world.generations() == [1]
    assert world.metric("sidekey_data_keys_made_total", cause="first") == 1
    assert world.metric("sidekey_rollovers_total", result="made") == 0


async def test_nobody_gets_a_data_key_before_it_is_durable(world: World) -> None:
    world.store.gate = asyncio.Event()
    calls = [asyncio.create_task(world.keyrings.primary("default")) for _ in range(400)]
    await turns()
    assert not any(call.done() for call in calls)
    world.store.gate.set()
    keys = await asyncio.gather(*calls)
    assert world.store.journal == ["wrap", "unwrap", "insert"]
    assert {key.key_id for key in keys} == set(world.store.rows)


async def test_every_keyring_has_its_own_data_key(world: World) -> None:
    first, second = [await world.keyrings.primary(name) for name in ("orders", "customers")]
    assert (first.keyring, second.keyring) == ("orders", "customers")
    assert encrypted(first.cipher)[8:] != encrypted(second.cipher)[8:]
    assert world.generations("orders") == world.generations("customers") == [1]


async def test_a_warm_keyring_asks_nobody(world: World) -> None:
    await world.keyrings.primary("default")
    calls = dict(world.store.calls)
    for _ in range(100):
        key = await world.keyrings.primary("default")
        found = await world.keyrings.for_decryption([key.key_id], "default")
        assert found == {key.key_id: key.cipher}
    assert (world.kms.wraps, world.kms.unwraps) == (1, 1)
    assert world.store.calls == calls
    assert world.metric("sidekey_cache_lookups_total", result="hit") == 202
    assert world.metric("sidekey_cache_lookups_total", result="miss") == 0


async def test_a_keyring_that_may_not_be_made_is_unknown_until_somebody_makes_it(world: World) -> None:
    strict = World(store=world.store, kms=world.kms, clock=world.clock, may_make=lambda name: name == "default")
    with pytest.raises(UnknownKeyringError, match="'other'"):
        await strict.keyrings.primary("other")
    assert world.store.rows == {}
    assert world.kms.wraps == 0
    made = await world.keyrings.primary("other")
    strict.clock.advance(FAILURE_SECONDS)
    assert (await strict.keyrings.primary("other")).key_id == made.key_id


@pytest.mark.parametrize("error", [KmsUnavailableError("away"), KmsDeniedError("no")], ids=repr)
async def test_a_kms_that_wraps_but_will_not_unwrap_costs_no_value(world: World, error: Exception) -> None:
    world.kms.fail_unwrap_with = error
    with pytest.raises(type(error)):
        await world.keyrings.primary("default")
    assert world.kms.wraps == 1
    assert world.store.rows == {}
    world.kms.fail_unwrap_with = None
    world.clock.advance(FAILURE_SECONDS)
    assert (await world.keyrings.primary("default")).key_id == world.row().key_id


async def test_a_kms_that_unwraps_to_something_else_costs_no_value(world: World) -> None:
    world.kms.corrupt_answers = True
    with pytest.raises(CorruptKeyError):
        await world.keyrings.primary("default")
    assert world.store.rows == {}


async def test_a_keystore_that_cannot_store_makes_no_data_key(world: World) -> None:
    world.store.fail_inserts_with = KeystoreUnavailableError("away")
    with pytest.raises(KeystoreUnavailableError):
        await world.keyrings.primary("default")
    assert world.keyrings.cached_keys == 0
    world.store.fail_inserts_with = None
    world.clock.advance(1.0)
    assert (await world.keyrings.primary("default")).key_id == world.row().key_id


async def test_two_sidecars_that_race_for_the_first_data_key_use_the_same(world: World) -> None:
    other = world.second()
    await other.store.open()
    world.kms.gate = asyncio.Event()
    calls = [asyncio.create_task(sidecar.keyrings.primary("default")) for sidecar in (world, other)]
    await turns()
    assert world.kms.wraps == 2
    world.kms.gate.set()
    first, second = await asyncio.gather(*calls)
    assert first.key_id == second.key_id == world.row().key_id
    assert encrypted(first.cipher) == encrypted(second.cipher)
    made = [sidecar.metric("sidekey_data_keys_made_total", cause="first") for sidecar in (world, other)]
    assert sorted(made) == [0, 1]
    assert not any(sidecar.metric("sidekey_rollovers_total", result="lost_race") for sidecar in (world, other))


async def test_a_race_won_by_a_data_key_that_is_disabled_already_is_an_outage_and_the_next_call_makes_one(
    world: World,
) -> None:
    world.kms.gate = asyncio.Event()
    call = asyncio.create_task(world.keyrings.primary("default"))
    await turns()
    winner = record(state=KeyState.DISABLED)
    world.store.rows[winner.key_id] = winner
    world.kms.gate.set()
    with pytest.raises(KeystoreUnavailableError):
        await call
    world.clock.advance(1.0)
    assert (await world.keyrings.primary("default")).key_id == world.row(2).key_id


@pytest.mark.parametrize(
    ("state", "error"), [(KeyState.DISABLED, KeyDisabledError), (KeyState.DESTROYED, KeyDestroyedError)]
)
async def test_a_change_of_state_is_seen_within_the_ttl(world: World, state: KeyState, error: type[Exception]) -> None:
    first = await world.keyrings.primary("default")
    set_state(world, 1, state)
    world.clock.advance(TTL - TICK)
    await world.keyrings.primary("default")
    await fetches_done()
    second = await world.keyrings.primary("default")
    assert second.key_id == world.row(2).key_id != first.key_id
    with pytest.raises(error):
        await world.data_keys.load(first.key_id)
    assert world.metric("sidekey_cache_refreshes_total", result="gone") == 1
    assert world.metric("sidekey_cache_evictions_total", cause="refused") == 1


async def test_with_its_primary_disabled_a_keyring_falls_back_to_the_newest_enabled(world: World) -> None:
    for generation in (1, 2, 3):
        assert await world.data_keys.make("default", generation)
    assert (await world.keyrings.primary("default")).key_id == world.row(3).key_id
    set_state(world, 3, KeyState.DISABLED)
    world.clock.advance(TTL)
    assert (await world.keyrings.primary("default")).key_id == world.row(2).key_id
    assert world.generations() == [1, 2, 3]


async def test_400_callers_of_a_disabled_primary_make_one_new_generation(world: World) -> None:
    first = await world.keyrings.primary("default")
    set_state(world, 1, KeyState.DISABLED)
    world.clock.advance(TTL * 0.75)
    await world.keyrings.for_decryption([first.key_id], None)  # refreshes the data key, and not the keyring's primary
    await fetches_done()
    keys = await asyncio.gather(*(world.keyrings.primary("default") for _ in range(400)))
    assert {key.key_id for key in keys} == {world.row(2).key_id}
    assert world.generations() == [1, 2]


async def test_a_primary_that_left_the_keystore_is_replaced(world: World) -> None:
    """A keystore restored from an old backup: ids are random, so nothing is mistaken for what it lost."""
    await world.keyrings.primary("default")
    world.store.rows.clear()
    world.clock.advance(TTL * 0.8)
    await world.keyrings.primary("default")
    await fetches_done()
    assert (await world.keyrings.primary("default")).key_id == world.row(1).key_id


async def test_a_keyring_that_exists_gets_a_new_generation_even_where_none_may_be_made(world: World) -> None:
    first = await world.keyrings.primary("default")
    set_state(world, 1, KeyState.DISABLED)
    strict = await world.second(may_make=lambda _name: False).opened()
    assert (await strict.keyrings.primary("default")).key_id == world.row(2).key_id != first.key_id


async def test_the_life_of_a_new_data_key_counts_from_before_it_was_wrapped(world: World) -> None:
    world.kms.gate = asyncio.Event()
    call = asyncio.create_task(world.keyrings.primary("default"))
    await turns()
    world.clock.advance(100.0)
    world.kms.gate.set()
    await call
    world.clock.advance(TTL - 100.0 - TICK)
    assert world.keyrings.cached_keys == 1
    world.clock.advance(TICK)
    assert world.keyrings.cached_keys == 0


class DisabledMeanwhile(MemoryKeystore):
    """An operator disables the second generation between two reads of one call."""

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        wanted = list(key_ids)
        for row in [self.rows[key_id] for key_id in wanted]:
            if row.generation == 2:
                self.rows[row.key_id] = replace(row, state=KeyState.DISABLED)
        return await super().get_many(wanted)


async def test_a_primary_that_is_disabled_while_it_is_looked_up_is_passed_over(world: World) -> None:
    for generation in (1, 2):
        assert await world.data_keys.make("default", generation)
    late = await World(store=DisabledMeanwhile(world.store.database), kms=world.kms, clock=world.clock).opened()
    assert (await late.keyrings.primary("default")).key_id == world.row(1).key_id
