"""Giving data keys the wrapped copies that they lack: of wrapping keys that were away, or are configured since.

Owns which data keys wait for it. Values are encrypted and decrypted meanwhile, by the copies that there are.
"""

import asyncio
from collections.abc import Sequence

import structlog

from sidecar.errors import RETRYABLE, CorruptKeyError, SidekeyError
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.gathering import GatheringKeystore
from sidecar.keystore.port import DataKeyRecord, KeyState, Keystore
from sidecar.metrics import Metrics

_MOST_WAITING = 10_000
_MOST_AT_ONCE = 100
_MOST_STUCK = 100
_MOST_RUNS_PASSED_OVER = 63

_Kind = tuple[str, ...]
"""A keyring, and the wrapping keys of what copies there are."""

log = structlog.get_logger(__name__)


class Completion:
    """Collects data keys that lack a copy, and completes them in the background. For one event loop.

    Args:
        keyring: in whose name a KMS that is down is asked whether it is back.
    """

    def __init__(self, keystore: Keystore, wrapping_keys: WrappingKeys, metrics: Metrics, *, keyring: str) -> None:
        self._keystore = GatheringKeystore(keystore)
        self._wrapping_keys = wrapping_keys
        self._metrics = metrics
        self._keyring = keyring
        self._waiting: dict[str, None] = {}
        self._idle_runs = 0
        self._passed_over = 0

    def offer(self, record: DataKeyRecord) -> None:
        """Take up a data key, if it lacks a copy and there is room; where there is none, its next load offers it."""
        if len(self._waiting) < _MOST_WAITING and self._wrapping_keys.lacks_copies(record):
            self._waiting[record.key_id] = None
            self._metrics.incomplete_data_keys.set(len(self._waiting))

    async def run_once(self) -> None:
        """Ask KMSs that are down whether they are back, and complete some of the data keys that wait; raises nothing.

        Called every few seconds. While nothing comes of it ever more of these calls complete nothing, so that a KMS
        that denies is not asked again and again; one that is back changes that.
        """
        try:
            if await self._wrapping_keys.ask_those_down(self._keyring):
                self._idle_runs = self._passed_over = 0
            if self._passed_over < min(2**self._idle_runs - 1, _MOST_RUNS_PASSED_OVER):
                self._passed_over += 1
                return
            self._passed_over = 0
            came_on = await self._complete_some()
        except SidekeyError as error:
            self._postponed(error)
            came_on = False
        self._idle_runs = 0 if came_on else min(self._idle_runs + 1, _MOST_RUNS_PASSED_OVER.bit_length())
        self._metrics.incomplete_data_keys.set(len(self._waiting))

    async def _complete_some(self) -> bool:
        """Whether something came on, or there was nothing to do: looks along the line until something does."""
        line = list(self._waiting)
        stuck: set[_Kind] = set()
        for start in range(0, len(line), _MOST_AT_ONCE):
            if await self._complete_these(line[start : start + _MOST_AT_ONCE], stuck):
                return True
            if len(stuck) >= _MOST_STUCK:
                break
        return not line

    async def _complete_these(self, key_ids: Sequence[str], stuck: set[_Kind]) -> bool:
        """Whether something came on. ``stuck``: the kinds of data keys of which one could not be completed just now."""
        records = await asyncio.gather(*map(self._read, key_ids))
        came_on = False
        for key_id, record in zip(key_ids, records, strict=True):
            del self._waiting[key_id]
            if record is None or record.state is KeyState.DESTROYED or not self._wrapping_keys.lacks_copies(record):
                came_on = True
                continue
            # To the end of the line, whatever comes of it: the next run takes out what lacks no copy any more.
            self._waiting[key_id] = None
            kind = (record.keyring, *(copy.kek_id for copy in record.copies))
            # What is alike meets the same KMSs and is told the same by them: asking once is enough.
            if kind not in stuck:
                done = await self._complete(record)
                came_on |= done
                stuck |= set() if done else {kind}
        return came_on

    async def _read(self, key_id: str) -> DataKeyRecord | None:
        """The data key; None where there is none to complete, or none that parses."""
        try:
            return await self._keystore.get(key_id)
        except CorruptKeyError as error:
            log.warning("data_key_not_completed", key_id=key_id, reason=error.reason)
            return None

    async def _complete(self, record: DataKeyRecord) -> bool:
        """Whether the data key has come on, or is none of those that wait any more."""
        try:
            copies = await self._wrapping_keys.completed(record)
        except RETRYABLE as error:
            self._postponed(error)
            return False
        except SidekeyError as error:
            # Its own trouble, and said where it is loaded: it need not wait here.
            log.warning("data_key_not_completed", key_id=record.key_id, keyring=record.keyring, reason=error.reason)
            del self._waiting[record.key_id]
            return True
        if copies == record.copies:
            return False
        # Where somebody else was first this changes nothing, and the next run looks at what they did.
        if await self._keystore.replace_copies(record.key_id, record.copies, copies):
            kek_ids = [copy.kek_id for copy in copies]
            log.info("data_key_completed", key_id=record.key_id, keyring=record.keyring, kek_ids=kek_ids)
        return True

    def _postponed(self, error: SidekeyError) -> None:
        log.warning("completion_postponed", reason=error.reason, waiting=len(self._waiting))
