"""What the calls ask for: the data key that encrypts, and the data keys that decrypt. Owns the caches of both."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Literal

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.format import RowFailure
from sidecar.errors import (
    RETRYABLE,
    CorruptKeyError,
    KeyDestroyedError,
    KeyDisabledError,
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
    UnknownKeyError,
)
from sidecar.keys.clock import Clock
from sidecar.keys.data_key import DataKey, DataKeys
from sidecar.keys.primaries import Primaries
from sidecar.keys.refreshing import Fetched, Lifetime, RefreshingCache
from sidecar.keys.rollover import RolloverSchedule
from sidecar.keystore.port import DataKeyRecord, Keystore
from sidecar.metrics import Metrics

_RETRY_ROLLOVER_SECONDS = 30.0

_FAILURES: dict[type[SidekeyError], RowFailure] = {
    UnknownKeyError: RowFailure.UNKNOWN_KEY,
    KeyDisabledError: RowFailure.KEY_DISABLED,
    KmsDisabledError: RowFailure.KEY_DISABLED,
    KeyDestroyedError: RowFailure.KEY_DESTROYED,
    KmsDeniedError: RowFailure.PERMISSION_DENIED,
    CorruptKeyError: RowFailure.KEY_CORRUPT,
    KmsThrottledError: RowFailure.KEY_UNAVAILABLE,
    KmsUnavailableError: RowFailure.KEY_UNAVAILABLE,
    KeystoreUnavailableError: RowFailure.KEY_UNAVAILABLE,
}

_PERMANENT = tuple(set(_FAILURES).difference(RETRYABLE))


class _DataKeyEvents:
    """The data key cache's events as metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._lookups = {r: metrics.cache_lookups.labels(r) for r in ("hit", "stale", "miss")}
        self._refreshes = {r: metrics.cache_refreshes.labels(r) for r in ("ok", "retry", "gone")}
        self._evictions = {c: metrics.cache_evictions.labels(c) for c in ("capacity", "refused")}
        self._size = metrics.cache_size

    def lookup(self, result: Literal["hit", "stale", "miss"]) -> None:
        self._lookups[result].inc()

    def refreshed(self, result: Literal["ok", "retry", "gone"]) -> None:
        self._refreshes[result].inc()

    def evicted(self, cause: Literal["capacity", "refused"]) -> None:
        self._evictions[cause].inc()

    def size(self, entries: int) -> None:
        self._size.set(entries)


class _NoEvents:
    """Primaries are records, not keys: they have no metrics of a cache."""

    def lookup(self, result: str) -> None: ...
    def refreshed(self, result: str) -> None: ...
    def evicted(self, cause: str) -> None: ...
    def size(self, entries: int) -> None: ...


class Keyrings:
    """The data keys of all keyrings, from the cache wherever they are in it. For one event loop."""

    def __init__(
        self,
        keystore: Keystore,
        data_keys: DataKeys,
        schedule: RolloverSchedule,
        lifetime: Lifetime,
        clock: Clock,
        metrics: Metrics,
        *,
        may_make: Callable[[str], bool],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._data_keys = data_keys
        self._keys: RefreshingCache[str, DataKey] = RefreshingCache(
            self._load, lifetime, clock, _DataKeyEvents(metrics), jitter
        )
        self._finder = Primaries(keystore, data_keys, schedule, clock, metrics, may_make, self._add)
        self._primaries: RefreshingCache[str, DataKeyRecord] = RefreshingCache(
            self._find_primary, lifetime, clock, _NoEvents(), jitter
        )

    @property
    def cached_keys(self) -> int:
        """Data keys that can work now, whatever becomes of the KMS."""
        return len(self._keys)

    async def primary(self, keyring: str) -> DataKey:
        """The data key that encrypts for a keyring now.

        Raises:
            SidekeyError: the keyring is unknown, or its primary cannot be had.
        """
        record = await self._primaries.get(keyring)
        try:
            return await self._keys.get(record.key_id)
        except (KeyDisabledError, KeyDestroyedError, UnknownKeyError):
            # Its state has changed since this keyring was looked up: another generation is the primary by now.
            self._primaries.evict(keyring)
        record = await self._primaries.get(keyring)
        return await self._keys.get(record.key_id)

    async def for_decryption(
        self, key_ids: Iterable[str], keyring: str | None
    ) -> dict[str, DataKeyCipher | RowFailure]:
        """For each data key its cipher, or why its rows cannot be decrypted.

        Args:
            keyring: if given, data keys of other keyrings are ``WRONG_KEYRING``.
        """
        found: dict[str, DataKeyCipher | RowFailure] = {}
        missing: list[str] = []
        for key_id in key_ids:
            data_key = self._keys.peek(key_id)
            if data_key is None:
                missing.append(key_id)
            else:
                found[key_id] = _cipher_of(data_key, keyring)
        if missing:
            answers = await asyncio.gather(*(self._try(key_id, keyring) for key_id in missing))
            found.update(zip(missing, answers, strict=True))
        return found

    def sweep(self) -> None:
        """Called now and then: refreshes what is in use ahead of its expiry, and drops what has expired."""
        self._keys.sweep()
        self._primaries.sweep()

    async def close(self) -> None:
        """Forget all data keys."""
        await self._primaries.close()
        await self._keys.close()

    async def _try(self, key_id: str, keyring: str | None) -> DataKeyCipher | RowFailure:
        try:
            return _cipher_of(await self._keys.get(key_id), keyring)
        except tuple(_FAILURES) as error:
            return _FAILURES[type(error)]

    async def _load(self, key_id: str) -> Fetched[DataKey]:
        return Fetched(await self._data_keys.load(key_id))

    async def _find_primary(self, keyring: str) -> Fetched[DataKeyRecord]:
        record = await self._finder.find(keyring)
        # The data key before the record that names it: a rollover by another sidecar then makes no call wait for the
        # KMS, and in an outage the primary that is known here goes on. What a retry cannot mend is left to ``primary``.
        with contextlib.suppress(*_PERMANENT):
            await self._keys.get(record.key_id)
        wait = self._finder.seconds_to_rollover(record)
        # Overdue after an attempt just now: the rollover failed, and is tried again before long.
        return Fetched(record, wait if wait > 0 else _RETRY_ROLLOVER_SECONDS)

    def _add(self, data_key: DataKey, since: float) -> None:
        self._keys.put(data_key.key_id, data_key, since=since)


def _cipher_of(data_key: DataKey, keyring: str | None) -> DataKeyCipher | RowFailure:
    if keyring is not None and data_key.keyring != keyring:
        return RowFailure.WRONG_KEYRING
    return data_key.cipher
