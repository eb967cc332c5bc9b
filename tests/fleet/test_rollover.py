"""Sidecars of a fleet meet a rollover at the same moment, on every keystore: one new data key, and all take it up.

The bound is that of ``sidecar.keys.rollover``, on the fleet's own clock, which no slow machine can break.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.fleet.fleet import DAY, LEAD, TTL, Fleet, Hand
from tests.fleet.kills import cases

SIDECARS = 8
MAX_VALUES = 1_000
"""Under one data key, of those sidecars that have a budget."""
BUDGETS = 3
"""So many are spent."""
LATENCIES: dict[str, Any] = {"wrap_seconds": (0.0, 0.05), "keystore_seconds": (0.0, 0.02)}


@pytest.mark.parametrize("place", cases(sqlite=1, postgres=1, dynamodb=1), indirect=True)
async def test_each_crossing_makes_one_generation_that_all_take_up_within_the_ttl(fleet: Fleet) -> None:
    hands = [await fleet.start(f"sidecar-{number}", **LATENCIES) for number in range(SIDECARS)]
    await _all(hands, "begin")
    await _until_all_encrypt_with(hands, 1)
    generation = 1
    for meet in (_with_expired_primaries, _in_the_background, _by_the_ttl_alone) * 2:
        await meet(fleet, hands, generation)
        generation += 1
        await _until_all_encrypt_with(hands, generation)
        await _all(hands, "pause")
        await fleet.check(generation)
        await _all(hands, "begin")
    await _all(hands, "pause")
    await fleet.verify(*hands)
    await _followed_in_time(fleet)
    ends = [await hand.do("rollovers") for hand in hands]
    # One made each, whoever it was; and there were races, or this test has tried nothing.
    assert sum(end.get("made", 0) for end in ends) == generation - 1
    assert sum(end.get("lost_race", 0) for end in ends) > 0


@pytest.mark.parametrize("place", cases(sqlite=1, postgres=1, dynamodb=1), indirect=True)
async def test_a_budget_that_all_spend_together_is_crossed_once_for_each_generation(fleet: Fleet) -> None:
    terms: dict[str, Any] = {"roll_over_days": 36_500.0, "max_values": MAX_VALUES}
    hands = [await fleet.start(f"sidecar-{number}", **terms, **LATENCIES) for number in range(SIDECARS)]
    await _all(hands, "begin")
    async with asyncio.timeout(90):
        while len(await fleet.rows()) <= BUDGETS:
            await _all(hands, "flush")
            # All look at the primary anew, at once.
            fleet.clock.advance(TTL)
            await asyncio.sleep(0.1)
    await _all(hands, "pause")
    await fleet.check(len(await fleet.rows()))
    await fleet.verify(*hands)
    spent = Counter(entry.generation for entry in fleet.acknowledged())
    # A second crossing in the place of one would leave a generation that has encrypted next to nothing.
    assert min(spent[generation] for generation in range(1, BUDGETS + 1)) > MAX_VALUES / 2


async def _with_expired_primaries(fleet: Fleet, hands: list[Hand], generation: int) -> None:
    """All find their copy expired and the primary due, in one call."""
    await _all(hands, "pause")
    await fleet.check(generation)
    fleet.clock.advance(2 * DAY)
    await _all(hands, "begin")


async def _in_the_background(fleet: Fleet, hands: list[Hand], generation: int) -> None:
    """All have a copy that lives on while they roll over."""
    await _all(hands, "pause")
    fleet.clock.advance(DAY - LEAD)
    await _all(hands, "encrypt")
    await fleet.check(generation)
    await _all(hands, "begin")
    fleet.clock.advance(LEAD)


async def _by_the_ttl_alone(fleet: Fleet, hands: list[Hand], generation: int) -> None:
    """Each has a moment of its own in the lead window; whoever has not come to it follows when its copy expires."""
    await _all(hands, "pause")
    fleet.clock.advance(DAY - LEAD)
    await _all(hands, "encrypt")
    await _all(hands, "begin")
    while len(await fleet.rows()) == generation:
        # Never to the end of the window, at which all would be due: halfway to it each time.
        born = (await fleet.rows())[-1].created_at
        left = DAY - (fleet.clock.now() - born).total_seconds()
        fleet.clock.advance(left / 2)
        await asyncio.sleep(0.1)
    await _all(hands, "pause")
    fleet.clock.advance(TTL)
    await _all(hands, "begin")


async def _until_all_encrypt_with(hands: list[Hand], generation: int) -> None:
    async with asyncio.timeout(60):
        while min(await asyncio.gather(*(hand.do("encrypt") for hand in hands))) < generation:
            await _all(hands, "pause")
            await _all(hands, "begin")


async def _followed_in_time(fleet: Fleet) -> None:
    """No call that came a TTL after a data key was stored was encrypted by an older one."""
    stored = {row.generation: row.created_at for row in await fleet.rows()}
    for entry in fleet.acknowledged():
        due = [generation for generation, at in stored.items() if fleet.clock.date_of(entry.asked_at - TTL) >= at]
        assert entry.generation >= max(due, default=0)


async def _all(hands: list[Hand], what: str) -> None:
    await asyncio.gather(*(hand.do(what) for hand in hands))
