"""A keystore in memory; it passes the same contract as the databases do (``tests/keystore/test_contract.py``)."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sidecar.errors import CorruptKeyError, KeystoreUnavailableError, SidekeyError, StartupError
from sidecar.keystore import rows
from sidecar.keystore.port import (
    NO_SCHEMA,
    DamagedRow,
    DataKeyRecord,
    KeyringRecord,
    KeyState,
    Usage,
    WrappedCopy,
)


@dataclass
class MemoryDatabase:
    """What several ``MemoryKeystore`` may share."""

    rows: dict[str, DataKeyRecord] = field(default_factory=dict)
    keyrings: dict[str, KeyringRecord] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    """Key ids of rows that do not parse, by their column ``commitment``."""
    upgraded: bool = False


class MemoryKeystore:
    """Implements ``sidecar.keystore.port.Keystore``. Knobs are plain attributes, to be set at any time.

    ``fail_with``: raised by every call but open and close. ``fail_inserts_with``: raised by insert alone.
    ``fail_usage_with``: by key id, why the use of this data key is not added.
    ``fail_after_with``: raised by every writing call after its work was done ("the answer was lost").
    ``delay_seconds``: slept before an answer. ``gate``: an event that every call waits for.
    ``calls``: how often each method was called, by its name. ``journal``: a list, to be shared with other fakes, that
    gets "insert" when a data key is durable. Hand one's ``database`` to others to share it:
    ``other = MemoryKeystore(store.database)``.
    """

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.database = MemoryDatabase() if database is None else database
        self.fail_with: Exception | None = None
        self.fail_inserts_with: Exception | None = None
        self.fail_usage_with: dict[str, SidekeyError] = {}
        self.fail_after_with: Exception | None = None
        self.delay_seconds = 0.0
        self.gate: asyncio.Event | None = None
        self.calls: dict[str, int] = {}
        self.journal: list[str] = []
        self._open = False

    @property
    def rows(self) -> dict[str, DataKeyRecord]:
        """The database's data keys by key id, to be looked at and changed from outside."""
        return self.database.rows

    async def open(self, *, upgrade: bool = False) -> None:
        """As the port."""
        self.database.upgraded |= upgrade
        if not self.database.upgraded:
            raise StartupError(NO_SCHEMA)
        self._open = True

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """As the port."""
        await self._called("get")
        row = self.rows.get(key_id)
        return None if row is None else self._parsed(row)

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        """As the port."""
        wanted = rows.check_ids(key_ids)
        await self._called("get_many")
        return {key_id: self._parsed(self.rows[key_id]) for key_id in wanted if key_id in self.rows}

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """As the port."""
        await self._called("primary")
        newest = self._newest_enabled(keyring)
        return None if newest is None else self._parsed(newest)

    async def newest_generation(self, keyring: str) -> int:
        """As the port."""
        await self._called("newest_generation")
        return max((row.generation for row in self._of(keyring)), default=0)

    async def insert(self, record: DataKeyRecord) -> bool:
        """As the port."""
        rows.to_row(record)
        await self._called("insert")
        if self.fail_inserts_with is not None:
            raise self.fail_inserts_with
        if record.key_id in self.rows or any(row.generation == record.generation for row in self._of(record.keyring)):
            return False
        self.rows[record.key_id] = rows.from_row(rows.to_row(record))
        self.journal.append("insert")
        self._answer_lost()
        return True

    async def set_state(self, key_id: str, state: KeyState, *, at: datetime) -> bool:
        """As the port."""
        rows.check_time(at)
        await self._called("set_state")
        row = self.rows.get(key_id)
        if row is None:
            return False
        if row.state is state:
            return True
        newest = self._newest_enabled(row.keyring)
        may_go = {
            (KeyState.ENABLED, KeyState.DISABLED): newest is not None and newest.generation > row.generation,
            (KeyState.DISABLED, KeyState.ENABLED): True,
            (KeyState.DISABLED, KeyState.DESTROYED): True,
        }
        if not may_go.get((row.state, state), False):
            return False
        changed = replace(row, state=state, state_changed_at=at.astimezone(UTC))
        if state is KeyState.DESTROYED:
            changed = replace(changed, wrapped_key=b"", further_copies=())
        self.rows[key_id] = changed
        self._answer_lost()
        return True

    async def replace_copies(self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> bool:
        """As the port."""
        rows.copies_to_row(expected)
        rows.copies_to_row(copies)
        await self._called("replace_copies")
        row = self.rows.get(key_id)
        if row is None or row.copies != tuple(expected):
            return False
        first, *further = copies
        self.rows[key_id] = replace(
            row, kek_id=first.kek_id, wrapped_key=first.wrapped_key, further_copies=tuple(further)
        )
        self._answer_lost()
        return True

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord | DamagedRow]:
        """As the port."""
        rows.check_page(limit)
        if after is not None:
            rows.check_name_after(after[0])
        await self._called("list_keys")
        page = [
            row
            for row in sorted(self.rows.values(), key=lambda row: (row.keyring, row.generation))
            if (keyring is None or row.keyring == keyring) and (after is None or (row.keyring, row.generation) > after)
        ]
        return [self._listed(row) for row in page[:limit]]

    async def keyring(self, name: str) -> KeyringRecord | None:
        """As the port."""
        await self._called("keyring")
        return self.database.keyrings.get(name)

    async def save_keyring(self, record: KeyringRecord, *, replace: bool = False) -> bool:
        """As the port."""
        rows.keyring_to_row(record)
        await self._called("save_keyring")
        stored = self.database.keyrings.get(record.name)
        if stored is not None and not replace:
            return False
        created_at = record.created_at.astimezone(UTC) if stored is None else stored.created_at
        self.database.keyrings[record.name] = KeyringRecord(record.name, created_at, record.settings)
        self._answer_lost()
        return True

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """As the port."""
        rows.check_page(limit)
        rows.check_name_after(after)
        await self._called("list_keyrings")
        names = {row.keyring for row in self.rows.values()} | set(self.database.keyrings)
        return sorted(name for name in names if name > after)[:limit]

    async def add_usage(self, usage: Mapping[str, Usage]) -> Mapping[str, SidekeyError]:
        """As the port."""
        for used in usage.values():
            rows.check_usage(used)
        await self._called("add_usage")
        failed = {key_id: self.fail_usage_with[key_id] for key_id in usage if key_id in self.fail_usage_with}
        for key_id, used in usage.items():
            if key_id not in failed and (row := self.rows.get(key_id)):
                self.rows[key_id] = replace(
                    row,
                    values_encrypted=min(row.values_encrypted + used.values_encrypted, rows.MOST),
                    values_decrypted=min(row.values_decrypted + used.values_decrypted, rows.MOST),
                    first_used_at=min(row.first_used_at or used.first_at, used.first_at).astimezone(UTC),
                    last_used_at=max(row.last_used_at or used.last_at, used.last_at).astimezone(UTC),
                )
        self._answer_lost()
        return failed

    async def close(self) -> None:
        """As the port."""
        self._open = False

    def _parsed(self, row: DataKeyRecord) -> DataKeyRecord:
        if row.key_id in self.database.damaged:
            raise _damage(row.key_id)
        return row

    def _listed(self, row: DataKeyRecord) -> DataKeyRecord | DamagedRow:
        try:
            return self._parsed(row)
        except CorruptKeyError as error:
            return rows.damaged_row(error, row.key_id, row.keyring, row.generation)

    def _of(self, keyring: str) -> list[DataKeyRecord]:
        return [row for row in self.rows.values() if row.keyring == keyring]

    def _newest_enabled(self, keyring: str) -> DataKeyRecord | None:
        enabled = [row for row in self._of(keyring) if row.state is KeyState.ENABLED]
        return max(enabled, key=lambda row: row.generation, default=None)

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

    def _answer_lost(self) -> None:
        if self.fail_after_with is not None:
            raise self.fail_after_with


def _damage(key_id: str) -> CorruptKeyError:
    return CorruptKeyError(f"the keystore's row of data key {key_id} is damaged: column commitment")
