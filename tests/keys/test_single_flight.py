"""Many callers of one key: one fetch, whatever becomes of the callers."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.errors import KmsDeniedError, KmsUnavailableError, SidekeyError
from sidecar.keys.lifetime import Lifetime
from sidecar.keys.outage import Outage, Pace
from sidecar.keys.refreshing import RefreshingCache
from tests.fakes.clock import FakeClock
from tests.keys.origin import Origin, Recorded, Value
from tests.keys.settling import fetches_done, turns

CALLERS = 400
Cache = RefreshingCache[str, Value]
Callers = list["asyncio.Task[Value]"]


@pytest.fixture
def origin() -> Origin:
    return Origin(FakeClock())


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
async def cache(origin: Origin, recorded: Recorded) -> AsyncIterator[Cache]:
    """A cold cache; when the test is over, the loop must have nothing to complain of ("was never retrieved")."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    lifetime = Lifetime(64.0, 0.0, 0.75, 4.0, 100)
    outage = Outage(10.0, origin.clock, lambda: 0.0)
    yield RefreshingCache(origin.fetch, lifetime, origin.clock, recorded, lambda: 0.0, outage, Pace())
    await turns()
    gc.collect()
    await turns()
    assert complaints == []


@pytest.fixture
async def callers(cache: Cache, origin: Origin) -> Callers:
    """Callers that all wait for one fetch of ``a``."""
    tasks = [asyncio.create_task(cache.get("a")) for _ in range(CALLERS)]
    await turns()
    assert list(origin.waiting) == ["a"]
    return tasks


async def test_400_callers_of_a_cold_cache_make_one_fetch(callers: Callers, origin: Origin, recorded: Recorded) -> None:
    value = Value(1, origin.clock.monotonic())
    origin.land("a", value)
    assert await asyncio.gather(*callers) == [value] * CALLERS
    assert origin.fetches == {"a": 1}
    assert recorded.taken() == [("lookup", "miss")] * CALLERS


async def test_cancelled_callers_leave_the_fetch_to_the_others(callers: Callers, origin: Origin) -> None:
    for caller in callers[::2]:
        caller.cancel()
    await turns()
    value = Value(1, origin.clock.monotonic())
    origin.land("a", value)
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert answers[1::2] == [value] * (CALLERS // 2)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert origin.fetches == {"a": 1}


async def test_when_all_callers_left_the_fetch_still_fills_the_cache(
    callers: Callers, origin: Origin, cache: Cache
) -> None:
    for caller in callers:
        caller.cancel()
    await turns()
    assert all(caller.cancelled() for caller in callers)
    value = Value(1, origin.clock.monotonic())
    origin.land("a", value)
    await fetches_done()
    assert await cache.get("a") == value
    assert origin.fetches == {"a": 1}


@pytest.mark.parametrize(
    "error", [KmsDeniedError("no"), KmsUnavailableError("away"), RuntimeError("a defect")], ids=repr
)
async def test_an_error_that_nobody_waits_for_any_more_is_no_complaint(
    callers: Callers, origin: Origin, error: Exception
) -> None:
    for caller in callers:
        caller.cancel()
    await turns()
    origin.land("a", error)
    del error
    await fetches_done()


@pytest.mark.parametrize("kind", [KmsDeniedError, KmsUnavailableError])
async def test_an_error_reaches_every_caller_as_its_own_object(
    callers: Callers, origin: Origin, kind: type[SidekeyError]
) -> None:
    for caller in callers[::2]:
        caller.cancel()
    origin.land("a", kind("no"))
    answers = (await asyncio.gather(*callers, return_exceptions=True))[1::2]
    assert [type(answer) for answer in answers] == [kind] * (CALLERS // 2)
    assert {str(answer) for answer in answers} == {"no"}
    assert len({id(answer) for answer in answers}) == len(answers)
    assert len({id(answer.__traceback__) for answer in answers if isinstance(answer, kind)}) == len(answers)


async def test_a_remembered_failure_is_a_new_object_for_every_caller(
    callers: Callers, origin: Origin, cache: Cache
) -> None:
    origin.land("a", KmsDeniedError("no"))
    await asyncio.gather(*callers, return_exceptions=True)
    again = await asyncio.gather(*(cache.get("a") for _ in range(3)), return_exceptions=True)
    assert len({id(error) for error in again}) == 3
    assert origin.fetches == {"a": 1}


async def test_a_defect_in_a_fetch_reaches_the_callers_and_keeps_its_text_from_the_log(
    callers: Callers, origin: Origin, cache: Cache, logs: list[dict[str, Any]]
) -> None:
    origin.land("a", RuntimeError("hunter2"))
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(answer) for answer in answers} == {RuntimeError}
    assert [line["event"] for line in logs] == ["fetch_defect"]
    assert "hunter2" not in repr(logs)
    origin.ready = True
    assert await cache.get("a")


async def test_different_keys_do_not_wait_for_each_other(callers: Callers, origin: Origin, cache: Cache) -> None:
    other = asyncio.create_task(cache.get("b"))
    await turns()
    value = Value(2, origin.clock.monotonic())
    origin.land("b", value)
    assert await other == value
    assert not any(caller.done() for caller in callers)
    await cache.close()


async def test_close_cancels_fetches_and_their_callers_and_forgets_everything(
    callers: Callers, origin: Origin, cache: Cache, recorded: Recorded
) -> None:
    cache.put("b", origin.value(0), since=origin.clock.monotonic())
    await cache.close()
    await asyncio.wait(callers, timeout=5)
    assert all(caller.cancelled() for caller in callers)
    assert origin.waiting == {}
    assert len(cache) == recorded.entries == 0
    assert cache.peek("b") is None


async def test_close_forgets_failures_too(origin: Origin, cache: Cache) -> None:
    origin.ready = True
    origin.fails = KmsDeniedError("no")
    with pytest.raises(KmsDeniedError):
        await cache.get("a")
    await cache.close()
    origin.fails = None
    assert await cache.get("a")
