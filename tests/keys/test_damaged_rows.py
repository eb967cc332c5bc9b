"""Rows of the keystore that do not parse, seen from above it: each is told of, and stops no more than it must."""

import pytest

from sidecar.errors import CorruptKeyError
from sidecar.keys.inventory import DescribedKey, Inventory
from sidecar.keys.live import live_key_ids
from sidecar.keys.rewrapping import Failure, RewrapPage, Rewrapping
from sidecar.keys.rollover import RolloverSchedule
from sidecar.keys.terms import KeyringTerms
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DamagedRow, DataKeyRecord, KeyState
from tests.fakes.keystore import MemoryKeystore
from tests.keys.wrapping import fakes, kek_ids, opened, stored
from tests.keystore.records import record


async def test_a_rewrap_passes_a_damaged_row_and_names_it_as_a_failure() -> None:
    store, kmses = await opened(), fakes("old", "new")
    ids = await stored(store, WrappingKeys({"old": kmses["old"]}), count=5)
    store.database.damaged |= {ids[1], ids[2], ids[4]}
    keys = WrappingKeys({"new": kmses["new"]}, former={"old": kmses["old"]})
    failures = [(ids[place], "default", "CORRUPT_KEY") for place in (1, 2, 4)]
    for dry_run in (True, False):
        pages: list[RewrapPage] = []
        after = None
        while not pages or after is not None:
            pages.append(await Rewrapping(store, keys).page(None, after, 2, dry_run=dry_run))
            after = pages[-1].next
        assert [failure[:3] for page in pages for failure in page.failures] == failures
        assert sum(page.rewrapped for page in pages) == 2
        assert [page.next for page in pages] == [("default", 2), ("default", 4), None]
    assert [kek_ids(store.rows[key_id]) for key_id in (ids[0], ids[3])] == [["fake:new"]] * 2
    assert kek_ids(store.rows[ids[1]]) == ["fake:old"]
    page = await Rewrapping(store, keys).page(None, None, 10, dry_run=False)
    assert (page.rewrapped, page.unchanged, len(page.failures)) == (0, 2, 3)


async def test_a_row_whose_key_id_is_damaged_is_a_failure_too() -> None:
    class Nameless(MemoryKeystore):
        """Holds a row without a key id."""

        async def list_keys(
            self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
        ) -> list[DataKeyRecord | DamagedRow]:
            return [
                *await super().list_keys(keyring, after=after, limit=limit),
                DamagedRow(None, "z", 1, "column key_id"),
            ]

    store = Nameless()
    await store.open(upgrade=True)
    kmses = fakes("new")
    page = await Rewrapping(store, WrappingKeys(kmses)).page(None, None, 10, dry_run=False)
    assert page == RewrapPage(0, 0, (Failure("", "z", "CORRUPT_KEY", "column key_id"),), None)


async def test_a_keyring_with_a_damaged_row_has_no_list_of_live_data_keys() -> None:
    store = await opened()
    rows = [record(generation=generation) for generation in (1, 2)]
    for row in [*rows, record("other")]:
        await store.insert(row)
    store.database.damaged.add(rows[0].key_id)
    with pytest.raises(CorruptKeyError, match="column commitment"):
        await live_key_ids(store, "default")
    assert len(await live_key_ids(store, "other")) == 1


@pytest.mark.parametrize(
    ("states", "damaged", "primary"),
    [
        ("ee", {2}, None),  # the damaged row would be the primary
        ("ed", {2}, 1),  # it is disabled, so it is not
        ("eee", {1, 2}, 3),  # a newer one is
        ("e", {1}, None),
    ],
)
async def test_a_damaged_row_lends_its_place_as_primary_to_no_other(
    states: str, damaged: set[int], primary: int | None
) -> None:
    store = await opened()
    for generation, state in enumerate(states, 1):
        row = record(generation=generation, state=KeyState.ENABLED if state == "e" else KeyState.DISABLED)
        await store.insert(row)
        if generation in damaged:
            store.database.damaged.add(row.key_id)
    await store.insert(record("next"))
    inventory = Inventory(store, lambda _name: KeyringTerms(RolloverSchedule(None)))
    for limit in (1, len(states), 10):
        keys: list[DescribedKey | DamagedRow] = []
        after = None
        while not keys or after is not None:
            page = await inventory.keys(after=after, limit=limit)
            keys += page.keys
            after = page.next
        *ours, last = keys
        assert isinstance(last, DescribedKey)
        assert last.is_primary
        assert {key.generation for key in ours if isinstance(key, DamagedRow)} == damaged
        found = [key.record.generation for key in ours if isinstance(key, DescribedKey) and key.is_primary]
        assert found == ([] if primary is None else [primary])
