"""How long entries live and when they are refreshed, each boundary a tick before, at and after."""

import asyncio
import math
from typing import Any

import pytest

from tests.keys.bench import TICK, TTL, Bench
from tests.keys.origin import Value
from tests.keys.settling import fetches_done, turns


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
        {"stale_on_outage_seconds": -1.0},
        {"stale_on_outage_seconds": math.inf},
        {"stale_on_outage_seconds": math.nan},
    ],
    ids=str,
)
def test_a_lifetime_without_end_or_without_room_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Bench(**wrong)


@pytest.mark.parametrize(("jitter", "life"), [(0.0, TTL), (63 / 64, 32.5)])
async def test_an_entry_lives_until_just_before_its_expiry(jitter: float, life: float) -> None:
    bench = Bench(jitter)
    bench.cache.put("a", first := bench.origin.value(0), since=bench.clock.monotonic())
    bench.clock.advance(life - TICK)
    assert bench.cache.glance("a") == first
    assert len(bench.cache) == 1
    bench.clock.advance(TICK)
    assert bench.cache.glance("a") is None
    assert bench.cache.peek("a") is None
    assert len(bench.cache) == 0


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
