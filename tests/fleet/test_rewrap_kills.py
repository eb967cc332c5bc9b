"""A rewrap is killed at any moment: midway everything decrypts, and the next one goes on from there to the end."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.fleet.fleet import Fleet, Hand
from tests.fleet.kills import Kill, cases, kills
from tests.fleet.points import OF_A_REWRAP
from tests.kms.moto import MotoKms

# Of seconds; a machine that has other work too takes many times what a free one does.
pytestmark = pytest.mark.timeout(600)

KILLS = 10
"""Of one test, whose keystore each leaves to the next."""
DATA_KEYS = 4
_MOST_PASSES = 3
"""Of a point that a rewrap passes for each data key."""

Plugins = Mapping[str, Mapping[str, Any]]


@pytest.fixture
async def ways(fleet: Fleet, moto_kms: MotoKms, moto_server: str, others: str) -> tuple[Plugins, Plugins]:
    """Two configurations: each wraps under AWS or ``others``, and unwraps what the other one has wrapped."""
    fleet.environment |= {
        "AWS_ENDPOINT_URL_KMS": moto_server,
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "environment-secret-access-key",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    wraps, unwraps = {"isKms": True}, {"isKms": False, "formerKms": True}
    if others == "local":
        return {"aws": moto_kms.settings(**unwraps)}, {"aws": moto_kms.settings(**wraps)}
    other = (await moto_kms.client.create_key())["KeyMetadata"]["KeyId"]
    a, b = ({"keyId": key_id} for key_id in (moto_kms.key_id, other))
    return (
        {"a": moto_kms.settings(**wraps, **a), "b": moto_kms.settings(**unwraps, **b)},
        {"a": moto_kms.settings(**unwraps, **a), "b": moto_kms.settings(**wraps, **b)},
    )


@pytest.mark.parametrize("others", ["local", "AWS"])
@pytest.mark.parametrize("place", cases(sqlite=1, postgres=1, dynamodb=1), indirect=True)
async def test_a_kill_in_a_rewrap_leaves_every_data_key_whole_and_the_rest_to_the_next(
    fleet: Fleet, ways: tuple[Plugins, Plugins]
) -> None:
    here, there = ways
    witness = await fleet.start("witness", plugins=here)
    for generation in range(1, DATA_KEYS + 1):
        assert await witness.do("encrypt") == generation
        if generation < DATA_KEYS:
            await witness.do("rotate")
    seconds = await _seconds_of_a_rewrap(fleet, there)
    for round_, kill in enumerate(kills(OF_A_REWRAP, fleet.url, fleet.chance, count=KILLS, most_passes=_MOST_PASSES)):
        plugins = here if round_ % 2 == 0 else there
        (before,) = {row.kek_id for row in await fleet.rows()}
        victim = await fleet.start(f"victim-{round_}", plugins=plugins, point=kill.point, passes=kill.passes)
        await _killed_in_a_rewrap(fleet, victim, witness, kill, seconds)
        successor = await fleet.start(f"successor-{round_}", plugins=plugins)
        await fleet.check(DATA_KEYS)
        await fleet.verify(successor, witness, cold=True)
        await _ended_by(fleet, successor, before)
        await fleet.verify(successor, cold=True)
        await fleet.kill(successor)


async def _seconds_of_a_rewrap(fleet: Fleet, plugins: Plugins) -> float:
    hand = await fleet.start("measured", plugins=plugins)
    began = time.monotonic()
    assert (await hand.do("rewrap"))["rewrapped"] == DATA_KEYS
    return time.monotonic() - began


async def _killed_in_a_rewrap(fleet: Fleet, victim: Hand, witness: Hand, kill: Kill, seconds: float) -> None:
    """The victim rewraps until it is killed, or at a drawn moment may have just ended; the witness encrypts."""
    await witness.do("begin")
    await victim.do("arm")
    rewrap = asyncio.create_task(victim.do_or_die("rewrap"))
    if kill.point is None:
        await asyncio.sleep(kill.after * seconds)
    else:
        assert await rewrap is None
    await fleet.kill(victim)
    await rewrap
    await witness.do("pause")


async def _ended_by(fleet: Fleet, successor: Hand, before: str) -> None:
    """It takes up what is left, and nothing else; after it there is nothing more to do."""
    done = sum(row.kek_id != before for row in await fleet.rows())
    told = await successor.do("rewrap")
    assert not told["failures"]
    # More may be done by then: what the victim had sent, the keystore may have carried out since.
    assert told["rewrapped"] == DATA_KEYS - told["unchanged"] <= DATA_KEYS - done
    rows = await fleet.rows()
    (after,) = {copy.kek_id for row in rows for copy in row.copies}
    assert after != before
    assert [len(row.copies) for row in rows] == [1] * DATA_KEYS
    assert await successor.do("rewrap") == {"rewrapped": 0, "unchanged": DATA_KEYS, "failures": []}
