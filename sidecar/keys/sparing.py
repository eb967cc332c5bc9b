"""Wrapping keys that are spared in an outage, however many data keys are wanted. Owns who may call them, and when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from sidecar.errors import RETRYABLE, CorruptKeyError, KmsUnavailableError
from sidecar.keys.outage import Outage
from sidecar.keys.wrapping import Wrapper
from sidecar.keystore.port import DataKeyRecord, WrappedCopy

log = structlog.get_logger(__name__)


class SparingWrapper:
    """Implements ``Wrapper`` on top of another one: so many calls at once, and none for those who wait out an outage.

    Without it ten thousand cold data keys would be ten thousand calls to a KMS that has just said that it is away.
    """

    def __init__(self, wrapper: Wrapper, outage: Outage, max_calls: int, wait_seconds: float) -> None:
        """``wait_seconds``: the longest wait for a turn."""
        self._wrapper = wrapper
        self._outage = outage
        self._turns = asyncio.Semaphore(max_calls)
        self._wait_seconds = wait_seconds

    async def wrap(self, data_key: bytearray, keyring: str, key_id: str) -> tuple[WrappedCopy, ...]:
        """As ``Wrapper``; how it ends counts for the outage, since a new data key is in no cache that would tell."""
        async with self._turn(key_id):
            number = self._outage.number
            try:
                copies = await self._wrapper.wrap(data_key, keyring, key_id)
            except RETRYABLE as error:
                self._outage.failed(error, number)
                raise
            finally:
                self._outage.landed(key_id)
            self._outage.succeeded()
            return copies

    async def unwrap(self, record: DataKeyRecord) -> bytearray:
        """As ``Wrapper``."""
        async with self._turn(record.key_id):
            try:
                return await self._wrapper.unwrap(record)
            except CorruptKeyError:
                log.error(  # noqa: TRY400  (nothing is known beyond what is said here)
                    "data_key_corrupt",
                    key_id=record.key_id,
                    keyring=record.keyring,
                    kek_id=record.kek_id,
                    hint="restore its row of the keystore from a backup; until then what it encrypted cannot be read",
                )
                raise

    @asynccontextmanager
    async def _turn(self, key_id: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise KmsUnavailableError("too many data keys wait for the KMS; this one was not asked for") from None
        try:
            self._outage.check(key_id)
            yield
        finally:
            self._turns.release()
