"""What the calls ask for: the data key that encrypts, and the data keys that decrypt. Owns the caches of both."""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.format import RowFailure, Suite
from sidecar.errors import RETRYABLE, CorruptKeyError, KeyDestroyedError, KeyDisabledError, UnknownKeyError
from sidecar.keys.clock import Clock
from sidecar.keys.data_key import DataKey, DataKeys
from sidecar.keys.lifetime import Fetched, Lifetime
from sidecar.keys.live import live_key_ids
from sidecar.keys.outage import Outage, Pace
from sidecar.keys.primaries import Primaries, Primary
from sidecar.keys.refreshing import RefreshingCache
from sidecar.keys.rollover import own_spread
from sidecar.keys.row_failures import PERMANENT, ROW_FAILURES
from sidecar.keys.sparing import SparingWrapper
from sidecar.keys.states import drop_what_may_not_go_on
from sidecar.keys.telling import DataKeyEvents, KeyringEvents
from sidecar.keys.terms import KeyringTerms
from sidecar.keys.wrapping import Wrapper
from sidecar.keystore.gathering import GatheringKeystore
from sidecar.keystore.port import DataKeyRecord, Keystore
from sidecar.metrics import Metrics

_RETRY_ROLLOVER_SECONDS = 30.0

_CHANGED = (KeyDisabledError, KeyDestroyedError, UnknownKeyError)


class Keyrings:
    """The data keys of all keyrings, from the cache wherever they are in it. For one event loop.

    Args:
        make_data_keys: over this keystore and these wrapping keys, which spare the ones that are given.
        configured: the terms of a keyring in this sidecar's configuration; what is stored of it by call wins.
        may_make: whether a keyring of this name may be made on first use.
        unflushed: values encrypted here under a data key that the keystore has not counted yet.
        max_calls: wraps and unwraps at one time; others wait for their turn, for at most ``wait_seconds``.
        jitter: a random number in [0, 1).
        spread: for a data key's id where in the lead window of its rollover this sidecar comes, in [0, 1).
    """

    def __init__(
        self,
        keystore: Keystore,
        wrapper: Wrapper,
        make_data_keys: Callable[[Keystore, Wrapper], DataKeys],
        lifetime: Lifetime,
        pace: Pace,
        clock: Clock,
        metrics: Metrics,
        *,
        configured: Callable[[str], KeyringTerms],
        may_make: Callable[[str], bool],
        unflushed: Callable[[str], int],
        max_calls: int = 16,
        wait_seconds: float = 5.0,
        jitter: Callable[[], float] = random.random,
        spread: Callable[[str], float] | None = None,
    ) -> None:
        self._keystore = keystore
        self._clock = clock
        self._jitter = jitter
        self._corrupt = metrics.corrupt_data_keys
        # Apart: what the KMS does to data keys says nothing of how the keystore finds primaries.
        of_keys, of_wraps, of_primaries, of_lists = (Outage(pace.retries_per_second, clock, jitter) for _ in range(4))
        self._wrapper = SparingWrapper(wrapper, of_wraps, of_keys, max_calls=max_calls, wait_seconds=wait_seconds)
        self._gathering = GatheringKeystore(keystore)
        self._data_keys = make_data_keys(self._gathering, self._wrapper)
        self._events = DataKeyEvents(metrics, clock)
        self._keys: RefreshingCache[str, DataKey] = RefreshingCache(
            self._load, lifetime, clock, self._events, jitter, of_keys, pace
        )
        self._finder = Primaries(
            keystore,
            self._data_keys,
            clock,
            metrics,
            configured=configured,
            may_make=may_make,
            unflushed=unflushed,
            spread=spread or own_spread(secrets.token_bytes(32)),
            on_made=self._add,
        )
        self._primaries: RefreshingCache[str, Primary] = RefreshingCache(
            self._find_primary, lifetime, clock, KeyringEvents(clock), jitter, of_primaries, pace
        )
        # No list goes on through an outage: it may lack what others have made, and queries would miss rows unseen.
        self._lists: RefreshingCache[str, tuple[str, ...]] = RefreshingCache(
            self._find_live,
            replace(lifetime, stale_on_outage_seconds=0.0),
            clock,
            KeyringEvents(clock),
            jitter,
            of_lists,
            pace,
        )

    @property
    def cached_keys(self) -> int:
        """Data keys that can work now, whatever becomes of the KMS."""
        return len(self._keys)

    @property
    def stale_keys(self) -> int:
        """Of these, those that an outage keeps past their TTL."""
        return self._events.stale_keys

    async def encryption(self, keyring: str, suite: Suite | None) -> tuple[DataKey, Suite]:
        """The data key that encrypts for a keyring now, and the suite to use; None asks for the keyring's default.

        Raises:
            ModeNotAllowedError: the suite is deterministic, and the keyring does not allow it.
            SidekeyError: as ``primary``.
        """
        found = await self._primaries.get(keyring)
        chosen = found.terms.suite(keyring, suite)
        return await self._key_of(keyring, found), chosen

    async def primary(self, keyring: str) -> DataKey:
        """The data key that encrypts for a keyring now.

        Raises:
            SidekeyError: the keyring is unknown, or its primary cannot be had.
        """
        return await self._key_of(keyring, await self._primaries.get(keyring))

    async def live(self, keyring: str) -> Sequence[DataKey]:
        """All enabled data keys of a keyring, the newest first.

        What another sidecar has made or enabled is among them after the TTL of the cache at the latest; while the
        keystore is away for longer than that there is no answer.

        Raises:
            UnknownKeyringError: there is no such keyring.
            LimitExceededError: there are more than 1,000.
            SidekeyError: one of them cannot be had; a query without it would silently miss rows.
        """
        key_ids = await self._lists.get(keyring)
        try:
            return await self._all(key_ids)
        except _CHANGED:
            # The state of one has changed since the list was made.
            self._lists.evict(keyring)
        return await self._all(await self._lists.get(keyring))

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

    async def rotate(self, keyring: str) -> DataKeyRecord:
        """Make a new primary now, which encrypts here from the next call on; others follow as ``rollover`` says.

        Raises:
            UnknownKeyringError: there is no such keyring, and none may be made.
            SidekeyError: the keystore or the KMS is away or refuses; the old primary goes on.
        """
        since = self._clock.monotonic()
        found = await self._finder.rotate(keyring)
        self.forget(keyring, None)
        self._primaries.put(keyring, found, since=since)
        return found.record

    def forget(self, keyring: str, key_id: str | None) -> None:
        """Look up anew what was just changed: a keyring's primary, settings and live data keys, and the data key."""
        self._primaries.forget(keyring)
        self._lists.forget(keyring)
        if key_id is not None:
            self._keys.forget(key_id)

    def trouble_is_over(self) -> None:
        """Called when the keystore and the KMSs have answered a probe: no call fails for what others met before it."""
        self._wrapper.trouble_is_over()
        for cache in (self._keys, self._primaries, self._lists):
            cache.trouble_is_over()

    async def look_at_states(self) -> None:
        """Called now and then: what was disabled in the keystore does not go on through an outage of the KMS."""
        await drop_what_may_not_go_on(self._gathering, self._keys)

    def sweep(self) -> None:
        """Called now and then: refreshes what is in use ahead of its expiry, and drops what has expired."""
        for cache in (self._keys, self._primaries, self._lists):
            cache.sweep()

    async def close(self) -> None:
        """Forget all data keys."""
        await self._finder.close()
        for cache in (self._primaries, self._lists, self._keys):
            await cache.close()

    async def _key_of(self, keyring: str, found: Primary) -> DataKey:
        try:
            return await self._keys.get(found.record.key_id)
        except _CHANGED:
            # Its state has changed since this keyring was looked up: another generation is the primary by now.
            self._primaries.evict(keyring)
        found = await self._primaries.get(keyring)
        return await self._keys.get(found.record.key_id)

    async def _all(self, key_ids: Sequence[str]) -> Sequence[DataKey]:
        answers = await asyncio.gather(*(self._keys.get(key_id) for key_id in key_ids), return_exceptions=True)
        found: list[DataKey] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            found.append(answer)
        return found

    async def _try(self, key_id: str, keyring: str | None) -> DataKeyCipher | RowFailure:
        try:
            return _cipher_of(await self._keys.get(key_id), keyring)
        except tuple(ROW_FAILURES) as error:
            return ROW_FAILURES[type(error)]

    async def _load(self, key_id: str) -> Fetched[DataKey]:
        try:
            return Fetched(await self._data_keys.load(key_id))
        except CorruptKeyError:
            self._corrupt.inc()
            raise

    async def _find_primary(self, keyring: str) -> Fetched[Primary]:
        known = self._primaries.glance(keyring)
        try:
            found = await self._finder.find(keyring)
        except RETRYABLE:
            if known is not None:
                self._finder.goes_on(known)
            raise
        # The data key before the record that names it: a rollover by another sidecar then makes no call wait for the
        # KMS, and in an outage the primary that is known here goes on. What a retry cannot mend is left to ``primary``.
        with contextlib.suppress(*PERMANENT):
            await self._keys.get(found.record.key_id)
        listed = self._lists.glance(keyring)
        if listed is not None and found.record.key_id not in listed:
            self._lists.forget(keyring)
        wait = self._finder.seconds_to_rollover(found)
        # Overdue after an attempt just now: the rollover failed, and is tried again before long.
        return Fetched(found, wait if wait > 0 else _RETRY_ROLLOVER_SECONDS * (1 + self._jitter() / 2))

    async def _find_live(self, keyring: str) -> Fetched[tuple[str, ...]]:
        key_ids = await live_key_ids(self._keystore, keyring)
        known = self._primaries.glance(keyring)
        if known is not None and known.record.key_id not in key_ids:
            # Disabled since it was looked up, or made since the listing: no value may be encrypted here that the tokens
            # of a query which comes after it do not find.
            self._primaries.forget(keyring)
            self._keys.forget(known.record.key_id)
            key_ids = await live_key_ids(self._keystore, keyring)
        return Fetched(key_ids)

    def _add(self, data_key: DataKey, since: float) -> None:
        self._keys.put(data_key.key_id, data_key, since=since)
        self._lists.forget(data_key.keyring)


def _cipher_of(data_key: DataKey, keyring: str | None) -> DataKeyCipher | RowFailure:
    if keyring is not None and data_key.keyring != keyring:
        return RowFailure.WRONG_KEYRING
    return data_key.cipher
