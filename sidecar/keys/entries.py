"""What a cache holds, how long each of it lives, and what a cache tells of it. Fetches nothing."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from sidecar.errors import SidekeyError
from sidecar.keys.clock import Clock
from sidecar.keys.lifetime import Fetched, Lifetime
from sidecar.keys.outage import Outage

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_K = TypeVar("_K", contravariant=True)
_V = TypeVar("_V", contravariant=True)


@dataclass(slots=True)
class Entry(Generic[V]):
    """A value in the cache, and what has become of it; moments of the monotonic clock."""

    value: V
    refresh_at: float
    expires_at: float
    stale_at: float
    """Its end, whatever happens."""
    used_at: float | None = None
    """When it was last asked for since it was fetched: only an entry in use is refreshed."""
    carried: bool = False
    """An outage has kept it from being refreshed: it may go on past its TTL."""
    failed_refreshes: int = 0

    def is_alive(self, now: float, ttl_seconds: float, outage: Outage) -> bool:
        """Whether it may be served: until its expiry; in use, and kept by an outage from its refresh, until its end."""
        if now < self.expires_at:
            return True
        if self.used_at is None or now >= self.stale_at or now >= self.used_at + ttl_seconds:
            return False
        return self.carried or outage.covered(self.expires_at)


class Events(Protocol[_K, _V]):
    """What the cache tells of itself; called synchronously."""

    def lookup(self, result: Literal["hit", "stale", "miss"]) -> None:
        """An entry was asked for; ``stale``: it was served although its refresh met an outage."""
        ...

    def refreshed(self, key: _K) -> None:
        """A refresh brought a new value."""
        ...

    def postponed(self, key: _K, value: _V, reason: str) -> None:
        """A refresh met an outage or a defect: the entry goes on."""
        ...

    def refused(self, key: _K, value: _V, error: SidekeyError) -> None:
        """A refresh met a permanent failure: the entry left."""
        ...

    def evicted(self, cause: Literal["capacity", "refused"]) -> None:
        """An entry left before its expiry."""
        ...

    def size(self, entries: int) -> None:
        """The number of entries changed."""
        ...

    def stale(self, entries: int) -> None:
        """So many entries are past their TTL; told with each sweep."""
        ...


@dataclass(frozen=True, slots=True)
class Seen(Generic[K]):
    """What a look through all entries found."""

    due: list[tuple[float, K]]
    """Keys of entries in use that want a refresh, each with the moment of its end."""
    stale: int
    """Entries past their TTL that an outage keeps."""


class Entries(Generic[K, V]):
    """Entries by key, the least recently used first; those whose time is over are not there."""

    def __init__(self, lifetime: Lifetime, clock: Clock, outage: Outage, jitter: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._outage = outage
        self._jitter = jitter
        self._entries: OrderedDict[K, Entry[V]] = OrderedDict()

    def get(self, key: K) -> Entry[V] | None:
        """The entry, if it is alive; no use of it."""
        entry = self._entries.get(key)
        if entry is not None and not self._alive(entry, self._clock.monotonic()):
            del self._entries[key]
            return None
        return entry

    def use(self, key: K) -> Entry[V] | None:
        """The entry, if it is alive, counted as a use."""
        entry = self.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            entry.used_at = self._clock.monotonic()
        return entry

    def store(self, key: K, fetched: Fetched[V], since: float) -> bool:
        """Put what a fetch has brought that began at ``since``; returns whether a living entry had to make room for it.

        A fetch slower than the TTL answers those who waited for it and is not kept.
        """
        lifetime = self._lifetime
        life = lifetime.ttl_seconds * (1 - lifetime.jitter_fraction * self._jitter())
        refresh_after = min(life * lifetime.refresh_after_fraction, fetched.refresh_within_seconds)
        entry = Entry(fetched.value, since + refresh_after, since + life, since + lifetime.longest_seconds)
        now = self._clock.monotonic()
        self._entries.pop(key, None)
        if now >= entry.expires_at:
            return False
        crowded = False
        if len(self._entries) >= lifetime.max_entries:
            _, oldest = self._entries.popitem(last=False)
            crowded = self._alive(oldest, now)
        self._entries[key] = entry
        return crowded

    def drop(self, key: K) -> bool:
        """Whether there was one."""
        return self._entries.pop(key, None) is not None

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()

    def look_through(self, is_under_way: Callable[[K], bool]) -> Seen[K]:
        """Forget the dead, and mark what an outage keeps from its refresh; ``is_under_way``: fetched now."""
        now = self._clock.monotonic()
        due: list[tuple[float, K]] = []
        dead: list[K] = []
        stale = 0
        for key, entry in self._entries.items():
            if not self._alive(entry, now):
                dead.append(key)
                continue
            stale += now >= entry.expires_at
            if entry.used_at is None or entry.refresh_at > now or is_under_way(key):
                continue
            entry.carried = entry.carried or self._outage.lasts
            due.append((entry.stale_at, key))
        for key in dead:
            del self._entries[key]
        return Seen(due, stale)

    def carried(self) -> list[K]:
        """The keys of living entries whose refresh an outage prevents."""
        now = self._clock.monotonic()
        return [key for key, entry in self._entries.items() if entry.carried and self._alive(entry, now)]

    @property
    def stored(self) -> int:
        """How many there are, the dead that nobody has looked at since included."""
        return len(self._entries)

    def __len__(self) -> int:
        """Entries that are alive."""
        now = self._clock.monotonic()
        return sum(self._alive(entry, now) for entry in self._entries.values())

    def _alive(self, entry: Entry[V], now: float) -> bool:
        return entry.is_alive(now, self._lifetime.ttl_seconds, self._outage)
