"""What every keystore must do with the states and the wrapped copies of data keys."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sidecar.keystore.port import KeyState, Keystore, WrappedCopy
from tests.keystore.implementations import Opener
from tests.keystore.records import record, whole

ENABLED, DISABLED, DESTROYED = KeyState.ENABLED, KeyState.DISABLED, KeyState.DESTROYED
BEFORE = datetime(2026, 5, 1, tzinfo=UTC)
AT = datetime(2026, 5, 2, 1, 2, 3, 4, tzinfo=UTC)
FURTHER = (WrappedCopy("second", b"wrapped by the second"), WrappedCopy("third", b"wrapped by the third"))
ONE, TWO, THREE = (WrappedCopy(name, name.encode() * 9) for name in ("one", "two", "three"))


@pytest.mark.parametrize("newer", [None, ENABLED, DISABLED, DESTROYED])
@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        (ENABLED, ENABLED, True),
        (ENABLED, DISABLED, False),  # unless there is a newer enabled one: see below
        (ENABLED, DESTROYED, False),
        (DISABLED, ENABLED, True),
        (DISABLED, DISABLED, True),
        (DISABLED, DESTROYED, True),
        (DESTROYED, ENABLED, False),
        (DESTROYED, DISABLED, False),
        (DESTROYED, DESTROYED, True),
    ],
)
async def test_a_state_goes_where_it_may_and_nowhere_else(
    keystore: Keystore, before: KeyState, after: KeyState, may: bool, newer: KeyState | None
) -> None:
    gone = before is DESTROYED
    stored = record(
        generation=5,
        state=before,
        state_changed_at=BEFORE,
        wrapped_key=b"" if gone else b"wrapped",
        further_copies=() if gone else FURTHER,
    )
    await keystore.insert(stored)
    await keystore.insert(record(generation=4))
    await keystore.insert(record("another", generation=9))
    if newer is not None:
        await keystore.insert(record(generation=8, state=newer, wrapped_key=b"" if newer is DESTROYED else b"w"))
    may = may or (before is ENABLED and after is DISABLED and newer is ENABLED)

    assert await keystore.set_state(stored.key_id, after, at=AT) is may

    expected = stored if before is after or not may else replace(stored, state=after, state_changed_at=AT)
    if expected.state is DESTROYED:
        expected = replace(expected, wrapped_key=b"", further_copies=())
    assert await keystore.get(stored.key_id) == expected


async def test_a_destroyed_data_key_keeps_everything_but_its_wrapped_copies(keystore: Keystore) -> None:
    stored = record(state=DISABLED, further_copies=FURTHER, values_encrypted=3)
    await keystore.insert(stored)
    await keystore.set_state(stored.key_id, DESTROYED, at=AT)
    found = await keystore.get(stored.key_id)
    assert found is not None
    assert found.copies == ()
    assert (found.kek_id, found.commitment, found.values_encrypted) == (stored.kek_id, stored.commitment, 3)
    assert list(await keystore.list_keys()) == [found]
    assert await keystore.insert(record(key_id=stored.key_id, generation=9)) is False
    assert await keystore.newest_generation("default") == 1


@pytest.mark.parametrize("key_id", ["0123456789abcd", "", "\0"])
async def test_what_no_data_key_has_the_id_of_does_not_change(keystore: Keystore, key_id: str) -> None:
    assert await keystore.set_state(key_id, ENABLED, at=AT) is False
    assert await keystore.replace_copies(key_id, [ONE], [TWO]) is False


async def test_the_time_of_a_change_comes_back_in_utc_and_a_naive_one_is_refused(keystore: Keystore) -> None:
    stored = record(state=DISABLED)
    await keystore.insert(stored)
    elsewhere = AT.astimezone(timezone(timedelta(hours=-9)))
    assert await keystore.set_state(stored.key_id, ENABLED, at=elsewhere) is True
    found = await keystore.get(stored.key_id)
    assert found is not None
    assert found.state_changed_at == AT
    assert found.state_changed_at.utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="time zone"):
        await keystore.set_state(stored.key_id, ENABLED, at=datetime(2026, 1, 1))  # noqa: DTZ001


async def test_whoever_races_to_disable_all_data_keys_leaves_the_newest_enabled(opener: Opener) -> None:
    first, second = await opener(), await opener()
    stored = [record(generation=generation) for generation in range(1, 7)]
    for row in stored:
        await first.insert(row)
    orders = [stored, stored[::-1]]
    results: Sequence[bool] = await asyncio.gather(
        *(
            store.set_state(row.key_id, DISABLED, at=AT)
            for store, order in zip((first, second), orders, strict=True)
            for row in order
        )
    )
    assert results == [True] * 5 + [False] + [False] + [True] * 5
    primary = await first.primary("default")
    assert primary == stored[-1]
    states = [row.state for row in whole(await second.list_keys())]
    assert states == [DISABLED] * 5 + [ENABLED]


async def test_disabling_and_enabling_at_once_never_leaves_a_keyring_without_a_primary(opener: Opener) -> None:
    first, second = await opener(), await opener()
    stored = [record(generation=generation) for generation in (1, 2)]
    for row in stored:
        await first.insert(row)

    async def to_and_fro(store: Keystore, key_id: str) -> None:
        for _ in range(10):
            await store.set_state(key_id, DISABLED, at=AT)
            assert await store.primary("default") == stored[1]
            await store.set_state(key_id, ENABLED, at=AT)

    await asyncio.gather(*(to_and_fro(store, row.key_id) for store in (first, second) for row in stored))
    assert await first.primary("default") == stored[1]


async def test_of_two_that_enable_and_destroy_a_data_key_one_wins_and_the_row_is_whole(opener: Opener) -> None:
    first, second = await opener(), await opener()
    for generation in range(1, 9):
        stored = record(generation=generation, state=DISABLED, further_copies=FURTHER)
        await first.insert(stored)
        enabled, destroyed = await asyncio.gather(
            first.set_state(stored.key_id, ENABLED, at=AT), second.set_state(stored.key_id, DESTROYED, at=AT)
        )
        assert enabled is not destroyed
        found = await second.get(stored.key_id)
        assert found is not None
        assert found.state is (ENABLED if enabled else DESTROYED)
        assert found.copies == (stored.copies if enabled else ())


async def test_a_data_key_that_is_destroyed_while_it_gets_further_copies_keeps_none_of_them(opener: Opener) -> None:
    first, second = await opener(), await opener()
    for generation in range(1, 13):
        stored = record(generation=generation, kek_id="one", wrapped_key=ONE.wrapped_key, state=DISABLED)
        await first.insert(stored)
        _, destroyed = await asyncio.gather(
            first.replace_copies(stored.key_id, [ONE], [ONE, TWO]), second.set_state(stored.key_id, DESTROYED, at=AT)
        )
        assert destroyed is True
        gone = replace(stored, state=DESTROYED, state_changed_at=AT, wrapped_key=b"")
        assert await second.get(stored.key_id) == gone


@pytest.mark.parametrize(
    ("expected", "copies"),
    [
        ([ONE], [TWO]),
        ([ONE], [TWO, ONE]),
        ([ONE, TWO], [TWO, ONE]),
        ([ONE, TWO, THREE], [THREE]),
        ([ONE], [ONE]),
    ],
)
async def test_the_expected_copies_are_replaced_and_nothing_else(
    keystore: Keystore, expected: list[WrappedCopy], copies: list[WrappedCopy]
) -> None:
    first, *further = expected
    stored = record(kek_id=first.kek_id, wrapped_key=first.wrapped_key, further_copies=tuple(further))
    await keystore.insert(stored)
    assert await keystore.replace_copies(stored.key_id, expected, copies) is True
    found = await keystore.get(stored.key_id)
    assert found is not None
    assert found.copies == tuple(copies)
    unchanged = {"kek_id": stored.kek_id, "wrapped_key": stored.wrapped_key, "further_copies": stored.further_copies}
    assert replace(found, **unchanged) == stored  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "expected",
    [
        [ONE],
        [TWO, ONE],
        [ONE, THREE],
        [ONE, TWO, THREE],
        [WrappedCopy("one", b"other bytes"), TWO],
        [ONE, WrappedCopy("two", TWO.wrapped_key + b"\0")],
    ],
)
async def test_other_copies_than_the_expected_ones_are_not_replaced(
    keystore: Keystore, expected: list[WrappedCopy]
) -> None:
    stored = record(kek_id="one", wrapped_key=ONE.wrapped_key, further_copies=(TWO,))
    await keystore.insert(stored)
    assert await keystore.replace_copies(stored.key_id, expected, [THREE]) is False
    assert await keystore.get(stored.key_id) == stored


async def test_a_destroyed_data_key_is_never_given_a_copy_again(keystore: Keystore) -> None:
    stored = record(kek_id="one", wrapped_key=ONE.wrapped_key, state=DISABLED)
    await keystore.insert(stored)
    await keystore.set_state(stored.key_id, DESTROYED, at=AT)
    assert await keystore.replace_copies(stored.key_id, [ONE], [TWO]) is False
    found = await keystore.get(stored.key_id)
    assert found is not None
    assert found.wrapped_key == b""


@pytest.mark.parametrize(
    ("expected", "copies"),
    [
        ([], [ONE]),
        ([ONE], []),
        ([ONE], [WrappedCopy("two", b"")]),
        ([ONE], [TWO, TWO]),
        ([ONE], [WrappedCopy(f"kek {number}", b"k") for number in range(17)]),
    ],
)
async def test_copies_that_no_record_could_have_are_refused(
    keystore: Keystore, expected: list[WrappedCopy], copies: list[WrappedCopy]
) -> None:
    stored = record(kek_id="one", wrapped_key=ONE.wrapped_key)
    await keystore.insert(stored)
    with pytest.raises(ValueError, match="wrapped cop"):
        await keystore.replace_copies(stored.key_id, expected, copies)
    assert await keystore.get(stored.key_id) == stored


async def test_of_many_that_replace_the_same_copies_exactly_one_wins(opener: Opener) -> None:
    first, second = await opener(), await opener()
    stored = record(kek_id="one", wrapped_key=ONE.wrapped_key)
    await first.insert(stored)
    offered = [[WrappedCopy(f"kek {number}", b"k"), ONE] for number in range(10)]
    results = await asyncio.gather(
        *((first, second)[i % 2].replace_copies(stored.key_id, [ONE], offered[i]) for i in range(10))
    )
    assert sorted(results) == [False] * 9 + [True]
    found = await first.get(stored.key_id)
    assert found is not None
    assert list(found.copies) == offered[results.index(True)]
