"""A cache whose entries are fetched once however many ask, and again ahead of their expiry while they are in use.

Owns lifetimes, single flight and refresh-ahead; knows nothing of what it holds. How often it calls in trouble is for
``outage`` to say.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog
from cachetools import TLRUCache

from sidecar.errors import RETRYABLE, SidekeyError
from sidecar.keys.clock import Clock
from sidecar.keys.entries import Entries, Entry, Events
from sidecar.keys.lifetime import Fetched, Lifetime
from sidecar.keys.outage import OF_KEYSTORE, Outage, Pace, TokenBucket, fail_fast_seconds, fresh

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 30.0

log = structlog.get_logger(__name__)


class RefreshingCache(Generic[K, V]):
    """Values by key, each brought by ``fetch``.

    A fetch runs detached: a caller that is cancelled leaves it running for the others, and its error reaches all that
    wait. Not thread-safe: for one event loop.
    """

    def __init__(
        self,
        fetch: Callable[[K], Awaitable[Fetched[V]]],
        lifetime: Lifetime,
        clock: Clock,
        events: Events[K, V],
        jitter: Callable[[], float],
        outage: Outage,
        pace: Pace,
    ) -> None:
        """``jitter`` gives a random number in [0, 1)."""
        self._fetch = fetch
        self._lifetime = lifetime
        self._clock = clock
        self._events = events
        self._jitter = jitter
        self._outage = outage
        self._refreshes = TokenBucket(pace.refreshes_per_second, clock)
        self._behind = False
        """The last sweep could not start all that was due: only sweeps refresh then, the most urgent first."""
        self._entries: Entries[K, V] = Entries(lifetime, clock, outage, jitter)
        self._failures: TLRUCache[K, tuple[SidekeyError, float]] = TLRUCache(
            lifetime.max_entries, lambda _key, failure, _now: failure[1], clock.monotonic
        )
        self._flights: dict[K, asyncio.Task[V]] = {}
        """The fetch of each key that its callers wait for."""
        self._tasks: set[asyncio.Task[V]] = set()
        """All fetches under way, those that were forgotten included."""

    def peek(self, key: K) -> V | None:
        """The value if it is here and alive, counted as a use; starts its refresh where that is due."""
        entry = self._entries.use(key)
        if entry is None:
            return None
        self._events.lookup("stale" if entry.carried else "hit")
        if entry.refresh_at <= self._clock.monotonic() and key not in self._flights:
            entry.carried = entry.carried or self._outage.lasts
            if not self._behind:
                self._refresh(key)
        return entry.value

    def glance(self, key: K) -> V | None:
        """The value if it is here and alive; no use of it, and no event."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    async def get(self, key: K) -> V:
        """The value, fetched if it is not here.

        Raises:
            SidekeyError: what the fetch raised, or raised so lately that it is remembered; in an outage what another
                key's fetch raised.
        """
        value = self.peek(key)
        if value is not None:
            return value
        self._events.lookup("miss")
        known = self._known_failure(key)
        if known is not None:
            raise fresh(known)
        if key not in self._flights:
            # Of the keystore alone: the KMS is spared where it is called, for most keys that are asked for in its
            # outage by mistake or for the first time are found to be unknown or disabled without it.
            await self._outage.turn(key, OF_KEYSTORE)
        try:
            # Shielded: when this caller is cancelled, the flight goes on for the others and for the cache.
            value = await asyncio.shield(self._fly_for(key))
        except SidekeyError as error:
            raise fresh(error) from None
        self._entries.use(key)
        return value

    def put(self, key: K, value: V, *, since: float) -> None:
        """Add a value that came by another way, alive from the moment ``since`` of the monotonic clock."""
        self._failures.pop(key, None)
        self._store(key, Fetched(value), since)

    def evict(self, key: K) -> None:
        """Drop an entry; whoever works with its value keeps it until done."""
        if self._entries.drop(key):
            self._events.evicted("refused")
        self._events.size(self._entries.stored)

    def carried(self) -> list[K]:
        """The keys of living entries whose refresh an outage prevents."""
        return self._entries.carried()

    def refuse(self, key: K, error: SidekeyError) -> None:
        """Drop an entry of which it is known elsewhere that its fetch would fail for good."""
        self._refuse(key, error, self._entries.get(key))

    def forget(self, key: K) -> None:
        """Drop whatever is known of a key, since it has just changed; a fetch under way answers its callers alone."""
        self._failures.pop(key, None)
        self._flights.pop(key, None)
        self._entries.drop(key)
        self._events.size(self._entries.stored)

    def trouble_is_over(self) -> None:
        """What failed for now may be fetched again at once: somebody has asked, and was answered."""
        self._outage.succeeded()
        for key in list(self._failures):
            if isinstance(self._known_failure(key), RETRYABLE):
                self._failures.pop(key, None)

    def sweep(self) -> None:
        """Drop what has expired, and start refreshes that are due for entries in use, the most urgent first.

        As many at once as the pace and, in an outage, its budget have room for.
        """
        seen = self._entries.look_through(self._flights.__contains__)
        self._events.size(self._entries.stored)
        self._events.stale(seen.stale)
        started = 0
        room = max(0, self._lifetime.max_background_fetches - len(self._flights))
        for _, key in heapq.nsmallest(room, seen.due, key=lambda urgency: urgency[0]):
            if not self._refresh(key):
                break
            started += 1
        self._behind = started < len(seen.due)

    def __len__(self) -> int:
        """Entries that are alive."""
        return len(self._entries)

    async def close(self) -> None:
        """Cancel what is under way and forget everything."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._entries.clear()
        self._failures.clear()
        self._events.size(0)
        self._events.stale(0)

    def _known_failure(self, key: K) -> SidekeyError | None:
        # One look: between asking whether it is there and taking it, it may expire.
        try:
            return self._failures[key][0]
        except KeyError:
            return None

    def _refresh(self, key: K) -> bool:
        """Start a refresh if there is room for it; in an outage the entry goes on without a call of its own."""
        if len(self._flights) >= self._lifetime.max_background_fetches:
            return False
        if not (self._outage.lets(key) if self._outage.lasts else self._refreshes.take()):
            return False
        self._fly_for(key)
        return True

    def _fly_for(self, key: K) -> asyncio.Task[V]:
        """The one fetch under way for the key, begun now if there is none."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key), name="sidekey-fetch")
            self._flights[key] = flight
            self._tasks.add(flight)
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    def _landed(self, key: K, flight: asyncio.Task[V]) -> None:
        self._outage.landed(key)
        self._tasks.discard(flight)
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # retrieved here, since a refresh has nobody who waits for it

    async def _fly(self, key: K) -> V:
        since = self._clock.monotonic()
        number = self._outage.number
        refreshed = self._entries.get(key)
        try:
            fetched = await self._fetch(key)
        except RETRYABLE as error:
            self._outage.failed(error, number)
            if self._is_awaited(key):
                self._postpone(key, error)
            raise
        except SidekeyError as error:
            self._outage.refused(error)
            if self._is_awaited(key):
                self._refuse(key, error, refreshed)
            raise
        except Exception as error:
            log.error("fetch_defect", error=type(error).__name__)  # noqa: TRY400  (a foreign text stays out of the log)
            if self._is_awaited(key):
                self._carry_on(key, type(error).__name__)
            raise
        self._outage.succeeded()
        if self._is_awaited(key):
            self._failures.pop(key, None)
            self._store(key, fetched, since)
            if refreshed is not None:
                self._events.refreshed(key)
        return fetched.value

    def _is_awaited(self, key: K) -> bool:
        """Whether the flight that runs is the key's own still, and was not forgotten."""
        return self._flights.get(key) is asyncio.current_task()

    def _store(self, key: K, fetched: Fetched[V], since: float) -> None:
        if self._entries.store(key, fetched, since):
            self._events.evicted("capacity")
        self._events.size(self._entries.stored)

    def _refuse(self, key: K, error: SidekeyError, refreshed: Entry[V] | None) -> None:
        """A permanent failure: the entry leaves at once, and the failure is remembered."""
        self._failures[key] = (error, self._clock.monotonic() + self._lifetime.failure_seconds)
        if refreshed is not None:
            self._events.refused(key, refreshed.value, error)
        self.evict(key)

    def _postpone(self, key: K, error: SidekeyError) -> None:
        """An outage: a living entry goes on; without one the failure is remembered for a moment."""
        if not self._carry_on(key, error.reason):
            self._failures[key] = (error, self._clock.monotonic() + fail_fast_seconds(self._jitter))

    def _carry_on(self, key: K, reason: str) -> bool:
        """The entry, if it lives, goes on and is tried again ever more rarely."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        entry.carried = True
        entry.failed_refreshes += 1
        wait = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** (entry.failed_refreshes - 1))
        entry.refresh_at = self._clock.monotonic() + wait * (0.5 + self._jitter() / 2)
        self._events.postponed(key, entry.value, reason)
        return True
