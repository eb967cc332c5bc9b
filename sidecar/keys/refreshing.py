"""A cache whose entries are fetched once however many ask, and again ahead of their expiry while they are in use.

Owns lifetimes, single flight and refresh-ahead, on top of ``cachetools``; knows nothing of what it holds.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import structlog
from cachetools import Cache, TLRUCache, TTLCache

from sidecar.errors import RETRYABLE, SidekeyError
from sidecar.keys.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long entries live; all counted from the moment before their fetch began."""

    ttl_seconds: float
    """After this an entry is gone, whatever the reason that it was not refreshed."""
    jitter_fraction: float
    """By up to this fraction of the TTL an entry is refreshed and expires earlier, so that entries do not in step."""
    refresh_after_fraction: float
    """From this fraction of its life on, an entry in use is fetched again in the background."""
    failure_seconds: float
    """For so long a permanent failure is remembered, so that asking again costs nothing; 0: not at all."""
    max_entries: int
    max_background_fetches: int = 64

    def __post_init__(self) -> None:
        """Refuse what would mean "for ever" or "never"."""
        if not 0 < self.ttl_seconds < math.inf:
            raise ValueError("the TTL must be more than 0 seconds")
        if not (0 <= self.jitter_fraction < 1 and 0 < self.refresh_after_fraction < 1):
            raise ValueError("jitter must be in [0, 1) and refresh-after in (0, 1)")
        if not 0 <= self.failure_seconds < math.inf or self.max_entries < 1 or self.max_background_fetches < 1:
            raise ValueError("failures must not be remembered for ever, and there must be room for an entry")


class Events(Protocol):
    """What the cache tells of itself; called synchronously."""

    def lookup(self, result: Literal["hit", "stale", "miss"]) -> None:
        """An entry was asked for; ``stale``: it was served although its last refresh failed."""
        ...

    def refreshed(self, result: Literal["ok", "retry", "gone"]) -> None:
        """A refresh ended; ``retry``: an outage, the entry goes on; ``gone``: a permanent failure, it left."""
        ...

    def evicted(self, cause: Literal["capacity", "refused"]) -> None:
        """An entry left before its expiry."""
        ...

    def size(self, entries: int) -> None:
        """The number of entries changed."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched(Generic[V]):
    """What a fetch brings."""

    value: V
    refresh_within_seconds: float = math.inf
    """When the value wants to be fetched again although its life goes on."""


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    refresh_at: float
    expires_at: float
    used: bool = False
    """Asked for since it was fetched: only such entries are refreshed."""
    failed_refreshes: int = 0


class _Entries(TLRUCache[K, _Entry[V]]):
    """Entries by their own expiry; tells of those that leave for want of room."""

    def __init__(self, max_entries: int, timer: Callable[[], float], on_capacity: Callable[[], None]) -> None:
        super().__init__(max_entries, lambda _key, entry, _now: entry.expires_at, timer)
        self._on_capacity = on_capacity

    def glance(self, key: K) -> _Entry[V] | None:
        """The entry, if it is alive, without moving it away from the least recently used."""
        return Cache.__getitem__(self, key) if key in self else None

    def popitem(self) -> tuple[K, _Entry[V]]:
        """Called by cachetools to make room."""
        self._on_capacity()
        return super().popitem()


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
        events: Events,
        jitter: Callable[[], float],
    ) -> None:
        """``jitter`` gives a random number in [0, 1)."""
        self._fetch = fetch
        self._lifetime = lifetime
        self._clock = clock
        self._events = events
        self._jitter = jitter
        self._entries: _Entries[K, V] = _Entries(
            lifetime.max_entries, clock.monotonic, lambda: events.evicted("capacity")
        )
        self._failures: TTLCache[K, SidekeyError] = TTLCache(
            lifetime.max_entries, lifetime.failure_seconds, clock.monotonic
        )
        self._flights: dict[K, asyncio.Task[V]] = {}

    def peek(self, key: K) -> V | None:
        """The value if it is here and alive, counted as a use; starts its refresh where that is due."""
        try:
            entry = self._entries[key]
        except KeyError:
            return None
        entry.used = True
        self._events.lookup("stale" if entry.failed_refreshes else "hit")
        if entry.refresh_at <= self._clock.monotonic():
            self._fly_for(key)
        return entry.value

    async def get(self, key: K) -> V:
        """The value, fetched if it is not here.

        Raises:
            SidekeyError: what the fetch raised, or raised so lately that it is remembered.
        """
        value = self.peek(key)
        if value is not None:
            return value
        self._events.lookup("miss")
        known = self._failures.get(key)
        if known is not None:
            raise _fresh(known)
        try:
            # Shielded: when this caller is cancelled, the flight goes on for the others and for the cache.
            value = await asyncio.shield(self._fly_for(key))
        except SidekeyError as error:
            raise _fresh(error) from None
        entry = self._entries.get(key)
        if entry is not None:
            entry.used = True
        return value

    def put(self, key: K, value: V, *, since: float) -> None:
        """Add a value that came by another way, alive from the moment ``since`` of the monotonic clock."""
        self._failures.pop(key, None)
        self._store(key, Fetched(value), since)

    def evict(self, key: K) -> None:
        """Drop an entry; whoever works with its value keeps it until done."""
        if self._entries.pop(key, None) is not None:
            self._events.evicted("refused")
        self._events.size(len(self._entries))

    def sweep(self) -> None:
        """Drop what has expired, and start the refreshes that are due for entries in use, a bounded number at once."""
        now = self._clock.monotonic()
        self._entries.expire()
        self._events.size(len(self._entries))
        for key in list(self._entries):
            if len(self._flights) >= self._lifetime.max_background_fetches:
                return
            entry = self._entries.glance(key)
            if entry is not None and entry.used and entry.refresh_at <= now:
                self._fly_for(key)

    def __len__(self) -> int:
        """Entries that are alive."""
        return len(self._entries)

    async def close(self) -> None:
        """Cancel what is under way and forget everything."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._entries.clear()
        self._failures.clear()
        self._events.size(0)

    def _fly_for(self, key: K) -> asyncio.Task[V]:
        """The one fetch under way for the key, begun now if there is none."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key), name="sidekey-fetch")
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    def _landed(self, key: K, flight: asyncio.Task[V]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # retrieved here, since a refresh has nobody who waits for it

    async def _fly(self, key: K) -> V:
        since = self._clock.monotonic()
        refresh = key in self._entries
        try:
            fetched = await self._fetch(key)
        except RETRYABLE as error:
            self._outage(key, error)
            raise
        except SidekeyError as error:
            self._failures[key] = error
            if refresh:
                self._events.refreshed("gone")
                log.warning("cached_entry_refused", reason=error.reason)
            self.evict(key)
            raise
        except Exception as error:
            log.error("fetch_defect", error=type(error).__name__)  # noqa: TRY400  (a foreign text stays out of the log)
            self._outage(key, error)
            raise
        self._store(key, fetched, since)
        if refresh:
            self._events.refreshed("ok")
        return fetched.value

    def _store(self, key: K, fetched: Fetched[V], since: float) -> None:
        life = self._lifetime.ttl_seconds * (1 - self._lifetime.jitter_fraction * self._jitter())
        refresh_after = min(life * self._lifetime.refresh_after_fraction, fetched.refresh_within_seconds)
        # Versions of cachetools differ in whether an entry that is dead on arrival replaces a living one: it does here.
        self._entries.pop(key, None)
        self._entries[key] = _Entry(fetched.value, since + refresh_after, since + life)
        self._events.size(len(self._entries))

    def _outage(self, key: K, error: Exception) -> None:
        """An entry whose refresh failed for now goes on until its expiry, and is tried again ever more rarely."""
        entry = self._entries.glance(key)
        if entry is None:
            return
        entry.failed_refreshes += 1
        wait = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** (entry.failed_refreshes - 1))
        entry.refresh_at = self._clock.monotonic() + wait * (0.5 + self._jitter() / 2)
        self._events.refreshed("retry")
        reason = error.reason if isinstance(error, SidekeyError) else type(error).__name__
        log.warning("refresh_failed", reason=reason, failures=entry.failed_refreshes)


def _fresh(error: SidekeyError) -> SidekeyError:
    """The same error for one more caller: a shared exception would gather every caller's traceback."""
    return type(error)(*error.args)
