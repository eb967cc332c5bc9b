"""A data key that was disabled in the keystore does not go on through an outage of the KMS."""

from dataclasses import replace

import pytest

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.format import RowFailure
from sidecar.errors import KeystoreUnavailableError, KmsUnavailableError
from sidecar.keys.outage import Pace
from sidecar.keystore.port import KeyState
from tests.keys.settling import fetches_done
from tests.keys.world import TTL, World

KEYRINGS = [f"k{number}" for number in range(50)]


async def _in_an_outage() -> tuple[World, dict[str, str]]:
    """A sidecar with fifty data keys in use, past their TTL, for which a KMS that is away is tried next to never."""
    world = await World(stale_on_outage_seconds=10 * TTL, pace=Pace(retries_per_second=0.001)).opened()
    key_ids = {keyring: (await world.keyrings.primary(keyring)).key_id for keyring in KEYRINGS}
    world.kms.fail_unwrap_with = KmsUnavailableError("away")
    for _ in range(25):
        world.clock.advance(TTL / 20)
        await world.keyrings.for_decryption(key_ids.values(), None)
        world.keyrings.sweep()
        await fetches_done()
    return world, key_ids


async def _working(world: World, key_ids: dict[str, str]) -> set[str]:
    answers = await world.keyrings.for_decryption(key_ids.values(), None)
    return {keyring for keyring, key_id in key_ids.items() if isinstance(answers[key_id], DataKeyCipher)}


@pytest.mark.parametrize(
    ("state", "failure"),
    [
        (KeyState.DISABLED, RowFailure.KEY_DISABLED),
        (KeyState.DESTROYED, RowFailure.KEY_DESTROYED),
        (None, RowFailure.UNKNOWN_KEY),
    ],
)
async def test_what_may_not_go_on_is_dropped_though_the_kms_is_away(
    state: KeyState | None, failure: RowFailure
) -> None:
    world, key_ids = await _in_an_outage()
    assert await _working(world, key_ids) == set(KEYRINGS)
    row = world.store.rows.pop(key_ids["k7"])
    if state is not None:
        world.store.rows[row.key_id] = replace(row, state=state)
    unwraps, reads = world.kms.unwraps, world.store.calls["get_many"]
    await world.keyrings.look_at_states()
    assert world.kms.unwraps == unwraps
    assert world.store.calls["get_many"] == reads + 1
    assert await _working(world, key_ids) == set(KEYRINGS) - {"k7"}
    assert (await world.keyrings.for_decryption([key_ids["k7"]], None)) == {key_ids["k7"]: failure}


async def test_where_the_keystore_is_away_too_nothing_is_dropped() -> None:
    world, key_ids = await _in_an_outage()
    world.store.fail_with = KeystoreUnavailableError("away")
    await world.keyrings.look_at_states()
    assert await _working(world, key_ids) == set(KEYRINGS)


async def test_without_an_outage_nothing_is_read() -> None:
    world = await World().opened()
    await world.keyrings.primary("default")
    calls = dict(world.store.calls)
    await world.keyrings.look_at_states()
    assert world.store.calls == calls
