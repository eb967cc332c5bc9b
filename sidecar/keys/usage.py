"""What each data key was used for: counted in memory, added to the keystore now and then."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from sidecar.errors import SidekeyError
from sidecar.keys.clock import Clock
from sidecar.keystore.port import Keystore, Usage

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Count:
    first_at: datetime
    last_at: datetime
    encrypted: int = 0
    decrypted: int = 0

    def add(self, other: "_Count") -> None:
        self.first_at = min(self.first_at, other.first_at)
        self.last_at = max(self.last_at, other.last_at)
        self.encrypted += other.encrypted
        self.decrypted += other.decrypted


class UsageCounts:
    """Counts since the last flush; a flush that fails keeps them for the next. Holds a few numbers a data key."""

    def __init__(self, keystore: Keystore, clock: Clock) -> None:
        self._keystore = keystore
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._flushing: dict[str, _Count] = {}

    def encrypted(self, key_id: str, values: int) -> None:
        """Count values encrypted under a data key, now."""
        if values > 0:
            self._used(key_id).encrypted += values

    def decrypted(self, key_id: str, values: int) -> None:
        """Count values decrypted with a data key, now."""
        if values > 0:
            self._used(key_id).decrypted += values

    def unflushed(self, key_id: str) -> int:
        """Values encrypted here that the keystore is not known to have counted."""
        return sum(counts[key_id].encrypted for counts in (self._counts, self._flushing) if key_id in counts)

    async def flush(self) -> None:
        """Add the counts to the keystore in one call; what could not be added, and that alone, is logged and kept."""
        if not self._counts or self._flushing:
            return
        self._flushing, self._counts = self._counts, {}
        try:
            failed = await self._keystore.add_usage(_usage(self._flushing))
            self._flushing = {key_id: self._flushing[key_id] for key_id in failed}
            _log_failed(failed)
        except SidekeyError as error:
            log.warning("usage_not_flushed", reason=error.reason, data_keys=len(self._flushing))
        finally:
            # Where the outcome is unknown the counts may be added twice: they bound a budget, so too many is safe.
            kept, self._flushing = self._flushing, {}
            for key_id, count in kept.items():
                if (meanwhile := self._counts.setdefault(key_id, count)) is not count:
                    meanwhile.add(count)

    def _used(self, key_id: str) -> _Count:
        now = self._clock.now()
        count = self._counts.get(key_id)
        if count is None:
            count = self._counts[key_id] = _Count(now, now)
        else:
            # A clock that was set back makes no last use earlier.
            count.last_at = max(count.last_at, now)
        return count


def _log_failed(failed: Mapping[str, SidekeyError]) -> None:
    """One line for each reason, which names one of its data keys."""
    named = {error.reason: key_id for key_id, error in failed.items()}
    for reason, data_keys in Counter(error.reason for error in failed.values()).items():
        log.warning("usage_not_flushed", reason=reason, data_keys=data_keys, key_id=named[reason])


def _usage(counts: Mapping[str, _Count]) -> dict[str, Usage]:
    return {
        key_id: Usage(count.encrypted, count.decrypted, count.first_at, count.last_at)
        for key_id, count in counts.items()
    }
