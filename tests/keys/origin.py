"""Where a cache under test fetches from: every fetch waits until the test lets it land."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from sidecar.errors import SidekeyError
from sidecar.keys.lifetime import Fetched
from tests.fakes.clock import FakeClock


@dataclass(frozen=True)
class Value:
    """What was fetched, and when that fetch began (monotonic clock); ``number`` tells it from all others."""

    number: int
    since: float


class Origin:
    """A ``fetch`` for a cache. It holds that there is one fetch for each key at any time.

    Knobs: ``ready`` lets every fetch land at once, with ``fails`` in place of a value where that is set.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.ready = False
        self.fails: Exception | None = None
        self.refresh_within = float("inf")
        self.fetches: Counter[str] = Counter()
        self.waiting: dict[str, asyncio.Future[Fetched[Value]]] = {}
        self._number = 0

    def value(self, since: float) -> Value:
        """A value unlike any other."""
        self._number += 1
        return Value(self._number, since)

    async def fetch(self, key: str) -> Fetched[Value]:
        """As the cache wants it."""
        assert key not in self.waiting, "two fetches of one key at a time"
        self.fetches[key] += 1
        if self.ready:
            if self.fails is not None:
                raise self.fails
            return Fetched(self.value(self.clock.monotonic()), self.refresh_within)
        self.waiting[key] = asyncio.get_running_loop().create_future()
        since = self.clock.monotonic()
        try:
            fetched = await self.waiting[key]
        finally:
            del self.waiting[key]
        assert fetched.value.since == since
        return fetched

    def land(self, key: str, outcome: Value | Exception, refresh_within: float = float("inf")) -> None:
        """Let the fetch of a key end."""
        if isinstance(outcome, Exception):
            self.waiting[key].set_exception(outcome)
        else:
            self.waiting[key].set_result(Fetched(outcome, refresh_within))


Event = tuple[str, str]


class Recorded:
    """The cache's events, in order, and its last size."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.entries = self.stale_entries = 0

    def lookup(self, result: Literal["hit", "stale", "miss"]) -> None:
        """As the cache tells it."""
        self.events.append(("lookup", result))

    def refreshed(self, key: str) -> None:  # noqa: ARG002
        """As the cache tells it."""
        self.events.append(("refreshed", "ok"))

    def postponed(self, key: str, value: Value, reason: str) -> None:  # noqa: ARG002
        """As the cache tells it."""
        self.events.append(("refreshed", "retry"))

    def refused(self, key: str, value: Value, error: SidekeyError) -> None:  # noqa: ARG002
        """As the cache tells it."""
        self.events.append(("refreshed", "gone"))

    def evicted(self, cause: Literal["capacity", "refused"]) -> None:
        """As the cache tells it."""
        self.events.append(("evicted", cause))

    def size(self, entries: int) -> None:
        """As the cache tells it."""
        self.entries = entries

    def stale(self, entries: int) -> None:
        """As the cache tells it."""
        self.stale_entries = entries

    def taken(self) -> list[Event]:
        """The events since the last call."""
        events, self.events = self.events, []
        return events
