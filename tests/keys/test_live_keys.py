"""All live data keys of a keyring, and looking up anew what was just changed."""

import asyncio
from dataclasses import replace

import pytest

from sidecar.crypto.format import RowFailure
from sidecar.errors import KeystoreUnavailableError, KmsUnavailableError, LimitExceededError, UnknownKeyringError
from sidecar.keys import live
from sidecar.keystore.port import KeyringRecord, KeyState
from tests.keys.settling import fetches_done, turns
from tests.keys.world import TTL, World
from tests.keystore.records import record


async def world_of(generations: int) -> World:
    """A sidecar with a keyring of so many data keys."""
    world = await World().opened()
    for generation in range(1, generations + 1):
        assert await world.data_keys.make("default", generation)
    return world


async def generations(world: World) -> list[int]:
    """Of the live data keys, as they come."""
    return [key.generation for key in await world.keyrings.live("default")]


async def test_live_data_keys_come_newest_first_and_cost_nothing_again() -> None:
    world = await world_of(5)
    world.change(2, state=KeyState.DISABLED)
    world.change(4, state=KeyState.DESTROYED, wrapped_key=b"")
    assert await generations(world) == [5, 3, 1]
    assert world.store.calls["list_keys"] == world.store.calls["get_many"] == 1
    calls = dict(world.store.calls)
    assert await generations(world) == [5, 3, 1]
    assert world.store.calls == calls


async def test_many_dead_generations_are_paged_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAGE", 3)
    world = await world_of(8)
    for generation in (1, 2, 3, 4, 5):
        world.change(generation, state=KeyState.DISABLED)
    assert await generations(world) == [8, 7, 6]


async def test_a_thousand_live_data_keys_are_the_limit() -> None:
    world = await World().opened()
    for generation in range(1, live.MOST_LIVE_KEYS + 2):
        row = record(generation=generation)
        world.store.rows[row.key_id] = row
    with pytest.raises(LimitExceededError, match="more than 1000 live data keys"):
        await world.keyrings.live("default")
    oldest = world.row(1)
    world.store.rows[oldest.key_id] = replace(oldest, state=KeyState.DISABLED)
    ids = await live.live_key_ids(world.store, "default")
    assert (len(ids), ids[0]) == (1000, world.row(1001).key_id)


async def test_a_keyring_that_nobody_made_is_unknown_and_one_without_live_data_keys_is_empty() -> None:
    world = await World().opened()
    with pytest.raises(UnknownKeyringError):
        await world.keyrings.live("default")
    assert await world.store.save_keyring(KeyringRecord("created", world.clock.now()))
    assert await world.keyrings.live("created") == []
    assert world.generations("created") == []


async def test_one_live_data_key_that_cannot_be_had_fails_the_whole() -> None:
    world = await world_of(3)
    world.kms.fail_unwrap_with = KmsUnavailableError("away")
    with pytest.raises(KmsUnavailableError):
        await world.keyrings.live("default")


async def test_a_data_key_that_was_disabled_since_is_left_out() -> None:
    world = await world_of(3)
    assert await generations(world) == [3, 2, 1]
    world.change(2, state=KeyState.DISABLED)
    world.keyrings.forget("other", world.row(2).key_id)
    assert await generations(world) == [3, 1]


async def test_a_new_primary_is_among_them_at_once_wherever_it_was_made() -> None:
    world = await world_of(1)
    other = await world.second().opened()
    assert await generations(world) == await generations(other) == [1]
    await world.keyrings.rotate("default")
    assert await generations(world) == [2, 1]
    await other.keyrings.primary("default")  # reads the primary, and sees that its list is too old
    assert await generations(other) == [2, 1]


async def test_what_another_sidecar_enabled_is_among_them_within_the_ttl() -> None:
    world = await world_of(2)
    world.change(1, state=KeyState.DISABLED)
    assert await generations(world) == [2]
    world.change(1, state=KeyState.ENABLED)
    world.clock.advance(TTL)
    assert await generations(world) == [2, 1]


async def test_no_query_is_answered_by_a_list_that_the_keystores_outage_has_made_too_old() -> None:
    world = await World(stale_on_outage_seconds=12 * TTL).opened()
    assert await world.data_keys.make("default", 1)
    assert await generations(world) == [1]
    world.store.fail_with = KeystoreUnavailableError("away")
    assert await (await world.second().opened()).data_keys.make("default", 2)
    for _ in range(3):
        world.clock.advance(TTL / 4)
        assert await generations(world) == [1]
        world.keyrings.sweep()
        await fetches_done()
    world.clock.advance(TTL / 4)
    with pytest.raises(KeystoreUnavailableError):
        await world.keyrings.live("default")
    world.store.fail_with = None
    world.clock.advance(TTL)
    assert await generations(world) == [2, 1]


async def test_what_is_forgotten_is_looked_up_anew_at_once() -> None:
    world = await world_of(2)
    first, second = world.row(1).key_id, world.row(2).key_id
    assert (await world.keyrings.primary("default")).key_id == second
    world.change(2, state=KeyState.DISABLED)
    world.keyrings.forget("default", second)
    assert (await world.keyrings.primary("default")).key_id == first
    assert await world.keyrings.for_decryption([second], None) == {second: RowFailure.KEY_DISABLED}
    world.change(2, state=KeyState.ENABLED)
    world.keyrings.forget("default", second)  # the memory of its failure is forgotten too
    assert (await world.keyrings.primary("default")).key_id == second


async def test_a_fetch_that_began_before_a_change_does_not_outlive_it() -> None:
    world = await world_of(1)
    key_id = world.row(1).key_id
    world.kms.gate = asyncio.Event()
    call = asyncio.create_task(world.keyrings.for_decryption([key_id], None))
    await turns()
    world.change(1, state=KeyState.DISABLED)
    world.keyrings.forget("default", key_id)
    world.kms.gate.set()
    await call
    await fetches_done()
    assert world.keyrings.cached_keys == 0
    assert await world.keyrings.for_decryption([key_id], None) == {key_id: RowFailure.KEY_DISABLED}


async def test_what_encrypts_here_is_among_the_live_data_keys_or_encrypts_no_more() -> None:
    """Another sidecar rotated, and disabled the data key that this one still has for its primary."""
    world = await World().opened()
    old = await world.keyrings.primary("default")
    assert await world.data_keys.make("default", 2)
    world.change(1, state=KeyState.DISABLED)
    assert (await world.keyrings.primary("default")).key_id == old.key_id
    live_ids = [key.key_id for key in await world.keyrings.live("default")]
    assert live_ids == [world.row(2).key_id]
    assert (await world.keyrings.primary("default")).key_id in live_ids
    assert await world.keyrings.for_decryption([old.key_id], None) == {old.key_id: RowFailure.KEY_DISABLED}
