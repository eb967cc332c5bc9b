"""What the caches tell of themselves, as metrics and as log lines that an outage does not multiply."""

from typing import Any, Literal

import structlog

from sidecar.errors import SidekeyError, UnknownKeyError
from sidecar.keys.clock import Clock
from sidecar.keys.data_key import DataKey
from sidecar.keys.outage import TokenBucket
from sidecar.metrics import Metrics

_POSTPONED_LINES_PER_SECOND = 1 / 30
_REFUSED_LINES_PER_SECOND = 10.0

log = structlog.get_logger(__name__)


class _Seldom:
    """Says the first of many alike, and later how many were left out."""

    def __init__(self, lines_per_second: float, clock: Clock) -> None:
        self._lines = TokenBucket(lines_per_second, clock)
        self._left_out = 0

    def warn(self, event: str, **fields: Any) -> None:
        if not self._lines.take():
            self._left_out += 1
            return
        log.warning(event, **fields, left_out=self._left_out)
        self._left_out = 0


class DataKeyEvents:
    """The events of the cache of data keys."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._lookups = {r: metrics.cache_lookups.labels(r) for r in ("hit", "stale", "miss")}
        self._refreshes = {r: metrics.cache_refreshes.labels(r) for r in ("ok", "retry", "gone")}
        self._evictions = {c: metrics.cache_evictions.labels(c) for c in ("capacity", "refused")}
        self._size = metrics.cache_size
        self._stale = metrics.cache_stale
        self._postponed = _Seldom(_POSTPONED_LINES_PER_SECOND, clock)
        self._refused = _Seldom(_REFUSED_LINES_PER_SECOND, clock)
        self.stale_keys = 0
        """Data keys past their TTL, at the last sweep."""

    def lookup(self, result: Literal["hit", "stale", "miss"]) -> None:
        """As ``Events``."""
        self._lookups[result].inc()

    def refreshed(self, key: str) -> None:  # noqa: ARG002 - a key id is no label
        """As ``Events``."""
        self._refreshes["ok"].inc()

    def postponed(self, key: str, value: DataKey, reason: str) -> None:
        """As ``Events``; an outage is one line now and then, whatever the number of data keys."""
        self._refreshes["retry"].inc()
        self._postponed.warn("refresh_failed", key_id=key, keyring=value.keyring, reason=reason)

    def refused(self, key: str, value: DataKey, error: SidekeyError) -> None:
        """As ``Events``."""
        self._refreshes["gone"].inc()
        if isinstance(error, UnknownKeyError):
            log.error(
                "data_key_vanished",
                key_id=key,
                keyring=value.keyring,
                hint="restore its row of the keystore from a backup: what it encrypted cannot be read without it",
            )
        else:
            self._refused.warn("cached_entry_refused", key_id=key, keyring=value.keyring, reason=error.reason)

    def evicted(self, cause: Literal["capacity", "refused"]) -> None:
        """As ``Events``."""
        self._evictions[cause].inc()

    def size(self, entries: int) -> None:
        """As ``Events``."""
        self._size.set(entries)

    def stale(self, entries: int) -> None:
        """As ``Events``."""
        self._stale.set(entries)
        self.stale_keys = entries


class KeyringEvents:
    """The events of the caches by keyring: these hold records and no keys, and have no metrics of a cache."""

    def __init__(self, clock: Clock) -> None:
        self._postponed = _Seldom(_POSTPONED_LINES_PER_SECOND, clock)
        self._refused = _Seldom(_REFUSED_LINES_PER_SECOND, clock)

    def lookup(self, result: Literal["hit", "stale", "miss"]) -> None:
        """As ``Events``."""

    def refreshed(self, key: str) -> None:
        """As ``Events``."""

    def postponed(self, key: str, value: object, reason: str) -> None:  # noqa: ARG002 - a keyring's name says it all
        """As ``Events``."""
        self._postponed.warn("refresh_failed", keyring=key, reason=reason)

    def refused(self, key: str, value: object, error: SidekeyError) -> None:  # noqa: ARG002 - as above
        """As ``Events``."""
        self._refused.warn("cached_entry_refused", keyring=key, reason=error.reason)

    def evicted(self, cause: Literal["capacity", "refused"]) -> None:
        """As ``Events``."""

    def size(self, entries: int) -> None:
        """As ``Events``."""

    def stale(self, entries: int) -> None:
        """As ``Events``."""
