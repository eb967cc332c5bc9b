"""Refreshes and fetches that fail: for now, or for good."""

import itertools

import pytest

from sidecar.errors import KmsDeniedError, KmsUnavailableError
from tests.keys.bench import TICK, Bench
from tests.keys.settling import fetches_done, turns


async def test_put_ends_the_memory_of_a_failure() -> None:
    bench = Bench()
    bench.origin.fails = KmsDeniedError("no")
    with pytest.raises(KmsDeniedError):
        await bench.cache.get("a")
    value = bench.origin.value(0)
    bench.cache.put("a", value, since=bench.clock.monotonic())
    assert await bench.cache.get("a") == value
    bench.cache.evict("a")
    bench.origin.fails = None
    assert await bench.cache.get("a") != value


async def test_an_outage_keeps_the_entry_until_its_expiry_and_is_asked_about_ever_more_rarely() -> None:
    bench = Bench(ttl_seconds=512.0, refresh_after_fraction=0.125)
    first = await bench.cache.get("a")
    bench.origin.fails = KmsUnavailableError("away")
    attempts: list[float] = []
    began = bench.clock.monotonic()
    while bench.clock.monotonic() < began + 512.0:
        before = bench.origin.fetches["a"]
        assert bench.cache.peek("a") == first
        await turns(3)
        if bench.origin.fetches["a"] > before:
            attempts.append(bench.clock.monotonic() - began)
        bench.clock.advance(0.25)
    waits = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert attempts[0] == 512.0 / 8
    assert waits[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0]  # half of 1, 2, … 16, 30, since the jitter here is 0
    assert set(waits[6:]) == {15.0}
    assert bench.cache.peek("a") is None
    results = bench.recorded.taken()
    assert results.count(("refreshed", "retry")) == len(attempts)
    assert ("lookup", "stale") in results
    assert ("evicted", "refused") not in results


async def test_a_refresh_that_succeeds_ends_the_staleness() -> None:
    bench = Bench()
    await bench.cache.get("a")
    bench.origin.fails = KmsUnavailableError("away")
    bench.clock.advance(48.0)
    await bench.cache.get("a")
    await fetches_done()
    bench.origin.fails = None
    bench.clock.advance(0.5)
    await bench.cache.get("a")
    await fetches_done()
    await bench.cache.get("a")
    lookups = [result for event, result in bench.recorded.taken() if event == "lookup"]
    assert lookups == ["miss", "hit", "stale", "hit"]


async def test_a_permanent_failure_removes_the_entry_at_once() -> None:
    bench = Bench()
    await bench.cache.get("a")
    bench.origin.fails = KmsDeniedError("no")
    bench.clock.advance(48.0)
    bench.cache.sweep()
    await fetches_done()
    assert bench.cache.peek("a") is None
    assert bench.recorded.entries == 0
    assert bench.recorded.taken() == [("lookup", "miss"), ("refreshed", "gone"), ("evicted", "refused")]


@pytest.mark.parametrize("seconds", [0.0, TICK, 4.0])
async def test_a_permanent_failure_is_remembered_for_its_time_and_not_longer(seconds: float) -> None:
    bench = Bench(failure_seconds=seconds)
    bench.origin.fails = KmsDeniedError("no")
    with pytest.raises(KmsDeniedError):
        await bench.cache.get("a")
    bench.origin.fails = None
    if seconds:
        bench.clock.advance(seconds - TICK)
        with pytest.raises(KmsDeniedError, match="no"):
            await bench.cache.get("a")
        assert bench.origin.fetches["a"] == 1
        bench.clock.advance(TICK)
    await bench.cache.get("a")
    assert bench.origin.fetches["a"] == 2


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 0.5), (0.5, 0.75)])
async def test_an_outage_without_an_entry_is_remembered_for_a_moment(jitter: float, seconds: float) -> None:
    bench = Bench(jitter)
    bench.origin.fails = KmsUnavailableError("away")
    for _ in range(3):
        with pytest.raises(KmsUnavailableError):
            await bench.cache.get("a")
    assert bench.origin.fetches["a"] == 1
    bench.origin.fails = None
    bench.clock.advance(seconds - TICK)
    with pytest.raises(KmsUnavailableError, match="away"):
        await bench.cache.get("a")
    bench.clock.advance(TICK)
    await bench.cache.get("a")
    assert bench.origin.fetches["a"] == 2
    assert bench.recorded.taken() == [("lookup", "miss")] * 5
