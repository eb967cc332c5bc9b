"""Where a worker ends itself, as a kill from outside at that very moment would: wrappings of the ports, with knobs."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, event

from sidecar.keystore.forwarding import ForwardingKeystore
from sidecar.keystore.port import DataKeyRecord, Keystore, WrappedCopy
from sidecar.kms.port import Kms

_T = TypeVar("_T")
_LONGEST_WRITE_SECONDS: Final = 0.006

SENT: Final = "sent"
"""A write is under way to the keystore, and nobody knows how far."""
COMMITTING: Final = "committing"
"""The statement of a write was executed, and its transaction is not committed; of SQL keystores alone."""
OF_A_WRITE: Final = ("writing", SENT, COMMITTING, "written")
OF_A_ROLLOVER: Final = ("wrapped", *OF_A_WRITE, "encrypted", "acknowledged")
OF_A_REWRAP: Final = ("unwrapped", "wrapped", *OF_A_WRITE)


class Points:
    """Counts how often the named point is passed, and ends the process there."""

    def __init__(self, name: str | None, passes: int, chance: random.Random) -> None:
        """``passes``: at which passing, counted from 1; nothing is counted before ``armed`` is set."""
        self._name = name
        self._left = passes
        self._chance = chance
        self.armed = False
        self._writes = 0
        """Writes under way that have points: others commit as well."""

    def passed(self, name: str) -> None:
        """Here is the point of this name."""
        if name != self._name or not self.armed:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def written(self, write: Awaitable[_T]) -> _T:
        """Go through the points of a write."""
        self.passed("writing")
        self._writes += 1
        under_way = asyncio.ensure_future(write)
        if self._name == SENT:
            await asyncio.sleep(self._chance.uniform(0, _LONGEST_WRITE_SECONDS))
            self.passed(SENT)
        try:
            answer = await under_way
        finally:
            self._writes -= 1
        self.passed("written")
        return answer

    def watch_commits(self) -> None:
        """Know of every transaction of this process that is about to be committed."""

        def committing(_connection: Connection) -> None:
            if self._writes:
                self.passed(COMMITTING)

        event.listen(Engine, "commit", committing)


class PointedKeystore(ForwardingKeystore):
    """A keystore that is as far away as it is told to be, and whose writes of data keys have points."""

    def __init__(
        self, keystore: Keystore, points: Points, *, seconds: tuple[float, float], chance: random.Random
    ) -> None:
        """``seconds``: between which bounds every call takes longer."""
        super().__init__(keystore)
        self._points = points
        self._seconds = seconds
        self._chance = chance

    async def _asked(self, answer: Awaitable[_T]) -> _T:
        await asyncio.sleep(self._chance.uniform(*self._seconds))
        return await answer

    async def insert(self, record: DataKeyRecord) -> bool:
        """As the port."""
        return await self._points.written(super().insert(record))

    async def replace_copies(self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> bool:
        """As the port."""
        return await self._points.written(super().replace_copies(key_id, expected, copies))


class PointedKms:
    """A KMS that is as slow as it is told to be, and whose answers have points."""

    def __init__(self, kms: Kms, points: Points, *, wrap_seconds: tuple[float, float], chance: random.Random) -> None:
        """``wrap_seconds``: between which bounds a wrap takes longer."""
        self._kms = kms
        self._points = points
        self._wrap_seconds = wrap_seconds
        self._chance = chance

    @property
    def name(self) -> str:
        """As the port."""
        return self._kms.name

    @property
    def kek_id(self) -> str:
        """As the port."""
        return self._kms.kek_id

    def may_unwrap(self, kek_id: str) -> bool:
        """As the port."""
        return self._kms.may_unwrap(kek_id)

    async def open(self) -> None:
        """As the port."""
        await self._kms.open()

    async def wrap(self, data_key: bytes | bytearray, encryption_context: Mapping[str, str]) -> bytes:
        """As the port."""
        await asyncio.sleep(self._chance.uniform(*self._wrap_seconds))
        wrapped = await self._kms.wrap(data_key, encryption_context)
        self._points.passed("wrapped")
        return wrapped

    async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
        """As the port."""
        data_key = await self._kms.unwrap(wrapped_key, encryption_context)
        self._points.passed("unwrapped")
        return data_key

    async def close(self) -> None:
        """As the port."""
        await self._kms.close()
