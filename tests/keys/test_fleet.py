"""Several sidecars on one keystore: budgets, spread, rotation on demand, and clocks that disagree."""

import asyncio
from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any

import pytest

from sidecar.errors import KeystoreUnavailableError, KmsDeniedError, KmsUnavailableError, UnknownKeyringError
from sidecar.keys.rollover import own_spread
from sidecar.keystore.port import KeyState
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.keys.settling import fetches_done, turns
from tests.keys.world import DAY, TTL, World, encrypted

Logs = list[MutableMapping[str, Any]]


async def live(fleet: list[World], seconds: float, step: float) -> None:
    """Time passes for all, with the keyring in use and caches swept; clocks that are shared move once."""
    clocks = {id(world.clock): world.clock for world in fleet}.values()
    for _ in range(int(seconds / step)):
        for clock in clocks:
            clock.advance(step)
        for world in fleet:
            await world.keyrings.primary("default")
            world.keyrings.sweep()
            await fetches_done()


async def test_a_budget_of_values_is_counted_over_the_fleet_and_before_it_ends() -> None:
    world = await World(max_values=1000).opened()
    other = await world.second(max_values=1000).opened()
    first = await world.keyrings.primary("default")
    await other.keyrings.primary("default")
    for second in range(60):
        for sidecar in (world, other):
            sidecar.usage.encrypted((await sidecar.keyrings.primary("default")).key_id, 10)
            if second % 5 == 0:
                await sidecar.usage.flush()
        await live([world, other], 1.0, 1.0)
    for sidecar in (world, other):
        await sidecar.usage.flush()
    assert world.generations() == [1, 2]
    assert 900 <= world.row(1).values_encrypted <= 1000
    assert (await other.keyrings.primary("default")).key_id == world.row(2).key_id != first.key_id


async def test_counts_that_are_not_flushed_yet_count_for_the_budget() -> None:
    world = await World(max_values=1000).opened()
    first = await world.keyrings.primary("default")
    world.usage.encrypted(first.key_id, 900)
    world.clock.advance(TTL)
    assert (await world.keyrings.primary("default")).key_id == world.row(2).key_id


def test_every_sidecar_has_a_moment_of_its_own_for_each_data_key_and_keeps_to_it() -> None:
    spreads = [own_spread(bytes([number]) * 32) for number in range(64)]
    ids = [f"{number:014x}" for number in range(1, 65)]
    drawn = [[spread(key_id) for key_id in ids] for spread in spreads]
    assert drawn == [[spread(key_id) for key_id in ids] for spread in spreads]
    flat = [moment for row in drawn for moment in row]
    assert len(set(flat)) == 64 * 64
    assert 0 <= min(flat) < 0.01
    assert 0.99 < max(flat) < 1


async def test_a_fleet_does_not_meet_at_one_instant_and_one_wrap_makes_the_new_primary() -> None:
    period = timedelta(days=10)
    world = await World(period=period, spread=0.0).opened()
    fleet = [world] + [await world.second(period=period, spread=spread / 8).opened() for spread in range(1, 8)]
    for sidecar in fleet:
        await sidecar.keyrings.primary("default")
    world.clock.advance(10 * DAY - 7200)
    await live(fleet, 7200.0, 60.0)
    assert world.generations() == [1, 2]
    assert world.kms.wraps == 2
    made = world.row(2).created_at - world.row(1).created_at
    assert period - timedelta(hours=1) <= made < period - timedelta(minutes=50)
    for sidecar in fleet:
        assert (await sidecar.keyrings.primary("default")).key_id == world.row(2).key_id
    assert sum(sidecar.metric("sidekey_rollovers_total", result="lost_race") for sidecar in fleet) == 0


async def test_a_primary_that_was_made_between_two_reads_is_no_reason_for_another() -> None:
    world = await World(period=timedelta(days=10)).opened()
    await world.keyrings.primary("default")
    world.clock.advance(11 * DAY)
    world.store.gate = asyncio.Event()
    call = asyncio.create_task(world.keyrings.primary("default"))
    await turns()
    read = world.store.primary

    async def made_meanwhile(keyring: str) -> Any:
        found = await read(keyring)
        if world.generations() == [1]:
            assert await world.data_keys.make("default", 2)
        return found

    world.store.primary = made_meanwhile  # type: ignore[method-assign]
    world.store.gate.set()
    assert (await call).key_id == world.row(2).key_id
    assert world.generations() == [1, 2]


@pytest.mark.parametrize("ahead", [2 * 365 * DAY, -2 * 365 * DAY], ids=["ahead", "behind"])
async def test_two_clocks_that_disagree_make_no_storm_of_rollovers(ahead: float, logs: Logs) -> None:
    period = timedelta(days=10)
    world = await World(period=period).opened()
    wrong = FakeClock()
    if ahead > 0:
        wrong.advance(ahead)
    else:
        wrong.set_back(-ahead)
    other = await world.second(period=period, clock=wrong).opened()
    await live([world, other], 40 * DAY, TTL * 8)
    # Each sidecar alone would make five; the one ahead makes one more when it finds a primary that is old by its clock.
    assert 4 <= len(world.generations()) <= 6
    warned = [line["key_id"] for line in logs if line["event"] == "clock_disagrees"]
    assert warned
    assert len(warned) == len(set(warned))


async def test_a_clock_that_is_minutes_off_is_no_disagreement(logs: Logs) -> None:
    world = await World().opened()
    made = await world.data_keys.make("default", 1)
    assert made is not None
    world.change(created_at=world.clock.now() + timedelta(minutes=5))
    await world.keyrings.primary("default")
    assert not [line for line in logs if line["event"] == "clock_disagrees"]


async def test_rotation_makes_a_new_primary_that_encrypts_from_the_next_call_on() -> None:
    world = await World().opened()
    first = await world.keyrings.primary("default")
    calls = [asyncio.create_task(world.keyrings.rotate("default")) for _ in range(50)]
    records = await asyncio.gather(*calls)
    assert {record.key_id for record in records} == {world.row(2).key_id}
    assert world.generations() == [1, 2]
    asked = dict(world.store.calls)
    second = await world.keyrings.primary("default")
    assert second.key_id == world.row(2).key_id
    assert encrypted(second.cipher) != encrypted(first.cipher)
    assert world.store.calls == asked
    assert world.metric("sidekey_data_keys_made_total", cause="rotation") == 1
    assert not any(world.metric("sidekey_rollovers_total", result=result) for result in ("made", "lost_race"))
    assert isinstance((await world.keyrings.for_decryption([first.key_id], None))[first.key_id], type(first.cipher))


async def test_two_sidecars_that_rotate_at_once_make_one_generation() -> None:
    world = await World().opened()
    other = await world.second().opened()
    for sidecar in (world, other):
        await sidecar.keyrings.primary("default")
    world.kms.gate = asyncio.Event()
    calls = [asyncio.create_task(sidecar.keyrings.rotate("default")) for sidecar in (world, other)]
    await turns()
    world.kms.gate.set()
    first, second = await asyncio.gather(*calls)
    assert first.key_id == second.key_id == world.row(2).key_id
    assert world.generations() == [1, 2]


async def test_a_rotation_whose_race_was_won_by_a_key_that_is_disabled_already_is_told_to_try_again() -> None:
    world = await World().opened()
    await world.keyrings.primary("default")
    world.kms.gate = asyncio.Event()
    call = asyncio.create_task(world.keyrings.rotate("default"))
    await turns()
    other = await world.second().opened()
    gate, world.kms.gate = world.kms.gate, None
    made = await other.data_keys.make("default", 2)
    assert made is not None
    world.change(2, state=KeyState.DISABLED)
    gate.set()
    with pytest.raises(KeystoreUnavailableError):
        await call
    assert (await world.keyrings.rotate("default")).generation == 3


async def test_a_rotation_that_the_kms_prevents_changes_nothing_and_says_why() -> None:
    world = await World().opened()
    first = await world.keyrings.primary("default")
    world.kms.fail_wrap_with = KmsUnavailableError("away")
    with pytest.raises(KmsUnavailableError, match="away"):
        await world.keyrings.rotate("default")
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    assert world.generations() == [1]


async def with_another_kms(world: World, kek_id: str) -> World:
    store = MemoryKeystore(world.store.database)
    return await World(period=timedelta(days=10), store=store, kms=FakeKms(kek_id), clock=world.clock).opened()


@pytest.mark.parametrize("due", [False, True], ids=["rotation", "rollover"])
async def test_a_primary_that_no_wrapping_key_here_may_unwrap_is_not_replaced(logs: Logs, due: bool) -> None:
    world = await World(period=timedelta(days=10)).opened()
    await world.keyrings.primary("default")
    elsewhere = await with_another_kms(world, "fake:laptop")
    if due:
        world.clock.advance(11 * DAY)
    replaced = elsewhere.keyrings.primary("default") if due else elsewhere.keyrings.rotate("default")
    with pytest.raises(
        KmsDeniedError, match="is wrapped under fake:1, and the configured wrapping keys are fake:laptop"
    ):
        await replaced
    assert world.generations() == [1]
    assert elsewhere.kms.wraps == elsewhere.kms.unwraps == 0
    assert [line["key_id"] for line in logs if line["event"] == "data_key_wrapped_elsewhere"][:1] == [
        world.row().key_id
    ]
    await world.keyrings.primary("default")
    assert world.generations() == ([1, 2] if due else [1])


async def test_a_rotation_replaces_what_a_former_wrapping_key_may_still_unwrap() -> None:
    world = await World().opened()
    await world.keyrings.primary("default")
    moved = await with_another_kms(world, "fake:2")
    moved.kms.earlier_kek_ids.add("fake:1")
    assert (await moved.keyrings.rotate("default")).kek_id == "fake:2"


async def test_a_keyring_without_data_keys_is_not_rotated_into_being_unless_it_may_be_made() -> None:
    world = await World(may_make=lambda name: name == "default").opened()
    with pytest.raises(UnknownKeyringError):
        await world.keyrings.rotate("other")
    assert (await world.keyrings.rotate("default")).generation == 1
    assert world.metric("sidekey_data_keys_made_total", cause="first") == 1


async def test_a_caller_that_leaves_does_not_end_the_rotation() -> None:
    world = await World().opened()
    await world.keyrings.primary("default")
    world.kms.gate = asyncio.Event()
    leaving, staying = [asyncio.create_task(world.keyrings.rotate("default")) for _ in range(2)]
    await turns()
    leaving.cancel()
    await turns()
    world.kms.gate.set()
    assert (await staying).generation == 2
    assert leaving.cancelled()


async def test_close_ends_a_rotation_that_is_under_way() -> None:
    world = await World().opened()
    world.kms.gate = asyncio.Event()
    call = asyncio.create_task(world.keyrings.rotate("default"))
    await turns()
    await world.keyrings.close()
    with pytest.raises(asyncio.CancelledError):
        await call
