"""How long what is cached lives: values only."""

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long entries live; all counted from the moment before their fetch began."""

    ttl_seconds: float
    """After this an entry is gone, whatever the reason that it was not refreshed, but for an outage."""
    jitter_fraction: float
    """By up to this fraction of the TTL an entry is refreshed and expires earlier, so that entries do not in step."""
    refresh_after_fraction: float
    """From this fraction of its life on, an entry in use is fetched again in the background."""
    failure_seconds: float
    """For so long a permanent failure is remembered, so that asking again costs nothing; 0: not at all."""
    max_entries: int
    stale_on_outage_seconds: float = 0.0
    """For so long an entry in use goes on whose refresh an outage prevents; never less than the TTL."""
    max_background_fetches: int = 256

    def __post_init__(self) -> None:
        """Refuse what would mean "for ever" or "never"."""
        if not 0 < self.ttl_seconds < math.inf:
            raise ValueError("the TTL must be more than 0 seconds")
        if not (0 <= self.jitter_fraction < 1 and 0 < self.refresh_after_fraction < 1):
            raise ValueError("jitter must be in [0, 1) and refresh-after in (0, 1)")
        if not (0 <= self.failure_seconds < math.inf and 0 <= self.stale_on_outage_seconds < math.inf):
            raise ValueError("failures must not be remembered for ever, nor entries kept")
        if self.max_entries < 1 or self.max_background_fetches < 1:
            raise ValueError("there must be room for an entry and for its fetch")

    @property
    def longest_seconds(self) -> float:
        """The end of any entry, outage or not."""
        return max(self.ttl_seconds, self.stale_on_outage_seconds)


@dataclass(frozen=True, slots=True)
class Fetched(Generic[V]):
    """What a fetch brings."""

    value: V
    refresh_within_seconds: float = math.inf
    """When the value wants to be fetched again although its life goes on."""
