"""The wrapping keys that data keys are wrapped under: one KMS or several, in an order.

Owns which KMS wraps and unwraps which copy. Every data key is wrapped under all of them, and unwrapped by the first that
answers; it is never without a copy that a configured KMS has proved to unwrap.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from sidecar.crypto import key_schedule
from sidecar.errors import (
    RETRYABLE,
    CorruptKeyError,
    KmsUnavailableError,
    SidekeyError,
)
from sidecar.keystore.port import DataKeyRecord, WrappedCopy
from sidecar.kms.context import encryption_context
from sidecar.kms.port import Kms


class Wrapper(Protocol):
    """What the life of data keys needs of wrapping keys; raises the errors of the KMS port alone."""

    async def wrap(self, data_key: bytearray, keyring: str, key_id: str) -> tuple[WrappedCopy, ...]:
        """Wrapped copies of a new data key, each proved to unwrap; at least one."""
        ...

    async def unwrap(self, record: DataKeyRecord) -> bytearray:
        """The data key, checked against its commitment; the caller overwrites it after use."""
        ...


class WrappingKeys:
    """Implements ``Wrapper`` over named KMSs, the first asked first."""

    def __init__(self, kmses: Mapping[str, Kms]) -> None:
        """``kmses``: at least one, by the name of its plugin in the configuration."""
        if not kmses:
            raise ValueError("there must be a KMS")
        self._kmses = dict(kmses)

    @property
    def names(self) -> Sequence[str]:
        """The providers' names, in order."""
        return [kms.name for kms in self._kmses.values()]

    @property
    def kek_ids(self) -> Sequence[str]:
        """The wrapping keys that wrap now, in order."""
        return [kms.kek_id for kms in self._kmses.values()]

    async def open(self) -> None:
        """Open every KMS; raises ``StartupError``."""
        for kms in self._kmses.values():
            await kms.open()

    async def close(self) -> None:
        """Close every KMS."""
        for kms in self._kmses.values():
            await kms.close()

    async def wrap(self, data_key: bytearray, keyring: str, key_id: str) -> tuple[WrappedCopy, ...]:
        """As ``Wrapper``; a KMS that is away is left out, as long as one is not."""
        context = encryption_context(keyring, key_id)
        answers = await asyncio.gather(
            *(self._wrapped(kms, data_key, context) for kms in self._kmses.values()), return_exceptions=True
        )
        copies = [answer for answer in answers if isinstance(answer, WrappedCopy)]
        if not copies:
            raise next(answer for answer in answers if isinstance(answer, BaseException))
        return tuple(copies)

    async def _wrapped(self, kms: Kms, data_key: bytearray, context: Mapping[str, str]) -> WrappedCopy:
        wrapped_key = await kms.wrap(data_key, context)
        # A KMS that wraps for us but will not unwrap would cost every value under this key: ask before it is used.
        proof = await kms.unwrap(wrapped_key, context)
        try:
            if not key_schedule.commits_to(key_schedule.commitment(data_key), proof):
                raise CorruptKeyError("the KMS does not unwrap a new data key to what it wrapped")
        finally:
            key_schedule.overwrite(proof)
        return WrappedCopy(kms.kek_id, wrapped_key)

    async def unwrap(self, record: DataKeyRecord) -> bytearray:
        """As ``Wrapper``."""
        context = encryption_context(record.keyring, record.key_id)
        outage: SidekeyError | None = None
        for kms in self._kmses.values():
            for copy in record.copies:
                if not kms.may_unwrap(copy.kek_id):
                    continue
                try:
                    data_key = await kms.unwrap(copy.wrapped_key, context)
                except RETRYABLE as error:
                    outage = error
                    continue
                if not key_schedule.commits_to(record.commitment, data_key):
                    key_schedule.overwrite(data_key)
                    raise CorruptKeyError(f"data key {record.key_id} does not unwrap to the key that was wrapped")
                return data_key
        raise outage or KmsUnavailableError(f"no configured KMS unwraps data key {record.key_id}")
