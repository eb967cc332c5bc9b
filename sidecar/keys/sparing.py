"""Wrapping keys that are spared in an outage, however many data keys are wanted. Owns who may call them, and when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from sidecar.errors import RETRYABLE, CorruptKeyError, KmsUnavailableError
from sidecar.keys.outage import OF_KMS, Outage
from sidecar.keys.wrapping import Wrapper
from sidecar.keystore.port import DataKeyRecord, WrappedCopy

log = structlog.get_logger(__name__)


class SparingWrapper:
    """Implements ``Wrapper`` on top of another one: so many calls at once, and none for those who wait out an outage.

    Without it ten thousand cold data keys would be ten thousand calls to a KMS that has just said that it is away.
    """

    def __init__(
        self, wrapper: Wrapper, wraps: Outage, unwraps: Outage, *, max_calls: int, wait_seconds: float
    ) -> None:
        """``wait_seconds``: the longest wait for a turn.

        Wraps and unwraps have outages of their own: a KMS that makes no data keys now may well bring those there are.
        """
        self._wrapper = wrapper
        self._wraps = wraps
        self._unwraps = unwraps
        self._turns = asyncio.Semaphore(max_calls)
        self._wait_seconds = wait_seconds

    async def wrap(self, data_key: bytearray, keyring: str, key_id: str) -> tuple[WrappedCopy, ...]:
        """As ``Wrapper``."""
        try:
            async with self._turn(key_id, self._wraps):
                copies = await self._wrapper.wrap(data_key, keyring, key_id)
            # Told here, since a new data key is in no cache yet that would tell of its fetch.
            self._wraps.succeeded()
            return copies
        finally:
            self._wraps.landed(key_id)

    def must_reach(self, record: DataKeyRecord) -> None:
        """As ``Wrapper``."""
        self._wrapper.must_reach(record)

    async def unwrap(self, record: DataKeyRecord) -> bytearray:
        """As ``Wrapper``."""
        async with self._turn(record.key_id, self._unwraps):
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

    def trouble_is_over(self) -> None:
        """Wraps may be called for again at once."""
        self._wraps.succeeded()

    @contextlib.asynccontextmanager
    async def _turn(self, key_id: str, outage: Outage) -> AsyncIterator[None]:
        """For one call; a failure in it that may pass begins an outage, or goes on with one."""
        await outage.turn(key_id, OF_KMS)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise KmsUnavailableError("too many data keys wait for the KMS; this one was not asked for") from None
        try:
            outage.check(key_id, OF_KMS)
            number = outage.number
            try:
                yield
            except RETRYABLE as error:
                outage.failed(error, number)
                raise
        finally:
            self._turns.release()
