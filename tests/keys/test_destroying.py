"""A data key is destroyed only when no sidecar can encrypt under it any more, whatever it has heard."""

from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.errors import KeystoreUnavailableError, KmsUnavailableError, StateTransitionError
from sidecar.keys.administration import Administration
from sidecar.keys.inventory import Inventory
from sidecar.keys.rewrapping import Rewrapping
from sidecar.keystore.port import KeyState
from tests.keys.settling import fetches_done
from tests.keys.world import TTL, World
from tests.keystore.records import record

DISABLED, DESTROYED = KeyState.DISABLED, KeyState.DESTROYED
STALE = 12 * TTL
WAIT = timedelta(seconds=STALE + 30)
MOMENT = timedelta(seconds=1)
DECADE = timedelta(days=3650)


def administration_of(world: World, wait: timedelta = WAIT) -> Administration:
    """Over a world's keyrings, as a sidecar has it."""
    return Administration(
        world.store,
        Inventory(world.store, lambda _name: world.terms),
        world.keyrings,
        Rewrapping(world.store, world.wrapping_keys),
        world.clock,
        disabled_before_destroyed=wait,
    )


@pytest.mark.parametrize(
    ("age", "wait", "refusal"),
    [
        (timedelta(0), WAIT, "may be destroyed from {due} on"),
        (WAIT - MOMENT, WAIT, "may be destroyed from {due} on"),
        (WAIT, WAIT, None),
        (DECADE, WAIT, None),
        (None, WAIT, None),
        (timedelta(0), timedelta(0), None),
        (-MOMENT, timedelta(0), None),
        (-WAIT, WAIT, "may be destroyed from {due} on"),
        (-WAIT - MOMENT, WAIT, "set the clocks right, or enable and disable it again"),
        (-2000 * DECADE // 10, WAIT, "set the clocks right, or enable and disable it again"),
        (DECADE, 10 * DECADE, "may be destroyed from {due} on"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_was_disabled_lately_is_not_destroyed_and_the_refusal_says_from_when_on_it_may_be(
    age: timedelta | None, wait: timedelta, refusal: str | None, *, dry_run: bool
) -> None:
    world = await World().opened()
    now = world.clock.now()
    key = record("pay", 1, state=DISABLED, state_changed_at=None if age is None else now - age)
    world.store.rows[key.key_id] = key
    administration = administration_of(world, wait)
    if refusal is None:
        await administration.set_key_state(key.key_id, DESTROYED, dry_run=dry_run)
    else:
        due = f"{now - (age or timedelta(0)) + wait + MOMENT:%Y-%m-%d %H:%M:%S} UTC"
        with pytest.raises(StateTransitionError, match=refusal.format(due=due)) as refused:
            await administration.set_key_state(key.key_id, DESTROYED, dry_run=dry_run)
        assert "may still encrypt under it" in str(refused.value)
    assert (world.store.rows[key.key_id].state is DESTROYED) == (refusal is None and not dry_run)


@pytest.mark.parametrize(
    ("ttl", "stale", "flush", "wait"),
    [
        (300, 3600, 30, 3630),
        (300, 0, 0.5, 300.5),
        (1e300, 3600, 30, 36_500 * 86_400),
        (300, 3600, 1e300, 36_500 * 86_400),
    ],
)
def test_the_wait_is_as_long_as_a_sidecar_may_encrypt_and_count_unheard_and_has_an_end(
    tmp_path: Path, ttl: float, stale: float, flush: float, wait: float
) -> None:
    settings = {"cache.ttlSeconds": ttl, "cache.staleOnOutageSeconds": stale, "usage.flushSeconds": flush}
    config = load(None, {}, {"dataDir": str(tmp_path), **settings})
    assert config.disabled_before_destroyed == timedelta(seconds=wait)


async def test_who_knows_better_destroys_it_at_once_but_nothing_that_is_enabled() -> None:
    world = await World().opened()
    key = record("pay", 1, state=DISABLED, state_changed_at=world.clock.now())
    other = record("pay", 2)
    for each in (key, other, record("pay", 3)):
        world.store.rows[each.key_id] = each
    await administration_of(world).set_key_state(key.key_id, DESTROYED, at_once=True)
    assert world.store.rows[key.key_id].state is DESTROYED
    with pytest.raises(StateTransitionError, match="disable it first"):
        await administration_of(world).set_key_state(other.key_id, DESTROYED, at_once=True)


async def test_what_is_disabled_again_waits_anew_and_a_date_to_come_is_so_got_rid_of() -> None:
    world = await World().opened()
    key = record("pay", 1, state=DISABLED, state_changed_at=world.clock.now() + DECADE)
    for each in (key, record("pay", 2)):
        world.store.rows[each.key_id] = each
    administration = administration_of(world)
    for state in (KeyState.ENABLED, DISABLED):
        await administration.set_key_state(key.key_id, state)
    with pytest.raises(StateTransitionError, match="may be destroyed from"):
        await administration.set_key_state(key.key_id, DESTROYED)
    world.clock.advance(WAIT.total_seconds())
    await administration.set_key_state(key.key_id, DESTROYED)


@pytest.mark.parametrize("away", ["keystore", "kms and keystore"])
async def test_a_sidecar_that_cannot_hear_of_it_encrypts_under_no_data_key_that_may_be_destroyed(away: str) -> None:
    deaf = await World(stale_on_outage_seconds=STALE).opened()
    hears = await deaf.second().opened()
    old = await deaf.keyrings.primary("default")
    deaf.store.fail_with = KeystoreUnavailableError("away")
    administration = administration_of(hears)
    await administration.rotate("default")
    await administration.set_key_state(old.key_id, DISABLED)
    if away != "keystore":
        deaf.kms.fail_unwrap_with = KmsUnavailableError("away")
    encrypted = 0
    for _ in range(int(WAIT.total_seconds() / 30)):
        encrypted += await _encrypts_under(deaf, old.key_id)
        with pytest.raises(StateTransitionError):
            await administration.set_key_state(old.key_id, DESTROYED)
        deaf.clock.advance(30)
    assert encrypted * 30 > STALE - 60  # it does so for nearly as long as it may
    await administration.set_key_state(old.key_id, DESTROYED)
    assert not await _encrypts_under(deaf, old.key_id)


async def _encrypts_under(world: World, key_id: str) -> bool:
    world.keyrings.sweep()
    await fetches_done()
    try:
        return (await world.keyrings.primary("default")).key_id == key_id
    except KeystoreUnavailableError:
        return False
