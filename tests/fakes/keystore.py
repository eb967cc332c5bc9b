"""A keystore in memory; it passes the same contract as the databases do (``tests/keystore/test_contract.py``)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore.port import DataKeyRecord, KeyState
from sidecar.keystore.rows import to_row


class MemoryKeystore:
    """Implements ``sidecar.keystore.port.Keystore``. Knobs are plain attributes, to be set at any time.

    ``fail_with``: raised by every call but open and close. ``fail_inserts_with``: raised by insert alone.
    ``delay_seconds``: slept before an answer. ``gate``: an event that every call waits for.
    ``calls``: how often each method was called, by its name. ``journal``: a list, to be shared with other fakes, that
    gets "insert" when a data key is durable. Hand one to several users to share a "database":
    ``other = MemoryKeystore(store.rows)``.
    """

    def __init__(self, rows: dict[str, DataKeyRecord] | None = None) -> None:
        self.rows: dict[str, DataKeyRecord] = {} if rows is None else rows
        self.fail_with: Exception | None = None
        self.fail_inserts_with: Exception | None = None
        self.delay_seconds = 0.0
        self.gate: asyncio.Event | None = None
        self.calls: dict[str, int] = {}
        self.journal: list[str] = []
        self._open = False

    async def open(self) -> None:
        """As the port."""
        self._open = True

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """As the port."""
        await self._called("get")
        return self.rows.get(key_id)

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """As the port."""
        await self._called("primary")
        enabled = [row for row in self._of(keyring) if row.state is KeyState.ENABLED]
        return max(enabled, key=lambda row: row.generation, default=None)

    async def newest_generation(self, keyring: str) -> int:
        """As the port."""
        await self._called("newest_generation")
        return max((row.generation for row in self._of(keyring)), default=0)

    async def insert(self, record: DataKeyRecord) -> bool:
        """As the port."""
        to_row(record)
        await self._called("insert")
        if self.fail_inserts_with is not None:
            raise self.fail_inserts_with
        if record.key_id in self.rows or any(row.generation == record.generation for row in self._of(record.keyring)):
            return False
        self.rows[record.key_id] = replace(record, created_at=record.created_at.astimezone(UTC))
        self.journal.append("insert")
        return True

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord]:
        """As the port."""
        _check_page(limit)
        await self._called("list_keys")
        rows = sorted(self.rows.values(), key=lambda row: (row.keyring, row.generation))
        page = [
            row
            for row in rows
            if (keyring is None or row.keyring == keyring) and (after is None or (row.keyring, row.generation) > after)
        ]
        return page[:limit]

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """As the port."""
        _check_page(limit)
        await self._called("list_keyrings")
        return sorted({row.keyring for row in self.rows.values() if row.keyring > after})[:limit]

    async def add_values_encrypted(self, counts: Mapping[str, int]) -> None:
        """As the port."""
        if any(count < 0 for count in counts.values()):
            raise ValueError("a count of values encrypted cannot be negative")
        await self._called("add_values_encrypted")
        for key_id, count in counts.items():
            if row := self.rows.get(key_id):
                self.rows[key_id] = replace(row, values_encrypted=row.values_encrypted + count)

    async def close(self) -> None:
        """As the port."""
        self._open = False

    def _of(self, keyring: str) -> list[DataKeyRecord]:
        return [row for row in self.rows.values() if row.keyring == keyring]

    async def _called(self, method: str) -> None:
        if not self._open:
            raise KeystoreUnavailableError("the keystore is not open")
        self.calls[method] = self.calls.get(method, 0) + 1
        if self.gate is not None:
            await self.gate.wait()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.fail_with is not None:
            raise self.fail_with


def _check_page(limit: int) -> None:
    if limit < 1:
        raise ValueError("a page holds at least one row")
