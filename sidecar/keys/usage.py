"""How many values each data key encrypted: counted in memory, added to the keystore now and then."""

from collections import Counter

import structlog

from sidecar.errors import SidekeyError
from sidecar.keys.clock import Clock
from sidecar.keystore.port import Keystore, Usage

log = structlog.get_logger(__name__)


class UsageCounts:
    """Counts since the last flush; a flush that fails keeps them for the next."""

    def __init__(self, keystore: Keystore, clock: Clock) -> None:
        self._keystore = keystore
        self._clock = clock
        self._counts: Counter[str] = Counter()

    def add(self, key_id: str, values: int) -> None:
        """Count values encrypted under a data key."""
        self._counts[key_id] += values

    async def flush(self) -> None:
        """Add the counts to the keystore; what could not be added is logged and kept."""
        counts, self._counts = self._counts, Counter()
        flushed = not counts
        try:
            if counts:
                now = self._clock.now()
                await self._keystore.add_usage({key_id: Usage(n, 0, now, now) for key_id, n in counts.items()})
                flushed = True
        except SidekeyError as error:
            log.warning("usage_not_flushed", reason=error.reason)
        finally:
            if not flushed:
                # Where the outcome is unknown the counts may be added twice: they bound a budget, so too many is safe.
                self._counts.update(counts)
