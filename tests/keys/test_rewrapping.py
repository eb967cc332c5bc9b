"""Bringing data keys under other wrapping keys, page by page: what changes, what may fail, and who may be beside it."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.errors import CorruptKeyError, KeystoreUnavailableError, KmsDeniedError, KmsUnavailableError
from sidecar.keys.data_key import DataKeys
from sidecar.keys.rewrapping import RewrapPage, Rewrapping
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DataKeyRecord, KeyState, WrappedCopy
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.keys.settling import turns
from tests.keys.world import encrypted
from tests.keys.wrapping import assert_overwritten, fakes, kek_ids, opened, stored


@pytest.fixture
async def store() -> MemoryKeystore:
    return await opened()


@pytest.fixture
def kmses() -> dict[str, FakeKms]:
    return fakes("old", "new", "far")


def from_old(kmses: dict[str, FakeKms], *names: str) -> WrappingKeys:
    """Wrapping keys to rewrap under, with the old one at hand to unwrap."""
    return WrappingKeys({name: kmses[name] for name in names}, former={"old": kmses["old"]})


async def pages(
    rewrapping: Rewrapping, limit: int = 3, *, keyring: str | None = None, dry_run: bool = False
) -> list[RewrapPage]:
    """All pages of a run."""
    found: list[RewrapPage] = []
    after = None
    while True:
        found.append(await rewrapping.page(keyring, after, limit, dry_run=dry_run))
        after = found[-1].next
        if after is None:
            return found


def all_kek_ids(store: MemoryKeystore) -> set[tuple[str, ...]]:
    return {tuple(kek_ids(row)) for row in store.rows.values()}


@pytest.mark.parametrize("names", [("new",), ("new", "far"), ("old", "new")], ids=["another", "two others", "one more"])
async def test_every_data_key_comes_to_be_wrapped_under_exactly_the_configured_wrapping_keys(
    store: MemoryKeystore, kmses: dict[str, FakeKms], names: tuple[str, ...]
) -> None:
    old = WrappingKeys({"old": kmses["old"]})
    for keyring in ("a", "b"):
        await stored(store, old, keyring, 4)
    before = {key_id: encrypted(await loaded(store, old, key_id)) for key_id in store.rows}
    rewrapping = Rewrapping(store, from_old(kmses, *names))
    assert sum(page.rewrapped for page in await pages(rewrapping)) == 8
    assert all_kek_ids(store) == {tuple(f"fake:{name}" for name in names)}
    for name in names:
        alone = WrappingKeys({name: kmses[name]})
        assert {key_id: encrypted(await loaded(store, alone, key_id)) for key_id in store.rows} == before
    assert_overwritten(kmses.values())
    again = await pages(rewrapping)
    assert (sum(page.rewrapped for page in again), sum(page.unchanged for page in again)) == (0, 8)


async def loaded(store: MemoryKeystore, keys: WrappingKeys, key_id: str) -> DataKeyCipher:
    """The cipher of a stored data key."""
    return (await DataKeys(store, keys, FakeClock(), os.urandom).load(key_id)).cipher


async def test_disabled_data_keys_are_rewrapped_and_destroyed_ones_are_not_touched(
    store: MemoryKeystore, kmses: dict[str, FakeKms]
) -> None:
    disabled, destroyed, enabled = await stored(store, WrappingKeys({"old": kmses["old"]}), count=3)
    store.rows[disabled] = replace(store.rows[disabled], state=KeyState.DISABLED)
    gone = replace(store.rows[destroyed], state=KeyState.DESTROYED, wrapped_key=b"")
    store.rows[destroyed] = gone
    (page,) = await pages(Rewrapping(store, from_old(kmses, "new")), 10)
    assert (page.rewrapped, page.unchanged, page.failures) == (2, 1, ())
    assert store.rows[destroyed] == gone
    assert store.rows[disabled].state is KeyState.DISABLED
    assert kek_ids(store.rows[disabled]) == kek_ids(store.rows[enabled]) == ["fake:new"]


async def test_a_page_has_its_length_and_says_where_the_next_begins(
    store: MemoryKeystore, kmses: dict[str, FakeKms]
) -> None:
    old = WrappingKeys({"old": kmses["old"]})
    await stored(store, old, "a", 3)
    await stored(store, old, "b", 1)
    rewrapping = Rewrapping(store, from_old(kmses, "new"))
    assert [page.next for page in await pages(rewrapping, 2)] == [("a", 2), ("b", 1), None]
    assert [page.next for page in await pages(rewrapping, 2, keyring="b")] == [None]


async def test_a_dry_run_counts_and_changes_nothing(store: MemoryKeystore, kmses: dict[str, FakeKms]) -> None:
    await stored(store, WrappingKeys({"old": kmses["old"]}), count=4)
    before = dict(store.rows)
    unwraps = kmses["old"].unwraps
    found = await pages(Rewrapping(store, from_old(kmses, "new")), dry_run=True)
    assert [page.rewrapped for page in found] == [3, 1]
    assert store.rows == before
    assert kmses["old"].unwraps == unwraps


async def test_what_can_be_unwrapped_by_nobody_is_a_failure_in_a_dry_run_too(
    store: MemoryKeystore, kmses: dict[str, FakeKms]
) -> None:
    (lost,) = await stored(store, WrappingKeys({"far": kmses["far"]}), "a")
    await stored(store, WrappingKeys({"old": kmses["old"]}), "b")
    for dry_run in (True, False):
        (page,) = await pages(Rewrapping(store, from_old(kmses, "new")), dry_run=dry_run)
        assert (page.rewrapped, [failure[:3] for failure in page.failures]) == (1, [(lost, "a", "KMS_ACCESS_DENIED")])
        assert "the configured wrapping keys are" in page.failures[0].problem


async def test_a_data_key_that_cannot_be_rewrapped_is_named_and_stays_as_it_was(
    store: MemoryKeystore, kmses: dict[str, FakeKms]
) -> None:
    bad, good = await stored(store, WrappingKeys({"old": kmses["old"]}), count=2)
    damaged = replace(store.rows[bad], wrapped_key=bytes(60))
    store.rows[bad] = damaged
    (page,) = await pages(Rewrapping(store, from_old(kmses, "new")))
    assert (page.rewrapped, [failure[:3] for failure in page.failures]) == (1, [(bad, "default", "CORRUPT_KEY")])
    assert store.rows[bad] == damaged
    assert kek_ids(store.rows[good]) == ["fake:new"]
    assert_overwritten(kmses.values())


@pytest.mark.parametrize("error", [KmsUnavailableError("away"), KmsDeniedError("no")], ids=["away", "denied"])
async def test_a_former_kms_that_does_not_unwrap_fails_its_data_keys_alone(
    store: MemoryKeystore, kmses: dict[str, FakeKms], error: Exception
) -> None:
    await stored(store, WrappingKeys({"old": kmses["old"]}), "a", 2)
    await stored(store, WrappingKeys({"far": kmses["far"]}), "b", 2)
    kmses["old"].fail_unwrap_with = error
    keys = WrappingKeys({"new": kmses["new"]}, former={"old": kmses["old"], "far": kmses["far"]})
    (page,) = await pages(Rewrapping(store, keys), 10)
    assert page.rewrapped == 2
    assert {failure.keyring for failure in page.failures} == {"a"}


@pytest.mark.parametrize("error", [KmsUnavailableError("away"), KmsDeniedError("no"), CorruptKeyError("no")], ids=repr)
async def test_a_configured_kms_that_cannot_wrap_stops_the_page_before_anything_changes(
    store: MemoryKeystore, kmses: dict[str, FakeKms], error: Exception
) -> None:
    await stored(store, WrappingKeys({"old": kmses["old"]}), count=3)
    before = dict(store.rows)
    unwraps = kmses["old"].unwraps
    kmses["far"].fail_wrap_with = error
    with pytest.raises(type(error)):
        await pages(Rewrapping(store, from_old(kmses, "new", "far")))
    assert store.rows == before
    assert kmses["old"].unwraps == unwraps


async def test_a_keystore_that_is_away_ends_the_page_and_a_repeated_page_goes_on(
    store: MemoryKeystore, kmses: dict[str, FakeKms]
) -> None:
    await stored(store, WrappingKeys({"old": kmses["old"]}), count=5)
    rewrapping = Rewrapping(store, from_old(kmses, "new"), most_at_once=1)
    store.fail_after_with = KeystoreUnavailableError("the answer was lost")
    with pytest.raises(KeystoreUnavailableError):
        await pages(rewrapping, 10)
    store.fail_after_with = None
    (page,) = await pages(rewrapping, 10)
    assert (page.rewrapped, page.unchanged) == (4, 1)
    assert all_kek_ids(store) == {("fake:new",)}
    assert_overwritten(kmses.values())


async def test_no_more_data_keys_are_under_way_than_allowed(store: MemoryKeystore, kmses: dict[str, FakeKms]) -> None:
    await stored(store, WrappingKeys({"old": kmses["old"]}), count=20)
    for kms in kmses.values():
        kms.delay_seconds = 0.001
    await pages(Rewrapping(store, from_old(kmses, "new"), most_at_once=3), 100)
    assert kmses["old"].max_running == kmses["new"].max_running == 3


async def test_two_rewraps_beside_each_other_end_as_one(store: MemoryKeystore, kmses: dict[str, FakeKms]) -> None:
    await stored(store, WrappingKeys({"old": kmses["old"]}), count=20)
    for kms in kmses.values():
        kms.delay_seconds = 0.001
    runs = [pages(Rewrapping(store, from_old(kmses, "new", "far")), 7) for _ in range(2)]
    for found in await asyncio.gather(*runs):
        assert sum(len(page.failures) for page in found) == 0
        assert sum(page.rewrapped + page.unchanged for page in found) == 20
    assert all_kek_ids(store) == {("fake:new", "fake:far")}
    far = WrappingKeys({"far": kmses["far"]})
    for key_id in store.rows:
        await loaded(store, far, key_id)


async def test_a_data_key_that_changes_meanwhile_is_judged_again(kmses: dict[str, FakeKms]) -> None:
    class Changing(MemoryKeystore):
        """Somebody else is always first, until ``changes`` are made."""

        changes: Sequence[DataKeyRecord] = ()

        async def replace_copies(
            self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]
        ) -> bool:
            if self.changes:
                change, *self.changes = self.changes
                self.rows[key_id] = change
            return await super().replace_copies(key_id, expected, copies)

    store = Changing()
    await store.open(upgrade=True)
    old = WrappingKeys({"old": kmses["old"]})
    (key_id,) = await stored(store, old)
    row = store.rows[key_id]
    more = replace(row, further_copies=(WrappedCopy("fake:other", b"theirs"),))
    rewrapping = Rewrapping(store, from_old(kmses, "new"))
    store.changes = [more, row, more]
    (page,) = await pages(rewrapping)
    assert (page.rewrapped, kek_ids(store.rows[key_id])) == (1, ["fake:new"])
    destroyed = replace(row, state=KeyState.DESTROYED, wrapped_key=b"")
    store.rows[key_id], store.changes = row, [destroyed]
    await pages(rewrapping)
    assert store.rows[key_id] == destroyed
    store.rows[key_id], store.changes = row, [more, row] * 10
    with pytest.raises(KeystoreUnavailableError, match="change all the time"):
        await pages(rewrapping)
    assert_overwritten(kmses.values())


async def test_an_alias_that_points_elsewhere_makes_its_data_keys_wanting(
    store: MemoryKeystore, kmses: dict[str, FakeKms]
) -> None:
    keys = WrappingKeys({"new": kmses["new"]})
    await stored(store, keys, count=2)
    rewrapping = Rewrapping(store, keys)
    assert [page.unchanged for page in await pages(rewrapping)] == [2]
    kmses["new"].kek_id, kmses["new"].earlier_kek_ids = "fake:newer", {"fake:new"}
    assert [page.rewrapped for page in await pages(rewrapping)] == [2]
    assert all_kek_ids(store) == {("fake:newer",)}


async def test_a_cancelled_page_leaves_no_call_and_no_bytes_behind(
    store: MemoryKeystore, kmses: dict[str, FakeKms]
) -> None:
    await stored(store, WrappingKeys({"old": kmses["old"]}), count=5)
    kmses["old"].gate = asyncio.Event()
    running = asyncio.create_task(pages(Rewrapping(store, from_old(kmses, "new"))))
    await turns()
    assert kmses["old"].running == 3
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    await asyncio.sleep(0)
    assert [kms.running for kms in kmses.values()] == [0, 0, 0]
    assert all_kek_ids(store) == {("fake:old",)}
    assert_overwritten(kmses.values())


async def test_an_empty_page_asks_no_kms(store: MemoryKeystore, kmses: dict[str, FakeKms]) -> None:
    assert await pages(Rewrapping(store, from_old(kmses, "new"))) == [RewrapPage(0, 0, (), None)]
    assert kmses["new"].wraps == 0
