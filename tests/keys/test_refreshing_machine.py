"""The cache against a model of it: lookups, fetches, failures, evictions and time, in any order, at every boundary.

All times are multiples of 1/64 second, so that floats are exact and a boundary is a boundary.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.errors import KmsDeniedError, KmsUnavailableError, SidekeyError
from sidecar.keys.refreshing import Lifetime, RefreshingCache
from tests.fakes.clock import FakeClock
from tests.keys.origin import Event, Origin, Recorded, Value
from tests.keys.settling import turns

TICK = 1 / 64
TTL = 64.0
JITTER = 0.5
REFRESH_AFTER = 0.75
FAILURE = 4.0
CAPACITY = 3
KEYS = st.sampled_from("abcd")
JITTERS = st.sampled_from([0.0, 0.5, 63 / 64])


@dataclass
class Entry:
    """What the model knows of an entry."""

    value: Value
    refresh_at: float
    expires_at: float
    used: bool
    failed: int = 0


@dataclass
class Flight:
    """What the model knows of a fetch under way."""

    since: float
    refresh: bool
    callers: list["asyncio.Task[Value]"] = field(default_factory=list)


class Model:
    """What the cache should do: entries and remembered failures in the order of their last use."""

    def __init__(self) -> None:
        self.now = 0.0
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.failures: OrderedDict[str, float] = OrderedDict()
        self.flights: dict[str, Flight] = {}
        self.events: list[Event] = []

    def expire(self) -> None:
        """Forget what is past its time; an entry lives until just before its expiry."""
        for key in [key for key, entry in self.entries.items() if self.now >= entry.expires_at]:
            del self.entries[key]
        for key in [key for key, until in self.failures.items() if self.now >= until]:
            del self.failures[key]

    def look_up(self, key: str) -> Entry | None:
        """A caller asks; the entry that is served, if any."""
        entry = self.entries.get(key)
        if entry is None:
            self.events.append(("lookup", "miss"))
            return None
        self.entries.move_to_end(key)
        self.events.append(("lookup", "stale" if entry.failed else "hit"))
        entry.used = True
        if entry.refresh_at <= self.now:
            self.flights.setdefault(key, Flight(self.now, refresh=True))
        return entry

    def store(self, key: str, value: Value, jitter: float, within: float, *, used: bool) -> None:
        """An entry arrives; what has expired on its way never does."""
        life = TTL * (1 - JITTER * jitter)
        if self.now >= value.since + life:
            self.entries.pop(key, None)
            return
        if key not in self.entries and len(self.entries) == CAPACITY:
            self.entries.popitem(last=False)
            self.events.append(("evicted", "capacity"))
        refresh_at = value.since + min(life * REFRESH_AFTER, within)
        self.entries[key] = Entry(value, refresh_at, value.since + life, used)
        self.entries.move_to_end(key)

    def fail(self, key: str, *, refresh: bool) -> None:
        """A permanent failure: the entry leaves at once, and the failure is remembered."""
        if key not in self.failures and len(self.failures) == CAPACITY:
            self.failures.popitem(last=False)
        self.failures[key] = self.now + FAILURE
        self.failures.move_to_end(key)
        if refresh:
            self.events.append(("refreshed", "gone"))
        if self.entries.pop(key, None) is not None:
            self.events.append(("evicted", "refused"))

    def postpone(self, key: str, jitter: float) -> None:
        """An outage: the entry goes on, and waits ever longer for the next attempt."""
        entry = self.entries.get(key)
        if entry is not None:
            entry.failed += 1
            entry.refresh_at = self.now + min(30.0, 2.0 ** (entry.failed - 1)) * (0.5 + jitter / 2)
            self.events.append(("refreshed", "retry"))


class CacheMachine(RuleBasedStateMachine):
    """Runs the cache and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock(monotonic=1024.0)
        self.origin = Origin(self.clock)
        self.recorded = Recorded()
        self.jitter = 0.0
        self.model = Model()
        self.model.now = self.clock.monotonic()
        lifetime = Lifetime(TTL, JITTER, REFRESH_AFTER, FAILURE, CAPACITY)
        self.cache: RefreshingCache[str, Value] = RefreshingCache(
            self.origin.fetch, lifetime, self.clock, self.recorded, lambda: self.jitter
        )
        self.defects: list[str] = []
        self.loop.set_exception_handler(lambda _loop, context: self.defects.append(str(context["message"])))

    def run(self, *steps: Callable[[], object]) -> None:
        """Call the steps in the loop, then let everything go on that can."""

        async def stepping() -> None:
            for step in steps:
                step()
            await turns(12)

        self.loop.run_until_complete(stepping())

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        model = self.model
        entry = model.look_up(key)
        caller: list[asyncio.Task[Value]] = []
        self.run(lambda: caller.append(self.loop.create_task(self.cache.get(key))))
        (task,) = caller
        if entry is not None:
            assert task.result() == entry.value
            assert self.clock.monotonic() < entry.value.since + TTL
        elif key in model.failures:
            model.failures.move_to_end(key)
            assert isinstance(task.exception(), KmsDeniedError)
        else:
            assert not task.done()
            model.flights.setdefault(key, Flight(model.now, refresh=False)).callers.append(task)

    @rule(key=KEYS)
    def peek(self, key: str) -> None:
        alive = key in self.model.entries
        entry = self.model.look_up(key) if alive else None
        seen: list[Value | None] = []
        self.run(lambda: seen.append(self.cache.peek(key)))
        assert seen == [entry.value if entry else None]

    @precondition(lambda self: self.model.flights)
    @rule(data=st.data(), jitter=JITTERS, within=st.sampled_from([TICK, 16.0, float("inf")]))
    def fetch_succeeds(self, data: st.DataObject, jitter: float, within: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.flights)))
        flight = self.model.flights.pop(key)
        value = self.origin.value(flight.since)
        self.jitter = jitter
        self.model.store(key, value, jitter, within, used=bool(flight.callers))
        if flight.refresh:
            self.model.events.append(("refreshed", "ok"))
        self.run(lambda: self.origin.land(key, value, within))
        assert [task.result() for task in flight.callers] == [value] * len(flight.callers)

    @precondition(lambda self: self.model.flights)
    @rule(data=st.data(), jitter=JITTERS, kind=st.sampled_from([KmsDeniedError, KmsUnavailableError, RuntimeError]))
    def fetch_fails(self, data: st.DataObject, jitter: float, kind: type[Exception]) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.flights)))
        flight = self.model.flights.pop(key)
        self.jitter = jitter
        if kind is KmsDeniedError:
            self.model.fail(key, refresh=flight.refresh)
        else:
            self.model.postpone(key, jitter)
        self.run(lambda: self.origin.land(key, kind("no")))
        errors = [task.exception() for task in flight.callers]
        assert all(type(error) is kind for error in errors)
        if issubclass(kind, SidekeyError):
            assert len({id(error) for error in errors}) == len(errors)

    @precondition(lambda self: any(flight.callers for flight in self.model.flights.values()))
    @rule(data=st.data())
    def a_caller_leaves(self, data: st.DataObject) -> None:
        waited_for = sorted(key for key, flight in self.model.flights.items() if flight.callers)
        callers = self.model.flights[data.draw(st.sampled_from(waited_for))].callers
        task = callers.pop(data.draw(st.integers(0, len(callers) - 1)))
        self.run(task.cancel)
        assert task.cancelled()

    @rule(seconds=st.sampled_from([TICK, 0.5, 1.0, FAILURE, 16.0, TTL * REFRESH_AFTER, TTL, 3 * TTL]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now = self.clock.monotonic()
        self.model.expire()

    @rule(data=st.data(), near=st.sampled_from([-TICK, 0.0, TICK]))
    def time_passes_to_a_boundary(self, data: st.DataObject, near: float) -> None:
        model = self.model
        moments = [moment for entry in model.entries.values() for moment in (entry.refresh_at, entry.expires_at)]
        spans = [moment + near - model.now for moment in moments + list(model.failures.values())]
        ahead = sorted({span for span in spans if span > 0})
        if ahead:
            self.time_passes(data.draw(st.sampled_from(ahead)))

    @rule()
    def sweep(self) -> None:
        for key, entry in self.model.entries.items():
            if entry.used and entry.refresh_at <= self.model.now:
                self.model.flights.setdefault(key, Flight(self.model.now, refresh=True))
        self.run(self.cache.sweep)
        assert self.recorded.entries == len(self.model.entries)

    @rule(key=KEYS, age=st.sampled_from([0.0, TICK, 32.0, TTL - TICK, TTL]), jitter=JITTERS)
    def put(self, key: str, age: float, jitter: float) -> None:
        value = self.origin.value(self.model.now - age)
        self.jitter = jitter
        self.model.failures.pop(key, None)
        self.model.store(key, value, jitter, float("inf"), used=False)
        self.run(lambda: self.cache.put(key, value, since=value.since))

    @rule(key=KEYS)
    def evict(self, key: str) -> None:
        if self.model.entries.pop(key, None) is not None:
            self.model.events.append(("evicted", "refused"))
        self.run(lambda: self.cache.evict(key))

    @invariant()
    def the_cache_does_as_the_model(self) -> None:
        assert sorted(self.recorded.taken()) == sorted(self.model.events)
        self.model.events.clear()
        assert sorted(self.origin.waiting) == sorted(self.model.flights)
        assert len(self.cache) == len(self.model.entries) <= CAPACITY
        assert self.defects == []

    def teardown(self) -> None:
        with contextlib.closing(self.loop):
            callers = [task for flight in self.model.flights.values() for task in flight.callers]
            self.loop.run_until_complete(self.cache.close())
            self.run()
            assert all(task.cancelled() for task in callers)
            assert len(self.cache) == 0
            assert self.origin.waiting == {}
            assert self.defects == []


TestCache = CacheMachine.TestCase
TestCache.settings = settings(
    max_examples=250, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
pytestmark = pytest.mark.timeout(60)
