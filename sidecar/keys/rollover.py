"""When a keyring wants a new primary: decisions only, no clock and no effects.

A fleet shares a keyring, so how soon all of its sidecars follow a rollover has a bound:

- one of them makes the new primary, at a moment of its own drawing inside the lead window; the keystore lets one win;
- whoever tried at the same time and lost reads the winner's at once and encrypts with it;
- every other sidecar reads the primary again when its copy is due for a refresh: at the latest after the TTL of the
  cache (``cache.ttlSeconds``), and in an outage of the keystore after the stale limit (``cache.staleOnOutageSeconds``).
  Until then it goes on encrypting under the old primary, which every sidecar decrypts.

So a whole fleet encrypts under the new primary one TTL after it was made. A budget of values is counted over the fleet
with a delay of one flush (``usage.flushSeconds``).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sidecar.keystore.port import DataKeyRecord

MOST_VALUES = 1 << 46
"""Values under one data key: SIV is good for 2^48 invocations (RFC 5297 section 6), of which a value costs several."""

_LEAD_FRACTION = 0.05
_LONGEST_LEAD = timedelta(hours=1)
_PREPARE_BUDGET_FRACTION = 0.9
_LOOK_AT_BUDGET_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RolloverSchedule:
    """How old a primary may become, and how many values it may encrypt.

    ``spent`` is how many values the fleet has encrypted under the primary, as far as this sidecar knows.
    """

    period: timedelta | None
    """None: age is no reason."""
    max_values: int = MOST_VALUES

    def __post_init__(self) -> None:
        """Refuse what would roll over without end, or encrypt more than the cipher is good for."""
        if self.period is not None and self.period <= timedelta(0):
            raise ValueError("the rollover period must be more than 0 days")
        if not 1 <= self.max_values <= MOST_VALUES:
            raise ValueError(f"a data key must be for 1 to {MOST_VALUES} values")

    def due_at(self, primary: DataKeyRecord) -> datetime | None:
        """When the primary has served its time; None: never."""
        return None if self.period is None else primary.created_at + self.period

    def prepare_at(self, primary: DataKeyRecord, spread: float) -> datetime | None:
        """From when on a keyring in use is rolled over in the background: ahead, so that no call waits for it.

        Args:
            spread: in [0, 1), where in the lead window; of each sidecar its own, or a fleet would meet at one instant.
        """
        if self.period is None:
            return None
        lead = min(_LONGEST_LEAD, self.period * _LEAD_FRACTION)
        return primary.created_at + self.period - lead * (1 - spread)

    def wants_rollover(self, primary: DataKeyRecord, now: datetime, spent: int, spread: float) -> bool:
        """Whether a new primary should be made now. A clock that was set back makes no key old before its time."""
        prepare_at = self.prepare_at(primary, spread)
        return (prepare_at is not None and now >= prepare_at) or spent >= self.prepared_budget

    def is_overdue(self, primary: DataKeyRecord, now: datetime, spent: int) -> bool:
        """Whether a primary that goes on encrypting has outlived its period or its budget of values."""
        due_at = self.due_at(primary)
        return (due_at is not None and now >= due_at) or spent >= self.max_values

    @property
    def prepared_budget(self) -> int:
        """How many values a primary encrypts before its successor is made."""
        return max(1, int(self.max_values * _PREPARE_BUDGET_FRACTION))

    def seconds_to_rollover(self, primary: DataKeyRecord, now: datetime, spent: int, spread: float) -> float:
        """Seconds until the primary should be looked at again for its rollover; 0 where it wants one, inf: never.

        Where a budget is set that could be spent soon, the counts are read every 30 seconds, and more often towards its
        end, which is foreseen at the mean speed since the primary was made.
        """
        if self.wants_rollover(primary, now, spent, spread):
            return 0.0
        prepare_at = self.prepare_at(primary, spread)
        by_age = float("inf") if prepare_at is None else (prepare_at - now).total_seconds()
        age = (now - primary.created_at).total_seconds()
        by_budget = _LOOK_AT_BUDGET_SECONDS if self.max_values < MOST_VALUES else float("inf")
        if spent > 0 and age > 0:
            by_budget = min(by_budget, max(1.0, (self.prepared_budget - spent) * age / spent / 2))
        return min(by_age, by_budget)


def own_spread(seed: bytes) -> Callable[[str], float]:
    """For each data key the same number in [0, 1) every time, and in every sidecar another."""

    def spread(key_id: str) -> float:
        digest = hashlib.blake2b(key_id.encode(), key=seed, digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2.0**53

    return spread
