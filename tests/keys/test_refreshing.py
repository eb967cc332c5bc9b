"""The cache's boundaries one by one, each a tick before, at and after."""

import asyncio
import itertools
import math
from typing import Any

import pytest

from sidecar.errors import KmsDeniedError, KmsUnavailableError
from sidecar.keys.refreshing import Lifetime, RefreshingCache
from tests.fakes.clock import FakeClock
from tests.keys.origin import Origin, Recorded, Value
from tests.keys.settling import fetches_done, turns

TICK = 1 / 64
TTL = 64.0
Cache = RefreshingCache[str, Value]


class Bench:
    """A cache, what it fetches from, and a clock."""

    def __init__(self, jitter: float = 0.0, **lifetime: Any) -> None:
        self.clock = FakeClock()
        self.origin = Origin(self.clock)
        self.origin.ready = True
        self.recorded = Recorded()
        terms: dict[str, Any] = {
            "ttl_seconds": TTL,
            "jitter_fraction": 0.5,
            "refresh_after_fraction": 0.75,
            "failure_seconds": 4.0,
            "max_entries": 100,
        }
        self.cache: Cache = RefreshingCache(
            self.origin.fetch, Lifetime(**terms | lifetime), self.clock, self.recorded, lambda: jitter
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl_seconds": 0.0},
        {"ttl_seconds": -1.0},
        {"ttl_seconds": math.inf},
        {"ttl_seconds": math.nan},
        {"jitter_fraction": 1.0},
        {"jitter_fraction": -0.1},
        {"jitter_fraction": math.nan},
        {"refresh_after_fraction": 0.0},
        {"refresh_after_fraction": 1.0},
        {"failure_seconds": -1.0},
        {"failure_seconds": math.inf},
        {"max_entries": 0},
        {"max_background_fetches": 0},
    ],
    ids=str,
)
def test_a_lifetime_without_end_or_without_room_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Bench(**wrong)


@pytest.mark.parametrize(("jitter", "life"), [(0.0, TTL), (63 / 64, 32.5)])
async def test_an_entry_lives_until_just_before_its_expiry(jitter: float, life: float) -> None:
    bench = Bench(jitter)
    first = await bench.cache.get("a")
    bench.origin.fails = KmsUnavailableError("away")
    bench.clock.advance(life - TICK)
    assert bench.cache.peek("a") == first
    await fetches_done()
    bench.clock.advance(TICK)
    assert bench.cache.peek("a") is None
    assert len(bench.cache) == 0
    with pytest.raises(KmsUnavailableError):
        await bench.cache.get("a")


async def test_life_counts_from_before_the_fetch_began() -> None:
    bench = Bench()
    bench.origin.ready = False
    caller = asyncio.create_task(bench.cache.get("a"))
    await turns()
    began = bench.clock.monotonic()
    bench.clock.advance(TTL - TICK)
    bench.origin.land("a", Value(1, began))
    assert await caller == Value(1, began)
    assert bench.cache.peek("a") == Value(1, began)
    bench.clock.advance(TICK)
    assert bench.cache.peek("a") is None


async def test_a_fetch_slower_than_the_ttl_answers_its_callers_and_is_not_kept() -> None:
    bench = Bench()
    bench.origin.ready = False
    caller = asyncio.create_task(bench.cache.get("a"))
    await turns()
    began = bench.clock.monotonic()
    bench.clock.advance(TTL)
    bench.origin.land("a", Value(1, began))
    assert await caller == Value(1, began)
    assert len(bench.cache) == 0


@pytest.mark.parametrize("jitter", [0.0, 63 / 64])
async def test_a_refresh_begins_at_its_fraction_of_the_life_and_not_before(jitter: float) -> None:
    bench = Bench(jitter)
    first = await bench.cache.get("a")
    bench.clock.advance(TTL * (1 - 0.5 * jitter) * 0.75 - TICK)
    bench.cache.sweep()
    assert bench.cache.peek("a") == first
    await fetches_done()
    assert bench.origin.fetches["a"] == 1
    bench.clock.advance(TICK)
    bench.cache.sweep()
    await fetches_done()
    assert bench.origin.fetches["a"] == 2
    assert bench.cache.peek("a") != first


async def test_a_use_starts_a_refresh_that_is_due_and_does_not_wait_for_it() -> None:
    bench = Bench()
    first = await bench.cache.get("a")
    bench.origin.ready = False
    bench.clock.advance(TTL * 0.75)
    assert await bench.cache.get("a") == first
    await turns()
    assert list(bench.origin.waiting) == ["a"]
    assert await bench.cache.get("a") == first
    bench.origin.land("a", Value(9, bench.clock.monotonic()))
    await fetches_done()
    assert await bench.cache.get("a") == Value(9, bench.clock.monotonic())


async def test_what_wants_to_be_fetched_sooner_is() -> None:
    bench = Bench()
    bench.origin.refresh_within = 2.0
    await bench.cache.get("a")
    bench.clock.advance(2.0 - TICK)
    bench.cache.sweep()
    await fetches_done()
    assert bench.origin.fetches["a"] == 1
    bench.clock.advance(TICK)
    bench.cache.sweep()
    await fetches_done()
    assert bench.origin.fetches["a"] == 2


async def test_an_entry_in_use_never_makes_a_caller_wait() -> None:
    """Ten lives long, with a fetch that takes a second, each use finds a value that is alive."""
    bench = Bench(jitter=63 / 64)
    bench.origin.refresh_within = 20.0
    await bench.cache.get("a")
    bench.origin.ready = False
    for second in range(10 * int(TTL)):
        value = bench.cache.peek("a") if second % 7 == 0 else None
        assert value is None or bench.clock.monotonic() < value.since + TTL
        assert value is not None or second % 7
        bench.cache.sweep()
        await turns(3)
        began = bench.clock.monotonic()
        bench.clock.advance(1.0)
        if "a" in bench.origin.waiting:
            bench.origin.land("a", Value(second, began))
        await fetches_done()
    events = bench.recorded.taken()
    assert events.count(("lookup", "miss")) == 1
    assert events.count(("refreshed", "ok")) >= 10
    assert ("lookup", "stale") not in events


async def test_an_entry_that_nobody_uses_is_not_refreshed_and_goes() -> None:
    bench = Bench()
    await bench.cache.get("a")
    bench.clock.advance(TTL * 0.75)
    bench.cache.sweep()  # its first use was the miss: it is refreshed once
    await fetches_done()
    for _ in range(5):
        bench.clock.advance(TTL / 4)
        bench.cache.sweep()
        await fetches_done()
    assert bench.origin.fetches["a"] == 2
    assert bench.recorded.entries == 0


async def test_put_counts_life_from_its_own_beginning_and_is_no_use() -> None:
    bench = Bench()
    value = bench.origin.value(0)
    bench.cache.put("a", value, since=bench.clock.monotonic() - 60.0)
    bench.cache.sweep()
    await fetches_done()
    assert bench.origin.fetches["a"] == 0
    bench.clock.advance(4.0 - TICK)
    assert bench.cache.peek("a") == value
    await fetches_done()
    bench.cache.put("b", value, since=bench.clock.monotonic() - TTL)
    assert bench.cache.peek("b") is None


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


async def test_an_outage_is_not_remembered_where_there_is_no_entry() -> None:
    bench = Bench()
    bench.origin.fails = KmsUnavailableError("away")
    for _ in range(3):
        with pytest.raises(KmsUnavailableError):
            await bench.cache.get("a")
    assert bench.origin.fetches["a"] == 3
    assert bench.recorded.taken() == [("lookup", "miss")] * 3


async def test_the_least_recently_used_entry_makes_room_even_after_a_sweep() -> None:
    bench = Bench(max_entries=2)
    for key in ("used", "idle"):
        await bench.cache.get(key)
    kept = bench.cache.peek("used")
    bench.cache.sweep()
    await bench.cache.get("new")
    assert bench.cache.peek("idle") is None
    assert bench.cache.peek("used") == kept
    assert bench.recorded.events.count(("evicted", "capacity")) == 1
    assert bench.recorded.entries == len(bench.cache) == 2


async def test_a_value_that_left_for_want_of_room_still_works_for_who_has_it() -> None:
    bench = Bench(max_entries=1)
    held = await bench.cache.get("a")
    await bench.cache.get("b")
    assert bench.cache.peek("a") is None
    assert held.number == 1


async def test_an_entry_evicted_during_its_refresh_comes_back_with_it() -> None:
    bench = Bench(max_entries=1)
    await bench.cache.get("a")
    bench.origin.ready = False
    bench.clock.advance(48.0)
    bench.cache.sweep()
    await turns()
    bench.cache.put("b", bench.origin.value(0), since=bench.clock.monotonic())
    fresh = Value(9, bench.clock.monotonic())
    bench.origin.land("a", fresh)
    await fetches_done()
    assert bench.cache.peek("a") == fresh


async def test_a_sweep_starts_a_bounded_number_of_refreshes_and_the_next_goes_on() -> None:
    bench = Bench(max_background_fetches=4)
    keys = [f"k{number}" for number in range(10)]
    for key in keys:
        await bench.cache.get(key)
    bench.origin.ready = False
    bench.clock.advance(48.0)
    started = 0
    while started < len(keys):
        bench.cache.sweep()
        bench.cache.sweep()
        await turns()
        assert len(bench.origin.waiting) == min(4, len(keys) - started)
        started += len(bench.origin.waiting)
        for key in list(bench.origin.waiting):
            bench.origin.land(key, Value(0, bench.clock.monotonic()))
        await fetches_done()
    assert set(bench.origin.fetches.values()) == {2}


async def test_a_sweep_drops_what_has_expired_and_nothing_else() -> None:
    bench = Bench()
    for key in ("a", "b"):
        await bench.cache.get(key)
        bench.clock.advance(32.0)
    bench.cache.sweep()
    await fetches_done()
    assert len(bench.cache) == bench.recorded.entries == 1
    bench.clock.advance(TTL)
    bench.cache.sweep()
    assert len(bench.cache) == bench.recorded.entries == 0
