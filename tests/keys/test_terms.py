"""Terms of keyrings: what is stored by call wins over the configuration, field by field, and what they decide."""

import math
from datetime import timedelta

import pytest

from sidecar.crypto.format import Suite
from sidecar.errors import ModeNotAllowedError, UnknownKeyringError
from sidecar.keys.rollover import RolloverSchedule
from sidecar.keys.terms import KeyringTerms, schedule_of, terms_of
from sidecar.keystore.port import KeyringRecord, KeyringSettings
from tests.keys.world import DAY, TTL, World

CONFIGURED = KeyringTerms(RolloverSchedule(timedelta(days=30), 500), Suite.DETERMINISTIC, allow_deterministic=True)
STRICT = KeyringTerms(RolloverSchedule(timedelta(days=30)), Suite.RANDOMIZED, allow_deterministic=False)


@pytest.mark.parametrize(
    ("stored", "terms"),
    [
        (None, CONFIGURED),
        (KeyringSettings(), CONFIGURED),
        (
            KeyringSettings(roll_over_days=0.5),
            KeyringTerms(RolloverSchedule(timedelta(hours=12), 500), Suite.DETERMINISTIC, allow_deterministic=True),
        ),
        (
            KeyringSettings(roll_over_days=math.inf),
            KeyringTerms(RolloverSchedule(None, 500), Suite.DETERMINISTIC, allow_deterministic=True),
        ),
        (
            KeyringSettings(default_mode="randomized", allow_deterministic=False),
            KeyringTerms(RolloverSchedule(timedelta(days=30), 500), Suite.RANDOMIZED, allow_deterministic=False),
        ),
    ],
    ids=str,
)
def test_what_is_stored_wins_field_by_field(stored: KeyringSettings | None, terms: KeyringTerms) -> None:
    assert terms_of(CONFIGURED, stored) == terms


@pytest.mark.parametrize(
    ("days", "period"),
    [(1e-300, timedelta.resolution), (1e300, timedelta(days=36_500)), (math.inf, None), (1.5, timedelta(hours=36))],
)
def test_no_number_of_days_overflows_or_rolls_over_without_end(days: float, period: timedelta | None) -> None:
    assert schedule_of(days).period == period


@pytest.mark.parametrize(
    ("terms", "asked", "suite"),
    [
        (CONFIGURED, None, Suite.DETERMINISTIC),
        (CONFIGURED, Suite.RANDOMIZED, Suite.RANDOMIZED),
        (STRICT, None, Suite.RANDOMIZED),
        (STRICT, Suite.RANDOMIZED, Suite.RANDOMIZED),
        (STRICT, Suite.DETERMINISTIC, None),
        (KeyringTerms(RolloverSchedule(None), Suite.DETERMINISTIC, allow_deterministic=False), None, None),
    ],
)
async def test_a_keyring_encrypts_in_the_mode_that_is_asked_for_its_default_or_not_at_all(
    terms: KeyringTerms, asked: Suite | None, suite: Suite | None
) -> None:
    world = await World(terms=terms).opened()
    if suite is None:
        with pytest.raises(ModeNotAllowedError, match=r"'orders'.*allowDeterministic"):
            await world.keyrings.encryption("orders", asked)
    else:
        data_key, chosen = await world.keyrings.encryption("orders", asked)
        assert (data_key.key_id, data_key.generation, chosen) == (world.row(1, "orders").key_id, 1, suite)


async def save(world: World, settings: KeyringSettings) -> None:
    """What a call to the keyring service does in the keystore."""
    record = KeyringRecord("orders", world.clock.now(), settings)
    assert await world.store.save_keyring(record, replace=True)


async def test_a_keyring_that_was_created_by_call_gets_its_first_data_key_whatever_the_configuration_says() -> None:
    world = await World(may_make=lambda _name: False).opened()
    with pytest.raises(UnknownKeyringError):
        await world.keyrings.primary("orders")
    await save(world, KeyringSettings())
    world.keyrings.forget("orders", None)
    assert (await world.keyrings.primary("orders")).key_id == world.row(1, "orders").key_id


async def test_settings_that_another_sidecar_stored_hold_here_within_the_ttl() -> None:
    world = await World(terms=STRICT).opened()
    await world.keyrings.primary("orders")
    await save(world, KeyringSettings(roll_over_days=1.0, default_mode="deterministic", allow_deterministic=True))
    world.clock.advance(TTL)
    _, suite = await world.keyrings.encryption("orders", None)
    assert suite is Suite.DETERMINISTIC
    world.clock.advance(DAY)
    await world.keyrings.primary("orders")
    assert world.generations("orders") == [1, 2]


async def test_settings_and_primary_cost_one_read_each_a_refresh() -> None:
    world = await World().opened()
    await world.keyrings.primary("orders")
    calls = dict(world.store.calls)
    for _ in range(10):
        await world.keyrings.encryption("orders", None)
    assert world.store.calls == calls
    world.clock.advance(TTL)
    await world.keyrings.encryption("orders", None)
    assert world.store.calls == {**calls, "keyring": 2, "primary": 2, "get_many": 1}


async def test_a_keyring_that_never_rolls_over_says_so_in_its_metric() -> None:
    world = await World(period=None).opened()
    first = await world.keyrings.primary("default")
    world.clock.advance(50 * 365 * DAY)
    assert (await world.keyrings.primary("default")).key_id == first.key_id
    assert world.generations() == [1]
    assert world.metric("sidekey_next_rollover_timestamp_seconds", keyring="default") == math.inf
