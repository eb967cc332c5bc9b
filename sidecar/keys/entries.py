"""What a cache holds for one key, how long that lives, and what a cache tells of it."""

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from sidecar.errors import SidekeyError
from sidecar.keys.outage import Outage

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
