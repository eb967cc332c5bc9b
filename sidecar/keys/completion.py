"""Giving data keys the wrapped copies that they lack: of wrapping keys that were away, or are configured since.

Owns which data keys wait for it. Values are encrypted and decrypted meanwhile, by the copies that there are.
"""

import structlog

from sidecar.errors import RETRYABLE, SidekeyError
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DataKeyRecord, KeyState, Keystore
from sidecar.metrics import Metrics

_MOST_WAITING = 10_000
_MOST_IN_A_RUN = 100
_MOST_RUNS_PASSED_OVER = 63

log = structlog.get_logger(__name__)


class Completion:
    """Collects data keys that lack a copy, and completes them in the background. For one event loop.

    Args:
        keyring: in whose name a KMS that is down is asked whether it is back.
    """

    def __init__(self, keystore: Keystore, wrapping_keys: WrappingKeys, metrics: Metrics, *, keyring: str) -> None:
        self._keystore = keystore
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
            log.warning("completion_postponed", reason=error.reason, waiting=len(self._waiting))
            came_on = False
        self._idle_runs = 0 if came_on else min(self._idle_runs + 1, _MOST_RUNS_PASSED_OVER.bit_length())
        self._metrics.incomplete_data_keys.set(len(self._waiting))

    async def _complete_some(self) -> bool:
        """Whether something was done, or there was nothing to do."""
        some = list(self._waiting)[:_MOST_IN_A_RUN]
        records = await self._keystore.get_many(some)
        for key_id in some:
            record = records.get(key_id)
            if record is None or record.state is KeyState.DESTROYED or not self._wrapping_keys.lacks_copies(record):
                del self._waiting[key_id]
            elif not await self._complete(record):
                return False
        return True

    async def _complete(self, record: DataKeyRecord) -> bool:
        try:
            copies = await self._wrapping_keys.completed(record)
        except RETRYABLE:
            raise
        except SidekeyError as error:
            # Its own trouble, and said where it is loaded: the others need not wait for it.
            log.warning("data_key_not_completed", key_id=record.key_id, keyring=record.keyring, reason=error.reason)
            del self._waiting[record.key_id]
            return True
        if copies == record.copies:
            return False
        # Where somebody else was first this changes nothing, and the next run looks at what they did.
        if await self._keystore.replace_copies(record.key_id, record.copies, copies):
            kek_ids = [copy.kek_id for copy in copies]
            log.info("data_key_completed", key_id=record.key_id, keyring=record.keyring, kek_ids=kek_ids)
        # To the end of the line: the next run takes it out, unless it lacks another copy still.
        del self._waiting[record.key_id]
        self._waiting[record.key_id] = None
        return True
