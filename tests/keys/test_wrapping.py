"""Several wrapping keys: who wraps and unwraps, in which order, how long one waits, and what failures mean."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sidecar.crypto import key_schedule
from sidecar.errors import (
    CorruptKeyError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
)
from sidecar.keys.wrapping import MOST_COPIES, WrappingKeys
from sidecar.keystore.port import DataKeyRecord, KeyState, WrappedCopy
from tests.fakes.kms import FakeKms
from tests.fakes.virtual_time import in_virtual_time
from tests.keys.settling import turns
from tests.keys.wrapping import assert_overwritten, fakes

KEY_ID = "0123456789abcd"
DATA_KEY = bytes(range(32))
Logs = list[MutableMapping[str, Any]]


def record_of(copies: Iterable[WrappedCopy], data_key: bytes = DATA_KEY) -> DataKeyRecord:
    """A data key with these copies."""
    first, *further = copies
    return DataKeyRecord(
        KEY_ID,
        "default",
        1,
        KeyState.ENABLED,
        datetime(2026, 1, 1, tzinfo=UTC),
        first.kek_id,
        first.wrapped_key,
        key_schedule.commitment(data_key),
        tuple(further),
    )


async def wrapped(keys: WrappingKeys) -> DataKeyRecord:
    """A data key wrapped by them."""
    data_key = bytearray(DATA_KEY)
    try:
        return record_of(await keys.wrap(data_key, "default", KEY_ID))
    finally:
        key_schedule.overwrite(data_key)


def hang(kms: FakeKms) -> None:
    kms.gate = asyncio.Event()


def fail(error: Exception) -> Callable[[FakeKms], None]:
    def trouble(kms: FakeKms) -> None:
        kms.fail_wrap_with = kms.fail_unwrap_with = error

    return trouble


def corrupt(kms: FakeKms) -> None:
    kms.corrupt_answers = True


def well(_kms: FakeKms) -> None:
    pass


TROUBLE: dict[str, Callable[[FakeKms], None]] = {
    "well": well,
    "hangs": hang,
    "away": fail(KmsUnavailableError("away")),
    "throttled": fail(KmsThrottledError("slowly")),
    "denied": fail(KmsDeniedError("no")),
    "disabled": fail(KmsDisabledError("off")),
    "corrupt": corrupt,
}
OUTAGES = frozenset({"hangs", "away", "throttled"})
REFUSALS: dict[str, type[SidekeyError]] = {"denied": KmsDeniedError, "disabled": KmsDisabledError}
ERRORS: dict[str, type[SidekeyError]] = REFUSALS | {
    "corrupt": CorruptKeyError,
    "away": KmsUnavailableError,
    "throttled": KmsThrottledError,
}


def unwrap_outcome(first: str, second: str) -> type[SidekeyError] | None:
    """What the order of two KMSs in these states makes of an unwrap; None: the data key."""
    if first == "well":
        return None
    if first in REFUSALS:
        return REFUSALS[first]
    # The first is an outage or corrupt: the second is asked.
    if second == "well":
        return None
    if second in REFUSALS:
        return REFUSALS[second]
    if first == second == "corrupt":
        return CorruptKeyError
    return KmsUnavailableError if "throttled" not in (first, second) else SidekeyError


@pytest.mark.parametrize(
    ("first", "second"), [pair for pair in itertools.product(TROUBLE, TROUBLE) if pair != ("hangs", "hangs")]
)
@in_virtual_time
async def test_an_unwrap_ends_as_the_order_of_the_kmss_and_their_answers_say(first: str, second: str) -> None:
    kmses = fakes("a", "b")
    keys = WrappingKeys(kmses, failover_seconds=1.0)
    record = await wrapped(keys)
    for name, kms in zip((first, second), kmses.values(), strict=True):
        TROUBLE[name](kms)
    expected = unwrap_outcome(first, second)
    loop = asyncio.get_running_loop()
    started = loop.time()
    # What hangs alone is ended by its guard, which this test does without.
    unwrapping = asyncio.ensure_future(keys.unwrap(record))
    done, _ = await asyncio.wait([unwrapping], timeout=5)
    took = loop.time() - started
    if not done:
        assert "hangs" in (first, second)
        assert expected not in (None, *REFUSALS.values())
        unwrapping.cancel()
        await asyncio.wait([unwrapping])
        assert_overwritten(kmses.values())
        return
    if expected is None:
        data_key = unwrapping.result()
        assert data_key == DATA_KEY
        assert_overwritten(kmses.values(), data_key)
    else:
        assert isinstance(unwrapping.exception(), expected)
        assert_overwritten(kmses.values())
    # Nobody waits for longer than it takes to find out that the first one hangs.
    assert took == pytest.approx(1.0 if first == "hangs" else 0.0)
    assert kmses["b"].unwraps == 1 + (first not in ("well", *REFUSALS))


@pytest.mark.parametrize(
    ("first", "second"), [pair for pair in itertools.product(TROUBLE, TROUBLE) if pair != ("hangs", "hangs")]
)
@in_virtual_time
async def test_a_wrap_leaves_out_who_cannot_and_never_takes_what_is_not_proved(
    first: str, second: str, logs: Logs
) -> None:
    kmses = fakes("a", "b")
    states = dict(zip(kmses, (first, second), strict=True))
    for name, kms in kmses.items():
        TROUBLE[states[name]](kms)
    data_key = bytearray(DATA_KEY)
    wrapping = asyncio.ensure_future(WrappingKeys(kmses, failover_seconds=1.0).wrap(data_key, "default", KEY_ID))
    await asyncio.wait([wrapping], timeout=5)
    well_ones = [f"fake:{name}" for name, state in states.items() if state == "well"]
    if not wrapping.done():
        assert "hangs" in states.values()
        assert not well_ones
        wrapping.cancel()
        await asyncio.wait([wrapping])
    elif "corrupt" in states.values():
        assert isinstance(wrapping.exception(), CorruptKeyError)
    elif well_ones:
        assert [copy.kek_id for copy in wrapping.result()] == well_ones
        left_out = {line["kms"] for line in logs if line["event"] == "wrapping_key_left_out"}
        assert left_out == {name for name, state in states.items() if state != "well"}
    else:
        assert isinstance(wrapping.exception(), tuple(ERRORS[state] for state in states.values()))
        if OUTAGES & set(states.values()):
            assert isinstance(wrapping.exception(), KmsUnavailableError | KmsThrottledError)
    key_schedule.overwrite(data_key)
    assert_overwritten(kmses.values())
    assert all(kms.running == 0 for kms in kmses.values())


async def test_copies_are_made_under_all_wrapping_keys_at_once_and_in_order() -> None:
    kmses = fakes("c", "a", "b")
    for kms in kmses.values():
        hang(kms)
    keys = WrappingKeys(kmses)
    wrapping = asyncio.create_task(wrapped(keys))
    await turns()
    assert [kms.running for kms in kmses.values()] == [1, 1, 1]
    for kms in kmses.values():
        assert kms.gate is not None
        kms.gate.set()
    record = await wrapping
    assert [copy.kek_id for copy in record.copies] == ["fake:c", "fake:a", "fake:b"]
    for name in kmses:
        alone = WrappingKeys({name: kmses[name]})
        assert await alone.unwrap(record) == DATA_KEY


async def test_two_names_for_one_wrapping_key_make_one_copy() -> None:
    kms = FakeKms()
    record = await wrapped(WrappingKeys({"one": kms, "two": kms}))
    assert [copy.kek_id for copy in record.copies] == [kms.kek_id]


@in_virtual_time
async def test_a_kms_that_is_down_is_asked_last_until_it_answers_again() -> None:
    kmses = fakes("near", "far")
    keys = WrappingKeys(kmses, failover_seconds=1.0)
    record = await wrapped(keys)
    loop = asyncio.get_running_loop()
    hang(kmses["near"])
    times = []
    for _ in range(5):
        started = loop.time()
        assert await keys.unwrap(record) == DATA_KEY
        times.append(loop.time() - started)
    assert times == [pytest.approx(1.0), 0.0, 0.0, 0.0, 0.0]
    assert kmses["near"].unwraps == 2
    started = loop.time()
    assert len((await wrapped(keys)).copies) == 1
    assert loop.time() == started
    kmses["near"].gate = None
    await keys.ask_those_down("default")
    far = kmses["far"].unwraps
    assert await keys.unwrap(record) == DATA_KEY
    assert (kmses["near"].unwraps, kmses["far"].unwraps) == (4, far)


async def test_a_kms_that_is_down_is_asked_all_the_same_where_no_other_has_a_copy() -> None:
    kmses = fakes("a", "b")
    keys = WrappingKeys(kmses)
    record = await wrapped(keys)
    fail(KmsUnavailableError("away"))(kmses["a"])
    await keys.unwrap(record)
    well_again = replace(record, further_copies=())
    kmses["a"].fail_unwrap_with = None
    assert await keys.unwrap(well_again) == DATA_KEY


async def test_a_wrap_asks_those_that_are_down_where_no_other_wraps() -> None:
    kmses = fakes("a", "b")
    keys = WrappingKeys(kmses)
    fail(KmsUnavailableError("away"))(kmses["a"])
    await wrapped(keys)
    kmses["a"].fail_wrap_with = kmses["a"].fail_unwrap_with = None
    fail(KmsDeniedError("no"))(kmses["b"])
    assert [copy.kek_id for copy in (await wrapped(keys)).copies] == ["fake:a"]


@in_virtual_time
async def test_a_late_answer_of_who_was_given_up_is_overwritten() -> None:
    class Stubborn(FakeKms):
        """Answers all the same when it is cancelled."""

        async def _wait(self) -> None:
            try:
                await super()._wait()
            except asyncio.CancelledError:
                await asyncio.sleep(2)

    kmses = {"slow": Stubborn("fake:slow"), "quick": FakeKms("fake:quick")}
    keys = WrappingKeys(kmses, failover_seconds=1.0)
    record = await wrapped(keys)
    hang(kmses["slow"])
    data_key = await keys.unwrap(record)
    handed_out = len(kmses["slow"].key_buffers)
    await keys.close()
    assert len(kmses["slow"].key_buffers) == handed_out + 1
    assert_overwritten(kmses.values(), data_key)
    assert all(kms.closed == 1 for kms in kmses.values())


@pytest.mark.parametrize("work", ["wrap", "unwrap"])
async def test_a_cancelled_call_leaves_no_call_and_no_bytes_behind(work: str) -> None:
    kmses = fakes("a", "b")
    keys = WrappingKeys(kmses)
    record = await wrapped(keys)
    for kms in kmses.values():
        hang(kms)
    calls: dict[str, Callable[[], Any]] = {"wrap": lambda: wrapped(keys), "unwrap": lambda: keys.unwrap(record)}
    call = asyncio.create_task(calls[work]())
    await turns()
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    await turns()
    assert [kms.running for kms in kmses.values()] == [0, 0]
    assert_overwritten(kmses.values())


async def test_a_corrupt_copy_is_named_loudly_and_another_serves(logs: Logs) -> None:
    kmses = fakes("a", "b")
    keys = WrappingKeys(kmses)
    record = await wrapped(keys)
    damaged = replace(record, wrapped_key=bytes(60))
    assert await keys.unwrap(damaged) == DATA_KEY
    (line,) = (line for line in logs if line["event"] == "data_key_copy_corrupt")
    assert (line["log_level"], line["kek_id"], line["key_id"]) == ("error", "fake:a", KEY_ID)


async def test_a_copy_that_another_kms_unwraps_is_not_called_corrupt(logs: Logs) -> None:
    kmses = fakes("a", "b")
    record = await wrapped(WrappingKeys({"b": kmses["b"]}))
    # a cannot tell b's wrapping key from one of its own, before it is asked.
    kmses["a"].earlier_kek_ids.add("fake:b")
    assert await WrappingKeys(kmses).unwrap(record) == DATA_KEY
    assert [line["event"] for line in logs] == []


async def test_a_data_key_under_no_configured_wrapping_key_says_which_it_is_under_and_asks_nobody(logs: Logs) -> None:
    kmses = fakes("old", "new")
    record = await wrapped(WrappingKeys({"old": kmses["old"]}))
    with pytest.raises(KmsDeniedError, match=r"wrapped under fake:old, .* wrapping keys are fake:new: .*formerKms"):
        await WrappingKeys({"new": kmses["new"]}).unwrap(record)
    assert kmses["new"].unwraps == 0
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["data_key_wrapped_elsewhere"]


async def test_a_former_kms_unwraps_and_never_wraps() -> None:
    kmses = fakes("old", "new")
    record = await wrapped(WrappingKeys({"old": kmses["old"]}))
    keys = WrappingKeys({"new": kmses["new"]}, former={"old": kmses["old"]})
    await keys.open()
    assert await keys.unwrap(record) == DATA_KEY
    assert [copy.kek_id for copy in (await wrapped(keys)).copies] == ["fake:new"]
    assert [copy.kek_id for copy in await keys.completed(record)] == ["fake:old", "fake:new"]
    assert kmses["old"].wraps == 1
    await keys.close()
    assert [(kms.opened, kms.closed) for kms in kmses.values()] == [(1, 1), (1, 1)]
    assert (list(keys.names), list(keys.kek_ids)) == (["fake"], ["fake:new"])


async def test_of_several_copies_that_one_kms_may_unwrap_that_of_its_wrapping_key_of_now_comes_first() -> None:
    class Noting(FakeKms):
        asked: bytes | None = None

        async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
            self.asked = wrapped_key
            return await super().unwrap(wrapped_key, encryption_context)

    kms = Noting("fake:old")
    keys = WrappingKeys({"a": kms})
    old = await wrapped(keys)
    kms.kek_id, kms.earlier_kek_ids = "fake:new", {"fake:old"}
    both = record_of((*old.copies, *(await wrapped(keys)).copies))
    await keys.unwrap(both)
    assert kms.asked == both.further_copies[0].wrapped_key


async def test_a_data_key_lacks_the_copies_of_wrapping_keys_that_came_since() -> None:
    kmses = fakes("a", "b")
    keys = WrappingKeys(kmses)
    partly = await wrapped(WrappingKeys({"a": kmses["a"]}))
    # Before a KMS has wrapped anything its own words are all there is to go by.
    assert keys.lacks_copies(partly)
    whole = await wrapped(keys)
    assert not keys.lacks_copies(whole)
    kmses["a"].kek_id, kmses["a"].earlier_kek_ids = "fake:a2", {"fake:a"}
    assert not keys.lacks_copies(whole)
    await wrapped(keys)
    assert keys.lacks_copies(whole)
    full = replace(whole, further_copies=tuple(WrappedCopy(f"k:{n}", b"w") for n in range(MOST_COPIES - 1)))
    assert not keys.lacks_copies(full)


async def test_the_wrapping_keys_of_now_are_learnt_by_wrapping_what_is_thrown_away() -> None:
    kmses = fakes("a", "b")
    keys = WrappingKeys(kmses)
    assert await keys.current("default") == ["fake:a", "fake:b"]
    assert_overwritten(kmses.values())
    fail(KmsDeniedError("no"))(kmses["b"])
    with pytest.raises(KmsDeniedError):
        await keys.current("default")


async def test_a_defect_in_a_provider_is_not_taken_for_an_answer() -> None:
    kmses = fakes("a", "b")
    fail(ZeroDivisionError())(kmses["b"])
    with pytest.raises(ZeroDivisionError):
        await wrapped(WrappingKeys(kmses))


def test_there_must_be_a_kms() -> None:
    with pytest.raises(ValueError, match="a KMS"):
        WrappingKeys({})
