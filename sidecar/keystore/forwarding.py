"""A keystore on top of another one. Owns nothing: what differs is for those who derive from it."""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from sidecar.errors import SidekeyError
from sidecar.keystore.port import DamagedRow, DataKeyRecord, KeyringRecord, KeyState, Keystore, Usage, WrappedCopy

_T = TypeVar("_T")


class ForwardingKeystore:
    """Implements the port by another implementation of it; every call goes through ``_asked``."""

    def __init__(self, keystore: Keystore) -> None:
        self._keystore = keystore

    async def _asked(self, answer: Awaitable[_T]) -> _T:
        """Wait for the answer of the keystore below."""
        return await answer

    async def open(self, *, upgrade: bool = False) -> None:
        """As the port."""
        await self._asked(self._keystore.open(upgrade=upgrade))

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """As the port."""
        return await self._asked(self._keystore.get(key_id))

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        """As the port."""
        return await self._asked(self._keystore.get_many(key_ids))

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """As the port."""
        return await self._asked(self._keystore.primary(keyring))

    async def newest_generation(self, keyring: str) -> int:
        """As the port."""
        return await self._asked(self._keystore.newest_generation(keyring))

    async def insert(self, record: DataKeyRecord) -> bool:
        """As the port."""
        return await self._asked(self._keystore.insert(record))

    async def set_state(self, key_id: str, state: KeyState, *, at: datetime) -> bool:
        """As the port."""
        return await self._asked(self._keystore.set_state(key_id, state, at=at))

    async def replace_copies(self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> bool:
        """As the port."""
        return await self._asked(self._keystore.replace_copies(key_id, expected, copies))

    async def keyring(self, name: str) -> KeyringRecord | None:
        """As the port."""
        return await self._asked(self._keystore.keyring(name))

    async def save_keyring(self, record: KeyringRecord, *, replace: bool = False) -> bool:
        """As the port."""
        return await self._asked(self._keystore.save_keyring(record, replace=replace))

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord | DamagedRow]:
        """As the port."""
        return await self._asked(self._keystore.list_keys(keyring, after=after, limit=limit))

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """As the port."""
        return await self._asked(self._keystore.list_keyrings(after=after, limit=limit))

    async def add_usage(self, usage: Mapping[str, Usage]) -> Mapping[str, SidekeyError]:
        """As the port."""
        return await self._asked(self._keystore.add_usage(usage))

    async def close(self) -> None:
        """As the port."""
        await self._keystore.close()
