"""A KMS in memory that really wraps, so that a moved or damaged wrapped key fails as it would with a vendor's."""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.errors import CorruptKeyError


class FakeKms:
    """Implements ``sidecar.kms.port.Kms``. Knobs are plain attributes, to be set at any time.

    ``fail_wrap_with`` / ``fail_unwrap_with`` / ``fail_open_with``: raised instead of an answer.
    ``delay_seconds``: slept before an answer. ``gate``: an event that every call waits for ("hang until released").
    ``earlier_kek_ids``: wrapping keys that it unwraps for besides ``kek_id``.
    ``corrupt_answers``: unwrap answers with another data key than the one wrapped.
    ``key_buffers``: every bytearray with data key bytes that it was given or gave out, to see them overwritten.
    ``journal``: a list, to be shared with other fakes, that gets the name of each call that succeeded.
    Counters: ``wraps``, ``unwraps`` (calls begun), ``running``, ``max_running``, ``opened``, ``closed``.
    """

    name = "fake"

    def __init__(self, kek_id: str = "fake:1") -> None:
        self.kek_id = kek_id
        self.earlier_kek_ids: set[str] = set()
        self.fail_open_with: Exception | None = None
        self.fail_wrap_with: Exception | None = None
        self.fail_unwrap_with: Exception | None = None
        self.delay_seconds = 0.0
        self.gate: asyncio.Event | None = None
        self.corrupt_answers = False
        self.key_buffers: list[bytearray] = []
        self.journal: list[str] = []
        self.opened = self.closed = 0
        self.wraps = self.unwraps = 0
        self.running = self.max_running = 0
        self._cipher = AESGCM(os.urandom(32))

    def may_unwrap(self, kek_id: str) -> bool:
        """As the port."""
        return kek_id == self.kek_id or kek_id in self.earlier_kek_ids

    async def open(self) -> None:
        """As the port."""
        self.opened += 1
        if self.fail_open_with is not None:
            raise self.fail_open_with

    async def wrap(self, data_key: bytes | bytearray, encryption_context: Mapping[str, str]) -> bytes:
        """As the port."""
        self.wraps += 1
        if isinstance(data_key, bytearray):
            self.key_buffers.append(data_key)
        with self._running():
            await self._wait()
            if self.fail_wrap_with is not None:
                raise self.fail_wrap_with
            nonce = os.urandom(12)
            self.journal.append("wrap")
            return nonce + self._cipher.encrypt(nonce, bytes(data_key), _bound(encryption_context))

    async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
        """As the port."""
        self.unwraps += 1
        with self._running():
            await self._wait()
            if self.fail_unwrap_with is not None:
                raise self.fail_unwrap_with
            try:
                plain = self._cipher.decrypt(wrapped_key[:12], wrapped_key[12:], _bound(encryption_context))
            except (InvalidTag, ValueError):
                raise CorruptKeyError("the fake KMS does not unwrap this data key") from None
            answer = bytearray(os.urandom(32)) if self.corrupt_answers else bytearray(plain)
            self.key_buffers.append(answer)
            self.journal.append("unwrap")
            return answer

    async def close(self) -> None:
        """As the port."""
        self.closed += 1

    async def _wait(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)

    @contextmanager
    def _running(self) -> Iterator[None]:
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        try:
            yield
        finally:
            self.running -= 1


def _bound(encryption_context: Mapping[str, str]) -> bytes:
    return json.dumps(dict(encryption_context), sort_keys=True).encode()
