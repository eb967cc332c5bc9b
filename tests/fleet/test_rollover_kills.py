"""A sidecar is killed at any moment of a rollover: nothing that it acknowledged is lost, and the fleet goes on.

Of each kill there is a witness that encrypts as well, and a successor that begins after it.
"""

import asyncio
import time

import pytest

from tests.fleet.fleet import DAY, LEAD, Fleet, Hand
from tests.fleet.kills import Kill, cases, kills
from tests.fleet.points import OF_A_ROLLOVER

# Of seconds; a machine that has other work too takes many times what a free one does.
pytestmark = pytest.mark.timeout(600)

KILLS = 20
"""Of one test, whose keystore each leaves to the next."""
WRAP_SECONDS = (0.0, 0.004)


@pytest.mark.parametrize("place", cases(sqlite=3, postgres=3, dynamodb=2), indirect=True)
async def test_a_kill_in_a_rollover_loses_nothing_that_was_acknowledged(fleet: Fleet) -> None:
    witness = await fleet.start("witness", wrap_seconds=WRAP_SECONDS)
    await witness.do("encrypt")
    generation, seconds = 2, await _seconds_of_a_rollover(fleet, witness)
    for round_, kill in enumerate(kills(OF_A_ROLLOVER, fleet.url, fleet.chance, count=KILLS)):
        victim = await fleet.start(f"victim-{round_}", point=kill.point, passes=kill.passes, wrap_seconds=WRAP_SECONDS)
        # Cold: it was started after the last kill, and reads what that has left.
        await fleet.verify(victim)
        assert await victim.do("encrypt") == generation
        await _killed_in_a_rollover(fleet, victim, witness, kill, seconds)
        generation += 1
        await _rolled_over(witness, generation)
        await fleet.check(generation)
        await fleet.verify(witness)
    successor = await fleet.start("successor")
    await fleet.verify(successor, witness, cold=True)
    assert await successor.do("encrypt") == generation


async def _seconds_of_a_rollover(fleet: Fleet, hand: Hand) -> float:
    fleet.clock.advance(2 * DAY)
    began = time.monotonic()
    assert await hand.do("encrypt") == 2
    return time.monotonic() - began


async def _killed_in_a_rollover(fleet: Fleet, victim: Hand, witness: Hand, kill: Kill, seconds: float) -> None:
    """The victim rolls over and encrypts until it is killed; at drawn moments the witness does so too."""
    if kill.point is None:
        if fleet.chance.random() < 0.5:
            # Both have a copy of the primary that lives on, and roll over in the background.
            fleet.clock.advance(DAY - LEAD)
            await asyncio.gather(victim.do("encrypt"), witness.do("encrypt"))
            fleet.clock.advance(LEAD)
        else:
            fleet.clock.advance(2 * DAY)
        await witness.do("begin")
        await victim.do("begin")
        await asyncio.sleep(kill.after * seconds * 1.5)
    else:
        fleet.clock.advance(2 * DAY)
        await victim.do("arm")
        # It ends at its point by itself, and nobody else is about to make the data key.
        assert await victim.do_or_die("encrypt") is None
    await fleet.kill(victim)
    if kill.point is None:
        await witness.do("pause")


async def _rolled_over(hand: Hand, generation: int) -> None:
    """It encrypts with the new generation, whoever made it, as soon as what it has in the background is done."""
    async with asyncio.timeout(30):
        while await hand.do("encrypt") < generation:
            await hand.do("pause")
