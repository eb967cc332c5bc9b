"""What operators do to keyrings and data keys: allowed, refused with what must come first, and followed at once."""

import asyncio
import math
from dataclasses import replace
from datetime import timedelta

import pytest

from sidecar.crypto.format import RowFailure, Suite
from sidecar.errors import (
    InvalidRequestError,
    KeyringExistsError,
    KeystoreUnavailableError,
    KmsUnavailableError,
    NoSuchKeyError,
    SidekeyError,
    StateTransitionError,
    UnknownKeyringError,
)
from sidecar.keys.administration import Administration
from sidecar.keys.inventory import DescribedKey, DescribedKeyring, Inventory, KeyPage, Position
from sidecar.keys.rewrapping import Rewrapping
from sidecar.keys.rollover import RolloverSchedule
from sidecar.keys.terms import KeyringTerms
from sidecar.keystore.port import DataKeyRecord, KeyringSettings, KeyState
from tests.keys.settling import turns
from tests.keys.world import TTL, World
from tests.keystore.records import record
from tests.rpc.logs import logged

ENABLED, DISABLED, DESTROYED = KeyState.ENABLED, KeyState.DISABLED, KeyState.DESTROYED


def administration_of(world: World) -> Administration:
    """Over a world's keyrings, as a sidecar has it."""
    return Administration(
        world.store,
        Inventory(world.store, lambda _name: world.terms),
        world.keyrings,
        Rewrapping(world.store, world.wrapping_keys),
        world.clock,
    )


@pytest.fixture
async def world() -> World:
    """With an open keystore; no keyring is made on first use."""
    return await World(may_make=lambda _name: False).opened()


@pytest.fixture
def administration(world: World) -> Administration:
    return administration_of(world)


async def test_a_created_keyring_has_its_first_data_key_at_once_and_encrypts(
    world: World, administration: Administration
) -> None:
    with pytest.raises(UnknownKeyringError):
        await world.keyrings.primary("pay")
    with logged() as lines:
        created = await administration.create_keyring("pay", KeyringSettings(roll_over_days=30))
    assert created.primary == world.row(1, "pay")
    assert created.created_at == world.clock.now()
    assert created.terms.schedule.period == timedelta(days=30)
    assert created.terms.default_suite is world.terms.default_suite
    assert (await world.keyrings.primary("pay")).key_id == created.primary.key_id
    assert [line["keyring"] for line in lines.of("keyring_created")] == ["pay"]


@pytest.mark.parametrize(
    "settings",
    [
        KeyringSettings(),
        KeyringSettings(roll_over_days=math.inf),
        KeyringSettings(0.5, "deterministic", allow_deterministic=True),
        KeyringSettings(default_mode="randomized", allow_deterministic=False),
    ],
)
async def test_creating_the_same_keyring_again_changes_nothing(
    world: World, administration: Administration, settings: KeyringSettings
) -> None:
    first = await administration.create_keyring("pay", settings)
    world.clock.advance(60)
    with logged() as lines:
        assert await administration.create_keyring("pay", settings) == first
        assert await administration.create_keyring("pay", settings, replace=True) == first
    assert not lines.of("keyring_created")
    assert world.generations("pay") == [1]


async def test_other_settings_are_refused_unless_they_are_to_be_replaced(
    world: World, administration: Administration
) -> None:
    await administration.create_keyring("pay", KeyringSettings(roll_over_days=30))
    other = KeyringSettings(roll_over_days=7, allow_deterministic=False)
    with pytest.raises(KeyringExistsError, match="'pay' is there with other settings"):
        await administration.create_keyring("pay", other)
    world.clock.advance(60)
    replaced = await administration.create_keyring("pay", other, replace=True)
    assert replaced.terms.schedule.period == timedelta(days=7)
    assert not replaced.terms.allow_deterministic
    assert replaced.created_at == world.clock.now() - timedelta(seconds=60)
    assert world.generations("pay") == [1]


async def test_replaced_settings_hold_for_the_next_call(world: World, administration: Administration) -> None:
    await administration.create_keyring("pay", KeyringSettings())
    await world.keyrings.encryption("pay", Suite.DETERMINISTIC)
    await administration.create_keyring("pay", KeyringSettings(allow_deterministic=False), replace=True)
    with pytest.raises(InvalidRequestError, match="does not allow the deterministic mode"):
        await world.keyrings.encryption("pay", Suite.DETERMINISTIC)


async def test_a_keyring_made_on_first_use_can_be_created_afterwards(
    world: World, administration: Administration
) -> None:
    made = await (await world.second().opened()).keyrings.primary("used")
    created = await administration.create_keyring("used", KeyringSettings(roll_over_days=9))
    assert created.primary is not None
    assert created.primary.key_id == made.key_id


async def test_a_kms_that_is_away_leaves_a_keyring_that_the_same_call_completes(
    world: World, administration: Administration
) -> None:
    world.kms.fail_wrap_with = KmsUnavailableError("away")
    with pytest.raises(KmsUnavailableError):
        await administration.create_keyring("pay", KeyringSettings())
    assert (await administration.inventory.keyring("pay")).primary is None
    world.kms.fail_wrap_with = None
    world.clock.advance(10)
    assert (await administration.create_keyring("pay", KeyringSettings())).primary is not None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (KeyringSettings(roll_over_days=0), "more than 0 and at most 36500"),
        (KeyringSettings(roll_over_days=-1), "more than 0"),
        (KeyringSettings(roll_over_days=36_501), "at most 36500"),
        (KeyringSettings(roll_over_days=math.nan), "more than 0"),
        (KeyringSettings(roll_over_days=-math.inf), "more than 0"),
        (KeyringSettings(default_mode="secret"), "randomized, deterministic"),
        (KeyringSettings(default_mode="deterministic", allow_deterministic=False), "not allow it"),
    ],
)
async def test_settings_that_cannot_hold_are_refused_and_nothing_is_stored(
    world: World, administration: Administration, settings: KeyringSettings, text: str
) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        await administration.create_keyring("pay", settings)
    assert not world.store.database.keyrings
    assert not world.store.rows


async def test_settings_that_contradict_the_configuration_they_leave_the_rest_to_are_refused() -> None:
    terms = KeyringTerms(RolloverSchedule(None), default_suite=Suite.DETERMINISTIC)
    world = await World(terms=terms).opened()
    with pytest.raises(InvalidRequestError, match="deterministic mode as its default"):
        await administration_of(world).create_keyring("pay", KeyringSettings(allow_deterministic=False))


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "a" * 64, "a\n", "ä", "a" * 100_000])
async def test_what_cannot_be_a_keyrings_name_is_refused_everywhere_and_never_quoted(
    administration: Administration, name: str
) -> None:
    for call in (
        administration.create_keyring(name, KeyringSettings()),
        administration.inventory.keyring(name),
        administration.rotate(name),
        administration.inventory.keys(name, limit=1),
        administration.rewrap(name, after=None, limit=1, dry_run=True),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await call
        assert len(str(caught.value)) < 150


async def test_an_unknown_keyring_is_said_to_be_unknown_everywhere(administration: Administration) -> None:
    for call in (
        administration.inventory.keyring("none"),
        administration.rotate("none"),
        administration.rotate("none", dry_run=True),
        administration.inventory.keys("none", limit=1),
        administration.rewrap("none", after=None, limit=1, dry_run=True),
    ):
        with pytest.raises(UnknownKeyringError, match="no keyring 'none'"):
            await call


async def test_a_rotation_makes_the_new_primary_the_one_that_encrypts_from_the_next_call_on(
    world: World, administration: Administration
) -> None:
    await administration.create_keyring("pay", KeyringSettings())
    old = await world.keyrings.primary("pay")
    dry = await administration.rotate("pay", dry_run=True)
    assert dry is not None
    assert (dry.key_id, world.generations("pay")) == (old.key_id, [1])
    with logged() as lines:
        new = await administration.rotate("pay")
    assert new == world.row(2, "pay")
    assert (await world.keyrings.primary("pay")).key_id == new.key_id
    (line,) = lines.of("keyring_rotated")
    assert (line["keyring"], line["key_id"], line["replaced"]) == ("pay", new.key_id, old.key_id)


async def test_a_rotation_whose_answer_was_lost_is_looked_up_anew(world: World, administration: Administration) -> None:
    await administration.create_keyring("pay", KeyringSettings())
    await world.keyrings.primary("pay")
    world.store.fail_after_with = KeystoreUnavailableError("the answer was lost")
    with pytest.raises(KeystoreUnavailableError):
        await administration.rotate("pay")
    world.store.fail_after_with = None
    assert (await world.keyrings.primary("pay")).key_id == world.row(2, "pay").key_id


@pytest.mark.parametrize(
    ("state", "to", "is_primary", "refusal"),
    [
        (ENABLED, ENABLED, True, None),
        (ENABLED, DISABLED, False, None),
        (ENABLED, DISABLED, True, "is the primary of keyring 'pay': rotate the keyring first"),
        (ENABLED, DESTROYED, False, "is enabled: disable it first, then destroy it"),
        (ENABLED, DESTROYED, True, "is the primary of keyring 'pay': rotate the keyring first, then disable"),
        (DISABLED, ENABLED, False, None),
        (DISABLED, DISABLED, False, None),
        (DISABLED, DESTROYED, False, None),
        (DESTROYED, ENABLED, False, "is destroyed, and that is final"),
        (DESTROYED, DISABLED, False, "is destroyed, and that is final"),
        (DESTROYED, DESTROYED, False, None),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_state_goes_where_it_may_and_a_refusal_says_what_must_come_first(
    world: World,
    administration: Administration,
    state: KeyState,
    to: KeyState,
    *,
    is_primary: bool,
    refusal: str | None,
    dry_run: bool,
) -> None:
    before = _stored(state)
    await world.store.insert(record("pay", 3))
    if is_primary:
        before = replace(before, generation=4)
    world.store.rows[before.key_id] = before
    with logged() as lines:
        if refusal is None:
            key = await administration.set_key_state(before.key_id, to, dry_run=dry_run)
            assert key.record == world.store.rows[before.key_id]
            assert key.is_primary == is_primary
        else:
            with pytest.raises(StateTransitionError, match=refusal):
                await administration.set_key_state(before.key_id, to, dry_run=dry_run)
    changes = refusal is None and not dry_run and state is not to
    assert world.store.rows[before.key_id].state is (to if changes else state)
    assert [(line["from"], line["to"], line["key_id"]) for line in lines.of("key_state_changed")] == (
        [(state.value, to.value, before.key_id)] if changes else []
    )


def _stored(state: KeyState) -> DataKeyRecord:
    return record("pay", 1, state=state, **({"wrapped_key": b""} if state is DESTROYED else {}))


async def test_a_data_key_that_others_change_meanwhile_is_not_said_to_have_been_changed(
    world: World, administration: Administration, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = record("pay", 1)
    for each in (old, record("pay", 2)):
        await world.store.insert(each)
    change = world.store.set_state

    async def after_another(*arguments: object, **keywords: object) -> bool:
        world.store.rows[old.key_id] = replace(old, state=DESTROYED, wrapped_key=b"")
        return await change(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "set_state", after_another)
    with pytest.raises(StateTransitionError, match="was changed meanwhile"):
        await administration.set_key_state(old.key_id, DISABLED)


@pytest.mark.parametrize("lost", [False, True])
async def test_a_disabled_data_key_decrypts_nothing_more_here_even_where_the_answer_was_lost(
    world: World, administration: Administration, *, lost: bool
) -> None:
    await administration.create_keyring("pay", KeyringSettings())
    await administration.rotate("pay")
    old = world.row(1, "pay").key_id
    assert not isinstance((await world.keyrings.for_decryption([old], None))[old], RowFailure)
    if lost:
        world.store.fail_after_with = KeystoreUnavailableError("the answer was lost")
        with pytest.raises(KeystoreUnavailableError):
            await administration.set_key_state(old, DISABLED)
        world.store.fail_after_with = None
    else:
        await administration.set_key_state(old, DISABLED)
    assert (await world.keyrings.for_decryption([old], None))[old] is RowFailure.KEY_DISABLED
    await administration.set_key_state(old, ENABLED)
    assert not isinstance((await world.keyrings.for_decryption([old], None))[old], RowFailure)


@pytest.mark.parametrize(
    ("key_id", "error"),
    [
        ("0" * 13 + "1", NoSuchKeyError),
        ("", InvalidRequestError),
        ("A" * 14, InvalidRequestError),
        ("0" * 15, InvalidRequestError),
        ("1" * 100_000, InvalidRequestError),
    ],
)
async def test_a_data_key_that_is_not_there_is_said_so(
    administration: Administration, key_id: str, error: type[SidekeyError]
) -> None:
    with pytest.raises(error):
        await administration.set_key_state(key_id, DISABLED)


def _whole(page: KeyPage) -> list[DescribedKey]:
    return [key for key in page.keys if isinstance(key, DescribedKey)]


async def _all_keys(administration: Administration, keyring: str | None, limit: int) -> list[DescribedKey]:
    keys: list[DescribedKey] = []
    after: Position | None = None
    while True:
        page = await administration.inventory.keys(keyring, after=after, limit=limit)
        assert len(page.keys) <= limit
        keys += _whole(page)
        if (after := page.next) is None:
            return keys


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 100])
@pytest.mark.parametrize("keyring", [None, "b"])
async def test_pages_of_any_size_list_every_data_key_once_and_mark_each_primary(
    world: World, administration: Administration, keyring: str | None, limit: int
) -> None:
    for name, states in {
        "a": (ENABLED, ENABLED),
        "b": (ENABLED, DISABLED, ENABLED, DISABLED),
        "c": (DISABLED,),
    }.items():
        for generation, state in enumerate(states, 1):
            await world.store.insert(record(name, generation, state=state))
    keys = await _all_keys(administration, keyring, limit)
    assert [(key.record.keyring, key.record.generation, key.is_primary) for key in keys] == [
        (*place, place in {("a", 2), ("b", 3)})
        for place in [*(("a", n) for n in (1, 2)), *(("b", n) for n in (1, 2, 3, 4)), ("c", 1)]
        if keyring in (None, place[0])
    ]


async def test_unused_is_what_was_neither_used_nor_made_since_then(
    world: World, administration: Administration
) -> None:
    now = world.clock.now()
    days = timedelta(days=1)
    keys = {
        "old, never used": record("a", 1, created_at=now - 9 * days),
        "old, used long ago": record(
            "a", 2, created_at=now - 9 * days, first_used_at=now - 8 * days, last_used_at=now - 8 * days
        ),
        "old, used lately": record(
            "a", 3, created_at=now - 9 * days, first_used_at=now - 8 * days, last_used_at=now - days
        ),
        "new, never used": record("a", 4, created_at=now - days),
        "used just then": record(
            "a", 5, created_at=now - 9 * days, first_used_at=now - 8 * days, last_used_at=now - 3 * days
        ),
    }
    for each in keys.values():
        await world.store.insert(each)
        world.store.rows[each.key_id] = each
    page = await administration.inventory.keys(limit=10, unused_since=now - 3 * days)
    names = {each.key_id: name for name, each in keys.items()}
    assert [names[key.record.key_id] for key in _whole(page)] == ["old, never used", "old, used long ago"]


async def test_keyrings_are_listed_with_one_question_to_the_keystore_at_a_time(
    world: World, administration: Administration
) -> None:
    for number in range(8):
        await world.store.insert(record(f"k{number}"))
    before = sum(world.store.calls.values())
    world.store.gate = names = asyncio.Event()
    running = asyncio.create_task(administration.inventory.keyrings(limit=8))
    await turns()
    assert sum(world.store.calls.values()) == before + 1
    world.store.gate = asyncio.Event()
    names.set()
    await turns()
    assert sum(world.store.calls.values()) == before + 2  # of the first keyring, and nothing beside it
    world.store.gate.set()
    assert len((await running).keyrings) == 8


async def test_a_page_whose_data_keys_do_not_fit_is_empty_and_not_the_last(
    world: World, administration: Administration
) -> None:
    for generation in (1, 2, 3):
        await world.store.insert(record("a", generation, state=DISABLED if generation == 3 else ENABLED))
    page = await administration.inventory.keys(limit=2, states={DISABLED})
    assert (list(page.keys), page.next) == ([], ("a", 2))
    page = await administration.inventory.keys(after=page.next, limit=2, states={DISABLED})
    assert [key.record.generation for key in _whole(page)] == [3]
    assert page.next is None


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
async def test_keyrings_are_listed_by_name_whether_they_were_created_or_made_on_first_use(
    world: World, administration: Administration, limit: int
) -> None:
    await administration.create_keyring("pay", KeyringSettings(roll_over_days=3))
    await world.store.insert(record("used", 1))
    await world.store.insert(record("off", 1, state=DISABLED))
    found: list[DescribedKeyring] = []
    after = ""
    while True:
        page = await administration.inventory.keyrings(after=after, limit=limit)
        found += page.keyrings
        if page.next is None:
            break
        after = page.next
    assert [each.name for each in found] == ["off", "pay", "used"]
    assert [each.primary is not None for each in found] == [False, True, True]
    assert [each.created_at is not None for each in found] == [False, True, False]
    assert (await administration.inventory.keyring("off")).primary is None


async def test_a_rewrap_goes_by_pages_and_is_logged(world: World, administration: Administration) -> None:
    for name in ("a", "b", "c"):
        await administration.create_keyring(name, KeyringSettings())
    world.kms.earlier_kek_ids.add(world.kms.kek_id)
    world.kms.kek_id = "fake:2"
    with logged() as lines:
        page = await administration.rewrap(None, after=None, limit=2, dry_run=False)
        assert (page.rewrapped, page.next) == (2, ("b", 1))
        page = await administration.rewrap(None, after=page.next, limit=2, dry_run=False)
        assert (page.rewrapped, page.next) == (1, None)
    assert {row.kek_id for row in world.store.rows.values()} == {"fake:2"}
    assert [line["rewrapped"] for line in lines.of("rewrap_page")] == [2, 1]


async def test_what_one_sidecar_changes_another_follows_within_its_ttl(
    world: World, administration: Administration
) -> None:
    await administration.create_keyring("pay", KeyringSettings())
    other = await world.second().opened()
    old = await other.keyrings.primary("pay")
    new = await administration.rotate("pay")
    assert new is not None
    await administration.set_key_state(old.key_id, DISABLED)
    assert (await other.keyrings.primary("pay")).key_id == old.key_id
    world.clock.advance(TTL)
    assert (await other.keyrings.for_decryption([old.key_id], None))[old.key_id] is RowFailure.KEY_DISABLED
    assert (await other.keyrings.primary("pay")).key_id == new.key_id


async def test_a_state_that_another_sidecar_set_holds_where_it_is_asked_for_again() -> None:
    world = await World().opened()
    other = await world.second().opened()
    first = await world.keyrings.primary("default")
    await other.keyrings.for_decryption([first.key_id], None)
    await administration_of(world).rotate("default")
    await administration_of(world).set_key_state(first.key_id, DISABLED)
    await administration_of(other).set_key_state(first.key_id, DISABLED, dry_run=True)
    assert first.key_id not in await failures_of(other, first.key_id)
    await administration_of(other).set_key_state(first.key_id, DISABLED)
    assert await failures_of(other, first.key_id) == {first.key_id: RowFailure.KEY_DISABLED}


async def failures_of(world: World, key_id: str) -> dict[str, RowFailure]:
    """Why a data key does not decrypt in a sidecar; empty where it does."""
    found = await world.keyrings.for_decryption([key_id], None)
    return {key_id: failure for key_id, failure in found.items() if isinstance(failure, RowFailure)}
