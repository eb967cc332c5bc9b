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

from sidecar.errors import KmsDeniedError, KmsUnavailableError, SidekeyError, UnknownKeyError
from sidecar.keys.lifetime import Lifetime
from sidecar.keys.outage import Outage, Pace
from sidecar.keys.refreshing import RefreshingCache
from tests.fakes.clock import FakeClock
from tests.keys.origin import Event, Origin, Recorded, Value
from tests.keys.settling import turns

TICK = 1 / 64
TTL = 64.0
JITTER = 0.5
REFRESH_AFTER = 0.75
FAILURE = 4.0
STALE = 160.0
RETRIES = 2.0
"""A second, and so many at once: in an outage one entry of three goes on without a call now and then."""
FAIL_FAST = 1.0
CAPACITY = 3
FAILURES = [KmsDeniedError, UnknownKeyError, KmsUnavailableError, RuntimeError]
KEYS = st.sampled_from("abcd")
JITTERS = st.sampled_from([0.0, 0.5, 63 / 64])


@dataclass
class Entry:
    """What the model knows of an entry."""

    value: Value
    refresh_at: float
    expires_at: float
    stale_at: float
    used_at: float | None
    carried: bool = False
    failed: int = 0


@dataclass
class Flight:
    """What the model knows of a fetch under way."""

    since: float
    refresh: bool
    outages: int
    """How many had ended when it began."""
    callers: list["asyncio.Task[Value]"] = field(default_factory=list)


class Model:
    """What the cache should do: entries and remembered failures in the order of their last use."""

    def __init__(self) -> None:
        self.now = 0.0
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.failures: OrderedDict[str, tuple[type[SidekeyError], float]] = OrderedDict()
        self.flights: dict[str, Flight] = {}
        self.events: list[Event] = []
        self.outage_began: float | None = None
        self.last_outage = (0.0, 0.0)
        self.outages = 0
        self.trying: set[str] = set()
        self.tokens, self.counted_at = RETRIES, 0.0
        self.behind = False

    def alive(self, entry: Entry) -> bool:
        """An entry lives until just before its expiry; in use, and kept by an outage, until its stale limit."""
        if self.now < entry.expires_at:
            return True
        if entry.used_at is None or self.now >= min(entry.stale_at, entry.used_at + TTL):
            return False
        began, ended = self.last_outage if self.outage_began is None else (self.outage_began, float("inf"))
        return entry.carried or began <= entry.expires_at < ended

    def living(self, key: str) -> Entry | None:
        """The entry of a key, dropped where it is dead."""
        entry = self.entries.get(key)
        if entry is not None and not self.alive(entry):
            del self.entries[key]
            return None
        return entry

    def expire(self) -> None:
        """Forget failures that are past their time."""
        for key in [key for key, (_, until) in self.failures.items() if self.now >= until]:
            del self.failures[key]

    def take_token(self, key: str) -> bool:
        """Whether a key is tried in an outage."""
        if key in self.trying:
            return True
        self.tokens = min(RETRIES, self.tokens + (self.now - self.counted_at) * RETRIES)
        self.counted_at = self.now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        self.trying.add(key)
        return True

    def refresh(self, key: str) -> bool:
        """Whether a refresh that is due begins."""
        if self.outage_began is not None and not self.take_token(key):
            return False
        self.flights[key] = Flight(self.now, refresh=True, outages=self.outages)
        return True

    def look_up(self, key: str) -> Entry | None:
        """A caller asks; the entry that is served, if any."""
        entry = self.living(key)
        if entry is None:
            self.events.append(("lookup", "miss"))
            return None
        self.entries.move_to_end(key)
        self.events.append(("lookup", "stale" if entry.carried else "hit"))
        entry.used_at = self.now
        if entry.refresh_at <= self.now and key not in self.flights:
            entry.carried |= self.outage_began is not None
            if not self.behind:
                self.refresh(key)
        return entry

    def sweep(self) -> None:
        """The dead leave; what is due is refreshed, the nearest to its end first."""
        for key in list(self.entries):
            self.living(key)
        due = []
        for key, entry in self.entries.items():
            if entry.used_at is not None and entry.refresh_at <= self.now and key not in self.flights:
                entry.carried |= self.outage_began is not None
                due.append((entry.stale_at, key))
        started = 0
        for _, key in sorted(due, key=lambda urgency: urgency[0]):
            if not self.refresh(key):
                break
            started += 1
        self.behind = started < len(due)

    def answered(self) -> None:
        """The KMS has answered: an outage is over."""
        if self.outage_began is not None:
            self.last_outage = (self.outage_began, self.now)
            self.outage_began = None
            self.outages += 1

    def unanswered(self, flight: Flight, jitter: float) -> None:
        """An outage goes on, or begins; what began before the end of the last one says nothing of it."""
        if flight.outages == self.outages and self.outage_began is None:
            self.outage_began = self.now
            self.tokens, self.counted_at = jitter, self.now

    def store(self, key: str, value: Value, jitter: float, within: float, *, used: bool) -> None:
        """An entry arrives; what has expired on its way never does."""
        life = TTL * (1 - JITTER * jitter)
        if self.now >= value.since + life:
            self.entries.pop(key, None)
            return
        self.entries.pop(key, None)
        if len(self.entries) == CAPACITY:
            _, oldest = self.entries.popitem(last=False)
            if self.alive(oldest):
                self.events.append(("evicted", "capacity"))
        refresh_at = value.since + min(life * REFRESH_AFTER, within)
        used_at = self.now if used else None
        self.entries[key] = Entry(value, refresh_at, value.since + life, value.since + STALE, used_at)

    def remember(self, key: str, kind: type[SidekeyError], seconds: float) -> None:
        """A failure is the answer for a while."""
        if key not in self.failures and len(self.failures) == CAPACITY:
            self.failures.popitem(last=False)
        self.failures[key] = (kind, self.now + seconds)
        self.failures.move_to_end(key)

    def fail(self, key: str, kind: type[SidekeyError], *, refresh: bool) -> None:
        """A permanent failure: the entry leaves at once, and the failure is remembered."""
        self.remember(key, kind, FAILURE)
        if refresh:
            self.events.append(("refreshed", "gone"))
        if self.entries.pop(key, None) is not None:
            self.events.append(("evicted", "refused"))

    def postpone(self, key: str, kind: type[Exception], jitter: float) -> None:
        """An outage: the entry goes on, and waits ever longer for the next attempt."""
        entry = self.living(key)
        if entry is None:
            if issubclass(kind, SidekeyError):
                self.remember(key, kind, FAIL_FAST * (0.5 + jitter / 2))
        else:
            entry.carried = True
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
        self.model.counted_at = self.clock.monotonic()
        lifetime = Lifetime(TTL, JITTER, REFRESH_AFTER, FAILURE, CAPACITY, STALE)
        pace = Pace(RETRIES, refreshes_per_second=1024.0)
        outage = Outage(RETRIES, self.clock, lambda: self.jitter)
        self.cache: RefreshingCache[str, Value] = RefreshingCache(
            self.origin.fetch, lifetime, self.clock, self.recorded, lambda: self.jitter, outage, pace
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
            # Said anew, apart from the model: past its TTL a value is served only where its refresh failed or there was
            # an outage since it was fetched, and past its stale limit never.
            since = entry.value.since
            trouble = entry.failed > 0 or model.outage_began is not None or model.last_outage[1] >= since
            assert model.now < since + (STALE if trouble else TTL)
        elif key in model.failures:
            model.failures.move_to_end(key)
            kind, _ = model.failures[key]
            assert type(task.exception()) is kind
        else:
            assert not task.done()
            flight = Flight(model.now, refresh=False, outages=model.outages)
            model.flights.setdefault(key, flight).callers.append(task)

    @rule(key=KEYS)
    def peek(self, key: str) -> None:
        entry = self.model.look_up(key) if self.model.living(key) else None
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
        self.model.answered()
        self.model.trying.discard(key)
        self.model.store(key, value, jitter, within, used=bool(flight.callers))
        if flight.refresh:
            self.model.events.append(("refreshed", "ok"))
        self.run(lambda: self.origin.land(key, value, within))
        assert [task.result() for task in flight.callers] == [value] * len(flight.callers)

    @precondition(lambda self: self.model.flights)
    @rule(data=st.data(), jitter=JITTERS, kind=st.sampled_from(FAILURES))
    def fetch_fails(self, data: st.DataObject, jitter: float, kind: type[Exception]) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.flights)))
        flight = self.model.flights.pop(key)
        self.jitter = jitter
        self.model.trying.discard(key)
        if issubclass(kind, (KmsDeniedError, UnknownKeyError)):
            if kind is KmsDeniedError:
                self.model.answered()
            self.model.fail(key, kind, refresh=flight.refresh)
        else:
            if kind is KmsUnavailableError:
                self.model.unanswered(flight, jitter)
            self.model.postpone(key, kind, jitter)
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

    @rule(seconds=st.sampled_from([TICK, 0.5, 1.0, FAILURE, 16.0, TTL * REFRESH_AFTER, TTL, 90.0, 3 * TTL]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now = self.clock.monotonic()
        self.model.expire()

    @rule(data=st.data(), near=st.sampled_from([-TICK, 0.0, TICK]))
    def time_passes_to_a_boundary(self, data: st.DataObject, near: float) -> None:
        model = self.model
        moments = [
            moment
            for entry in model.entries.values()
            for moment in (entry.refresh_at, entry.expires_at, entry.stale_at)
        ]
        moments += [until for _, until in model.failures.values()]
        spans = [moment + near - model.now for moment in moments]
        ahead = sorted({span for span in spans if span > 0})
        if ahead:
            self.time_passes(data.draw(st.sampled_from(ahead)))

    @rule()
    def sweep(self) -> None:
        self.model.sweep()
        self.run(self.cache.sweep)
        assert self.recorded.entries == len(self.model.entries)
        stale = sum(self.model.now >= entry.expires_at for entry in self.model.entries.values())
        assert self.recorded.stale_entries == stale

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
        alive = sum(map(self.model.alive, self.model.entries.values()))
        assert len(self.cache) == alive <= len(self.model.entries) <= CAPACITY
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
