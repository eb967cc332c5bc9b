"""A cache on a bench: with a clock, and with what it fetches from."""

from typing import Any

from sidecar.keys.lifetime import Lifetime
from sidecar.keys.outage import Outage, Pace
from sidecar.keys.refreshing import RefreshingCache
from tests.fakes.clock import FakeClock
from tests.keys.origin import Origin, Recorded, Value

TICK = 1 / 64
"""A power of two, so that floats are exact and a boundary is a boundary."""
TTL = 64.0
Cache = RefreshingCache[str, Value]


class Bench:
    """A cache, what it fetches from, and a clock."""

    def __init__(self, jitter: float = 0.0, pace: Pace | None = None, **lifetime: Any) -> None:
        pace = pace or Pace()
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
        self.outage = Outage(pace.retries_per_second, self.clock, lambda: jitter)
        self.cache: Cache = RefreshingCache(
            self.origin.fetch,
            Lifetime(**terms | lifetime),
            self.clock,
            self.recorded,
            lambda: jitter,
            self.outage,
            pace,
        )
