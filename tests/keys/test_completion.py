"""Data keys that lack a copy get it when its KMS is back, in the background, and nothing waits for that."""

import os
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import pytest

from sidecar.errors import CorruptKeyError, KeystoreUnavailableError, KmsDeniedError, KmsUnavailableError
from sidecar.keys.completion import Completion
from sidecar.keys.data_key import DataKeys
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DataKeyRecord, KeyState, WrappedCopy
from sidecar.metrics import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.keys.wrapping import assert_overwritten, fakes, kek_ids, opened, stored

AWAY = KmsUnavailableError("away")
Logs = list[MutableMapping[str, Any]]


class Sidecar:
    """Data keys under the wrapping keys of two KMSs, whose missing copies are completed."""

    def __init__(
        self, store: MemoryKeystore, kmses: dict[str, FakeKms], former: dict[str, FakeKms] | None = None
    ) -> None:
        self.store = store
        self.near, self.far = kmses["near"], kmses["far"]
        self.keys = WrappingKeys(kmses, former=former)
        self.metrics = Metrics()
        self.completion = Completion(store, self.keys, self.metrics, keyring="default")
        self.data_keys = DataKeys(store, self.keys, FakeClock(), os.urandom, on_record=self.completion.offer)

    @property
    def waiting(self) -> float | None:
        """The metric."""
        return self.metrics.registry.get_sample_value("sidekey_incomplete_data_keys")

    async def make(self, generation: int = 1) -> str:
        """A new data key."""
        made = await self.data_keys.make("default", generation)
        assert made is not None
        return made[0].key_id

    def copies(self, key_id: str) -> list[str]:
        """The wrapping keys of a data key, as stored."""
        return kek_ids(self.store.rows[key_id])


@pytest.fixture
async def sidecar() -> Sidecar:
    return Sidecar(await opened(), fakes("near", "far"))


def far_is_away(sidecar: Sidecar) -> None:
    sidecar.far.fail_wrap_with = sidecar.far.fail_unwrap_with = AWAY


def far_is_back(sidecar: Sidecar) -> None:
    sidecar.far.fail_wrap_with = sidecar.far.fail_unwrap_with = None


async def test_a_data_key_made_in_an_outage_gets_its_copy_when_the_outage_is_over(sidecar: Sidecar) -> None:
    far_is_away(sidecar)
    key_id = await sidecar.make()
    assert sidecar.copies(key_id) == ["fake:near"]
    assert sidecar.waiting == 1
    await sidecar.completion.run_once()
    assert sidecar.copies(key_id) == ["fake:near"]
    far_is_back(sidecar)
    for _ in range(2):
        await sidecar.completion.run_once()
    assert sidecar.copies(key_id) == ["fake:near", "fake:far"]
    assert sidecar.waiting == 0
    sidecar.near.fail_unwrap_with = AWAY
    assert (await sidecar.data_keys.load(key_id)).key_id == key_id
    assert_overwritten([sidecar.near, sidecar.far])


async def test_a_data_key_from_before_a_wrapping_key_was_added_is_completed_once_it_is_loaded() -> None:
    store, kmses = await opened(), fakes("near", "far")
    (key_id,) = await stored(store, WrappingKeys({"near": kmses["near"]}))
    sidecar = Sidecar(store, kmses)
    assert sidecar.waiting == 0
    await sidecar.data_keys.load(key_id)
    assert sidecar.waiting == 1
    await sidecar.completion.run_once()
    assert sidecar.copies(key_id) == ["fake:near", "fake:far"]


async def test_a_whole_data_key_is_nobodys_trouble(sidecar: Sidecar) -> None:
    await sidecar.data_keys.load(await sidecar.make())
    assert sidecar.waiting == 0
    before = sidecar.far.wraps
    await sidecar.completion.run_once()
    assert sidecar.far.wraps == before
    assert "get_many" not in sidecar.store.calls


async def test_a_kms_that_is_down_is_asked_whether_it_is_back_though_nothing_waits_for_it(sidecar: Sidecar) -> None:
    whole = await sidecar.make()
    sidecar.near.fail_unwrap_with = AWAY
    await sidecar.data_keys.load(whole)
    sidecar.near.fail_unwrap_with = None
    await sidecar.completion.run_once()
    near, far = sidecar.near.unwraps, sidecar.far.unwraps
    await sidecar.data_keys.load(whole)
    assert (sidecar.near.unwraps, sidecar.far.unwraps) == (near + 1, far)


async def test_a_kms_that_comes_back_after_a_long_time_is_found_back_at_once(sidecar: Sidecar) -> None:
    far_is_away(sidecar)
    key_id = await sidecar.make()
    for _ in range(500):
        await sidecar.completion.run_once()
    far_is_back(sidecar)
    await sidecar.completion.run_once()
    assert sidecar.copies(key_id) == ["fake:near", "fake:far"]


async def test_the_only_kms_is_not_asked_for_the_sake_of_order() -> None:
    kmses = fakes("only")
    keys = WrappingKeys(kmses)
    store = await opened()
    (key_id,) = await stored(store, keys)
    kmses["only"].fail_unwrap_with = AWAY
    with pytest.raises(KmsUnavailableError):
        await keys.unwrap(store.rows[key_id])
    calls = kmses["only"].wraps
    assert not await keys.ask_those_down("default")
    assert kmses["only"].wraps == calls


async def test_a_data_key_waits_once_however_often_it_is_loaded(sidecar: Sidecar) -> None:
    far_is_away(sidecar)
    key_id = await sidecar.make()
    for _ in range(5):
        await sidecar.data_keys.load(key_id)
    assert sidecar.waiting == 1


async def test_no_more_wait_than_there_is_room_for(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.keys.completion._MOST_WAITING", 3)
    far_is_away(sidecar)
    ids = [await sidecar.make(generation) for generation in range(1, 6)]
    assert sidecar.waiting == 3
    far_is_back(sidecar)
    await sidecar.completion.run_once()
    await sidecar.completion.run_once()
    assert sidecar.waiting == 0
    # Those that found no room are offered by their next load.
    await sidecar.data_keys.load(ids[-1])
    assert sidecar.waiting == 1


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.DESTROYED, None])
async def test_what_became_of_a_data_key_meanwhile_is_respected(sidecar: Sidecar, state: KeyState | None) -> None:
    far_is_away(sidecar)
    key_id = await sidecar.make()
    row = sidecar.store.rows.pop(key_id)
    if state is KeyState.DESTROYED:
        sidecar.store.rows[key_id] = replace(row, state=state, wrapped_key=b"")
    elif state is not None:
        sidecar.store.rows[key_id] = replace(row, state=state)
    far_is_back(sidecar)
    for _ in range(2):
        await sidecar.completion.run_once()
    assert sidecar.waiting == 0
    if state is KeyState.DISABLED:
        assert sidecar.copies(key_id) == ["fake:near", "fake:far"]
    elif state is KeyState.DESTROYED:
        assert sidecar.copies(key_id) == []
    else:
        assert key_id not in sidecar.store.rows


async def test_who_was_first_is_let_be(sidecar: Sidecar) -> None:
    far_is_away(sidecar)
    key_id = await sidecar.make()
    far_is_back(sidecar)

    class Racing(MemoryKeystore):
        async def replace_copies(self, key_id: str, expected: Any, copies: Any) -> bool:
            theirs = (*expected, WrappedCopy("fake:far", b"theirs"))
            assert await super().replace_copies(key_id, expected, theirs)
            return await super().replace_copies(key_id, expected, copies)

    racing = Racing(sidecar.store.database)
    await racing.open()
    completion = Completion(racing, sidecar.keys, sidecar.metrics, keyring="default")
    completion.offer(sidecar.store.rows[key_id])
    for _ in range(3):
        await completion.run_once()
    assert sidecar.store.rows[key_id].further_copies == (WrappedCopy("fake:far", b"theirs"),)
    assert sidecar.waiting == 0


async def test_a_kms_that_denies_is_asked_ever_more_rarely(sidecar: Sidecar, logs: Logs) -> None:
    sidecar.far.fail_wrap_with = KmsDeniedError("no")
    ids = [await sidecar.make(generation) for generation in range(1, 4)]
    before = sidecar.far.wraps
    for _ in range(1000):
        await sidecar.completion.run_once()
    assert 10 < sidecar.far.wraps - before < 30
    assert sidecar.waiting == 3
    sidecar.far.fail_wrap_with = None
    for _ in range(65):
        await sidecar.completion.run_once()
    assert [sidecar.copies(key_id) for key_id in ids] == [["fake:near", "fake:far"]] * 3
    left_out = [line for line in logs if line["event"] == "wrapping_key_left_out"]
    assert {line["kms"] for line in left_out} == {"far"}


async def test_a_data_key_that_cannot_be_unwrapped_keeps_no_other_from_completion(sidecar: Sidecar, logs: Logs) -> None:
    far_is_away(sidecar)
    bad, good = [await sidecar.make(generation) for generation in (1, 2)]
    sidecar.store.rows[bad] = replace(sidecar.store.rows[bad], wrapped_key=bytes(60))
    far_is_back(sidecar)
    for _ in range(2):
        await sidecar.completion.run_once()
    assert sidecar.copies(good) == ["fake:near", "fake:far"]
    assert sidecar.waiting == 0
    assert [line["key_id"] for line in logs if line["event"] == "data_key_not_completed"] == [bad]


async def test_a_data_key_that_cannot_be_completed_now_holds_no_other_up(sidecar: Sidecar) -> None:
    sidecar.near.fail_wrap_with = KmsDeniedError("no")
    lacks_near = [await sidecar.make(generation) for generation in (1, 2)]
    sidecar.near.fail_wrap_with, sidecar.far.fail_wrap_with = None, AWAY
    lacks_far = await sidecar.make(3)
    sidecar.near.fail_wrap_with, sidecar.far.fail_wrap_with = KmsDeniedError("no"), None
    before = sidecar.near.wraps
    await sidecar.completion.run_once()
    assert sidecar.copies(lacks_far) == ["fake:near", "fake:far"]
    assert sidecar.near.wraps == before + 1  # of those that are alike, one is tried
    await sidecar.completion.run_once()
    assert sidecar.waiting == 2
    sidecar.near.fail_wrap_with = None
    for _ in range(4):
        await sidecar.completion.run_once()
    assert {tuple(sidecar.copies(key_id)) for key_id in lacks_near} == {("fake:far", "fake:near")}


async def test_a_keyring_that_a_kms_denies_holds_no_other_keyring_up(sidecar: Sidecar) -> None:
    far_is_away(sidecar)
    denied, fine = [(await sidecar.data_keys.make(keyring, 1)) for keyring in ("denied", "fine")]
    assert denied is not None
    assert fine is not None
    far_is_back(sidecar)
    wrap = sidecar.far.wrap

    async def wrap_for_some(data_key: bytes | bytearray, encryption_context: Mapping[str, str]) -> bytes:
        if encryption_context["sidekey:keyring"] == "denied":
            raise KmsDeniedError("no")
        return await wrap(data_key, encryption_context)

    sidecar.far.wrap = wrap_for_some  # type: ignore[method-assign]
    await sidecar.completion.run_once()
    assert sidecar.copies(fine[1].key_id) == ["fake:near", "fake:far"]
    assert sidecar.copies(denied[1].key_id) == ["fake:near"]


async def test_a_run_looks_along_a_long_line_until_something_comes_on(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.keys.completion._MOST_AT_ONCE", 2)
    sidecar.near.fail_wrap_with = KmsDeniedError("no")
    for generation in range(1, 6):
        await sidecar.make(generation)
    sidecar.near.fail_wrap_with, sidecar.far.fail_wrap_with = None, AWAY
    last = await sidecar.make(6)
    sidecar.near.fail_wrap_with, sidecar.far.fail_wrap_with = KmsDeniedError("no"), None
    await sidecar.completion.run_once()
    assert sidecar.copies(last) == ["fake:near", "fake:far"]


async def test_a_row_that_does_not_parse_any_more_keeps_no_other_from_completion(sidecar: Sidecar, logs: Logs) -> None:
    far_is_away(sidecar)
    bad, good = [await sidecar.make(generation) for generation in (1, 2)]
    far_is_back(sidecar)

    class Damaged(MemoryKeystore):
        async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
            if bad in (wanted := list(key_ids)):
                raise CorruptKeyError("a row does not parse")
            return await super().get_many(wanted)

    damaged = Damaged(sidecar.store.database)
    await damaged.open()
    completion = Completion(damaged, sidecar.keys, sidecar.metrics, keyring="default")
    for key_id in (bad, good):
        completion.offer(sidecar.store.rows[key_id])
    for _ in range(2):
        await completion.run_once()
    assert sidecar.copies(good) == ["fake:near", "fake:far"]
    assert sidecar.waiting == 0
    assert [line["key_id"] for line in logs if line["event"] == "data_key_not_completed"] == [bad]


async def test_a_data_key_whose_own_kms_is_away_holds_no_other_up(logs: Logs) -> None:
    store, kmses = await opened(), fakes("near", "far", "gone")
    (gone,) = await stored(store, WrappingKeys({"gone": kmses["gone"]}))
    (near,) = await stored(store, WrappingKeys({"near": kmses["near"]}))
    sidecar = Sidecar(store, {name: kmses[name] for name in ("near", "far")}, former={"gone": kmses["gone"]})
    for key_id in (gone, near):
        await sidecar.data_keys.load(key_id)
    kmses["gone"].fail_unwrap_with = AWAY
    await sidecar.completion.run_once()
    assert sidecar.copies(near) == ["fake:near", "fake:far"]
    assert sidecar.copies(gone) == ["fake:gone"]
    assert [line["reason"] for line in logs if line["event"] == "completion_postponed"] == ["KMS_UNAVAILABLE"]


async def test_a_keystore_that_is_away_postpones_it(sidecar: Sidecar, logs: Logs) -> None:
    far_is_away(sidecar)
    key_id = await sidecar.make()
    far_is_back(sidecar)
    sidecar.store.fail_with = KeystoreUnavailableError("away")
    await sidecar.completion.run_once()
    assert [line["reason"] for line in logs if line["event"] == "completion_postponed"] == ["KEYSTORE_UNAVAILABLE"]
    sidecar.store.fail_with = None
    for _ in range(2):
        await sidecar.completion.run_once()
    assert sidecar.copies(key_id) == ["fake:near", "fake:far"]
