"""Rollover: ahead and in the background, at first use, by another sidecar, or put off by an outage."""

import asyncio
import itertools
import math
from collections.abc import MutableMapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.errors import KeystoreUnavailableError, KmsDeniedError, KmsUnavailableError
from sidecar.keys.rollover import MOST_VALUES, RolloverSchedule
from sidecar.keystore.port import KeyState
from tests.keys.settling import fetches_done, turns
from tests.keys.world import DAY, TTL, World
from tests.keystore.records import record

MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OVERDUE = "sidekey_rollover_overdue"
Logs = list[MutableMapping[str, Any]]


@pytest.fixture
async def world() -> World:
    """A sidecar that rolls over every 10 days, an hour ahead."""
    return await World(period=timedelta(days=10)).opened()


async def live(world: World, seconds: float, step: float = 60.0) -> None:
    """Time passes, with the keyring in use and its caches swept; no call waits for a fetch."""
    until = world.clock.monotonic() + seconds
    while world.clock.monotonic() < until:
        world.clock.advance(step)
        call = asyncio.create_task(world.keyrings.primary("default"))
        await asyncio.sleep(0)
        assert call.done(), "a call had to wait"
        await call
        world.keyrings.sweep()
        await fetches_done()


@pytest.mark.parametrize("period", [timedelta(0), timedelta(seconds=-1)], ids=str)
def test_a_period_of_nothing_is_refused(period: timedelta) -> None:
    with pytest.raises(ValueError, match="more than 0 days"):
        RolloverSchedule(period)


@pytest.mark.parametrize(
    ("days", "lead"),
    [(365.0, 3600.0), (1.0, 3600.0), (0.5, 2160.0), (1 / 24, 180.0), (1 / DAY, 0.05)],
)
def test_a_rollover_is_prepared_ahead_by_a_twentieth_of_the_period_and_an_hour_at_most(
    days: float, lead: float
) -> None:
    schedule = RolloverSchedule(timedelta(days=days))
    primary = record(created_at=MADE_AT)
    due = MADE_AT + timedelta(days=days)
    prepare = due - timedelta(seconds=lead)
    tick = timedelta(microseconds=1)
    assert schedule.due_at(primary) == due
    assert schedule.prepare_at(primary, 0.0) == prepare
    moments = (prepare - tick, prepare, due)
    assert [schedule.wants_rollover(primary, moment, 0, 0.0) for moment in moments] == [False, True, True]
    assert [schedule.is_overdue(primary, moment, 0) for moment in moments] == [False, False, True]
    assert schedule.prepare_at(primary, 0.5) == due - timedelta(seconds=lead) / 2


@pytest.mark.parametrize(
    ("most", "spent", "wants", "overdue"),
    [
        *((1000, 899, False, False), (1000, 900, True, False), (1000, 999, True, False), (1000, 1000, True, True)),
        *((1, 0, False, False), (1, 1, True, True)),
        *((MOST_VALUES, MOST_VALUES // 10 * 9 - 1, False, False), (MOST_VALUES, MOST_VALUES, True, True)),
    ],
)
def test_a_primary_wants_a_successor_at_nine_tenths_of_its_budget_of_values(
    most: int, spent: int, wants: bool, overdue: bool
) -> None:
    for period in (timedelta(days=365), None):
        schedule = RolloverSchedule(period, most)
        primary = record(created_at=MADE_AT)
        assert schedule.wants_rollover(primary, MADE_AT, spent, 0.0) is wants
        assert schedule.is_overdue(primary, MADE_AT, spent) is overdue


@pytest.mark.parametrize("most", [0, -1, MOST_VALUES + 1])
def test_a_budget_of_nothing_or_beyond_what_the_cipher_is_good_for_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match="values"):
        RolloverSchedule(None, most)


def test_a_period_of_never_makes_no_primary_old() -> None:
    schedule = RolloverSchedule(None)
    primary = record(created_at=MADE_AT)
    late = MADE_AT + timedelta(days=36_500)
    assert schedule.due_at(primary) is schedule.prepare_at(primary, 0.0) is None
    assert not schedule.wants_rollover(primary, late, 0, 0.0)
    assert schedule.seconds_to_rollover(primary, late, 0, 0.0) == math.inf


@pytest.mark.parametrize(
    ("age", "spent", "seconds"),
    [
        *((100.0, 0, 30.0), (100.0, 100, 30.0), (-100.0, 100, 30.0)),
        (100.0, 800, 6.25),  # eight values a second: the 900th comes in 12.5 seconds, and half of them are waited
        *((100.0, 898, 1.0), (100.0, 900, 0.0)),
        *((864_000.0 - 3600.0 - 10.0, 0, 10.0), (864_000.0, 0, 0.0)),
    ],
)
def test_the_end_of_a_budget_is_foreseen_at_the_speed_so_far(age: float, spent: int, seconds: float) -> None:
    schedule = RolloverSchedule(timedelta(days=10), 1000)
    now = MADE_AT + timedelta(seconds=age)
    assert schedule.seconds_to_rollover(record(created_at=MADE_AT), now, spent, 0.0) == seconds


def test_a_budget_that_nobody_spends_soon_is_not_looked_at_every_half_minute() -> None:
    schedule = RolloverSchedule(timedelta(days=10))
    now = MADE_AT + timedelta(seconds=100)
    assert schedule.seconds_to_rollover(record(created_at=MADE_AT), now, 10**6, 0.0) == 864_000 - 3600 - 100


def test_a_clock_that_was_set_back_makes_no_primary_old_before_its_time() -> None:
    schedule = RolloverSchedule(timedelta(days=1))
    assert not schedule.wants_rollover(record(created_at=MADE_AT), MADE_AT - timedelta(days=1000), 0, 0.0)


async def test_a_keyring_in_use_rolls_over_ahead_and_no_call_waits(world: World, logs: Logs) -> None:
    first = await world.keyrings.primary("default")
    await live(world, 10 * DAY - 3600 - 120, step=120.0)
    assert world.generations() == [1]
    await live(world, 240.0)
    second = await world.keyrings.primary("default")
    assert world.generations() == [1, 2]
    assert (first.key_id, second.key_id) == (world.row(1).key_id, world.row(2).key_id)
    assert world.clock.now() < MADE_AT + timedelta(days=10) - timedelta(minutes=55)
    assert [line["generation"] for line in logs if line["event"] == "rolled_over"] == [2]
    assert world.metric("sidekey_rollovers_total", result="made") == 1
    made = {cause: world.metric("sidekey_data_keys_made_total", cause=cause) for cause in ("first", "rollover")}
    assert made == {"first": 1, "rollover": 1}


async def test_old_values_decrypt_after_a_rollover(world: World) -> None:
    first = await world.keyrings.primary("default")
    world.clock.advance(11 * DAY)
    await world.keyrings.primary("default")
    found = await world.keyrings.for_decryption([first.key_id], "default")
    assert getattr(found[first.key_id], "key_id", None) == first.key_id


async def test_an_overdue_keyring_rolls_over_at_its_first_use(world: World) -> None:
    await world.keyrings.primary("default")
    world.clock.advance(400 * DAY)
    keys = await asyncio.gather(*(world.keyrings.primary("default") for _ in range(400)))
    assert {key.key_id for key in keys} == {world.row(2).key_id}
    assert world.generations() == [1, 2]
    assert world.kms.wraps == 2
    assert world.metric(OVERDUE, keyring="default") == 0


async def test_a_keyring_that_is_not_used_is_left_alone(world: World) -> None:
    await world.keyrings.primary("default")
    for _ in range(100):
        world.clock.advance(DAY)
        world.keyrings.sweep()
        await fetches_done()
    assert world.generations() == [1]


async def test_the_new_primary_is_durable_before_it_encrypts(world: World) -> None:
    await world.keyrings.primary("default")
    world.clock.advance(11 * DAY)
    world.store.journal.clear()
    second = await world.keyrings.primary("default")
    assert world.store.journal == ["wrap", "unwrap", "insert"]
    assert second.key_id in world.store.rows


@pytest.mark.parametrize("error", [KmsUnavailableError("away"), KmsDeniedError("no")], ids=repr)
async def test_with_the_kms_down_the_old_primary_goes_on_and_says_so(
    world: World, logs: Logs, error: Exception
) -> None:
    first = await world.keyrings.primary("default")
    await live(world, 10 * DAY - 3600 - 300, step=120.0)
    world.kms.fail_wrap_with = error
    await live(world, 1800.0, step=20.0)
    assert world.generations() == [1]
    assert 1500 / 40 <= world.metric("sidekey_rollovers_total", result="failed") <= 1500 / 30 + 1  # every 30 seconds
    assert world.metric(OVERDUE, keyring="default") == 0  # ahead of its time still
    assert not [line for line in logs if line["event"] == "rollover_postponed" and line["overdue"]]
    await live(world, 3600.0, step=20.0)
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    assert world.metric(OVERDUE, keyring="default") == 1
    line = [line for line in logs if line["event"] == "rollover_postponed"][-1]
    assert (line["log_level"], line["keyring"], line["generation"], line["overdue"]) == ("warning", "default", 1, True)
    world.kms.fail_wrap_with = None
    await live(world, 60.0, step=20.0)
    assert world.generations() == [1, 2]
    assert (await world.keyrings.primary("default")).key_id == world.row(2).key_id
    assert world.metric(OVERDUE, keyring="default") == 0


async def test_an_overdue_primary_goes_on_at_first_use_with_the_kms_down(world: World) -> None:
    """The data key itself is cached elsewhere or unwraps: only the wrap of a new one fails."""
    first = await world.keyrings.primary("default")
    world.clock.advance(11 * DAY)
    world.kms.fail_wrap_with = KmsUnavailableError("away")
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    assert world.metric("sidekey_rollovers_total", result="failed") == 1
    assert world.metric(OVERDUE, keyring="default") == 1


async def test_a_primary_that_outlives_its_time_while_the_keystore_is_away_is_said_to_be_overdue() -> None:
    world = await World(period=timedelta(days=10), stale_on_outage_seconds=11 * DAY).opened()
    first = await world.keyrings.primary("default")
    await live(world, 10 * DAY - 7200, step=120.0)
    world.store.fail_with = KeystoreUnavailableError("away")
    await live(world, 3600.0, step=60.0)
    assert world.metric(OVERDUE, keyring="default") == 0
    await live(world, 7200.0, step=60.0)
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    assert world.metric(OVERDUE, keyring="default") == 1
    world.store.fail_with = None
    await live(world, 300.0, step=20.0)
    assert world.generations() == [1, 2]
    assert world.metric(OVERDUE, keyring="default") == 0


async def test_a_rollover_that_cannot_be_stored_is_put_off(world: World) -> None:
    first = await world.keyrings.primary("default")
    world.clock.advance(11 * DAY)
    world.store.fail_inserts_with = KeystoreUnavailableError("away")
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    assert world.generations() == [1]


async def test_a_new_primary_that_does_not_unwrap_is_no_primary(world: World) -> None:
    first = await world.keyrings.primary("default")
    other = await world.second(period=timedelta(days=10)).opened()
    assert (await other.keyrings.primary("default")).key_id == first.key_id
    world.clock.advance(10 * DAY - 1800)
    world.kms.fail_unwrap_with = KmsDeniedError("no")
    with pytest.raises(KmsDeniedError):
        await other.keyrings.primary("default")
    assert world.generations() == [1]
    assert other.metric("sidekey_rollovers_total", result="failed") == 1


async def test_two_sidecars_that_race_for_a_generation_use_the_winners(world: World) -> None:
    other = await world.second(period=timedelta(days=10)).opened()
    for sidecar in (world, other):
        await sidecar.keyrings.primary("default")
    world.clock.advance(11 * DAY)
    world.kms.gate = asyncio.Event()
    calls = [asyncio.create_task(sidecar.keyrings.primary("default")) for sidecar in (world, other)]
    await turns()
    assert world.kms.wraps == 3
    world.kms.gate.set()
    first, second = await asyncio.gather(*calls)
    assert world.generations() == [1, 2]
    assert first.key_id == second.key_id == world.row(2).key_id
    assert sum(sidecar.metric("sidekey_rollovers_total", result="lost_race") for sidecar in (world, other)) == 1


async def test_a_rollover_elsewhere_is_followed_within_the_ttl(world: World) -> None:
    other = await world.second(period=timedelta(days=10)).opened()
    await world.keyrings.primary("default")
    await other.keyrings.primary("default")
    made = await other.data_keys.make("default", 2)
    assert made is not None
    await live(world, TTL, step=15.0)
    assert (await world.keyrings.primary("default")).key_id == made[1].key_id
    assert world.generations() == [1, 2]


async def test_a_rollover_elsewhere_while_the_kms_is_away_leaves_the_primary_that_is_known_here(world: World) -> None:
    first = await world.keyrings.primary("default")
    made = await world.data_keys.make("default", 2)
    assert made is not None
    world.kms.fail_unwrap_with = KmsUnavailableError("away")
    await live(world, TTL - 15.0, step=15.0)
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    world.kms.fail_unwrap_with = None
    world.clock.advance(15.0)
    assert (await world.keyrings.primary("default")).key_id == made[1].key_id


async def test_a_generation_that_was_disabled_is_not_made_again(world: World) -> None:
    for generation in (1, 2):
        assert await world.data_keys.make("default", generation)
    row = world.row(2)
    world.store.rows[row.key_id] = replace(row, state=KeyState.DISABLED)
    world.clock.advance(11 * DAY)
    assert (await world.keyrings.primary("default")).key_id == world.row(3).key_id


async def test_a_period_of_seconds_rolls_over_again_and_again() -> None:
    world = await World(period=timedelta(seconds=40)).opened()
    await world.keyrings.primary("default")
    await live(world, 200.0, step=0.5)
    assert world.generations() == [1, 2, 3, 4, 5, 6]
    made = [world.row(generation).created_at for generation in world.generations()]
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(made)]
    assert all(38.0 <= gap <= 40.0 for gap in gaps)


async def test_a_clock_set_back_rolls_nothing_over_and_nothing_twice(world: World) -> None:
    first = await world.keyrings.primary("default")
    world.clock.set_back(365 * DAY)
    await live(world, DAY, step=120.0)
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    assert world.generations() == [1]
    assert world.metric(OVERDUE, keyring="default") == 0


async def test_a_primary_whose_budget_is_spent_is_rolled_over_within_the_ttl(world: World) -> None:
    await world.keyrings.primary("default")
    row = world.row()
    world.store.rows[row.key_id] = replace(row, values_encrypted=MOST_VALUES)
    await live(world, TTL, step=15.0)
    assert (await world.keyrings.primary("default")).key_id == world.row(2).key_id


async def test_a_spent_budget_that_cannot_be_rolled_over_is_overdue_and_tried_again(world: World) -> None:
    first = await world.keyrings.primary("default")
    row = world.row()
    world.store.rows[row.key_id] = replace(row, values_encrypted=MOST_VALUES)
    world.kms.fail_wrap_with = KmsUnavailableError("away")
    await live(world, 2 * TTL, step=15.0)
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    assert world.metric(OVERDUE, keyring="default") == 1
    world.kms.fail_wrap_with = None
    await live(world, 45.0, step=15.0)
    assert world.generations() == [1, 2]
    assert world.metric(OVERDUE, keyring="default") == 0


async def test_the_metrics_tell_the_age_of_the_primary_and_its_next_rollover(world: World) -> None:
    await world.keyrings.primary("default")
    world.clock.advance(2 * DAY)
    assert world.metric("sidekey_primary_age_seconds", keyring="default") == 2 * DAY
    assert world.metric("sidekey_primary_created_timestamp_seconds", keyring="default") == MADE_AT.timestamp()
    due = (MADE_AT + timedelta(days=10)).timestamp()
    assert world.metric("sidekey_next_rollover_timestamp_seconds", keyring="default") == due
