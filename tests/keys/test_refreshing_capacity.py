"""Bounds: of entries in the cache, and of refreshes in the background."""

from tests.keys.bench import TTL, Bench
from tests.keys.origin import Value
from tests.keys.settling import fetches_done, turns


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
