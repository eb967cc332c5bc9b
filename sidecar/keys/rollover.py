"""When a keyring wants a new primary: decisions only, no clock and no effects."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sidecar.keystore.port import DataKeyRecord

MOST_VALUES = 1 << 46
"""Values under one data key: SIV is good for 2^48 invocations (RFC 5297 section 6), of which a value costs several."""

_LEAD_FRACTION = 0.05
_LONGEST_LEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class RolloverSchedule:
    """How old a primary may become."""

    period: timedelta

    def __post_init__(self) -> None:
        """Refuse a period that would roll over without end."""
        if self.period <= timedelta(0):
            raise ValueError("the rollover period must be more than 0 days")

    def due_at(self, primary: DataKeyRecord) -> datetime:
        """When the primary has served its time."""
        return primary.created_at + self.period

    def prepare_at(self, primary: DataKeyRecord) -> datetime:
        """From when on a keyring in use is rolled over in the background: ahead, so that no call waits for it."""
        return self.due_at(primary) - min(_LONGEST_LEAD, self.period * _LEAD_FRACTION)

    def wants_rollover(self, primary: DataKeyRecord, now: datetime) -> bool:
        """Whether a new primary should be made now. A clock that was set back makes no key old before its time."""
        return now >= self.prepare_at(primary) or primary.values_encrypted >= MOST_VALUES

    def is_overdue(self, primary: DataKeyRecord, now: datetime) -> bool:
        """Whether a primary that goes on encrypting has outlived its period or its budget of values."""
        return now >= self.due_at(primary) or primary.values_encrypted >= MOST_VALUES
