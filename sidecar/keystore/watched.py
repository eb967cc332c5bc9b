"""A keystore that tells how its calls end. Owns no decision: whoever listens does."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore.port import DataKeyRecord, KeyringRecord, KeyState, Keystore, Usage, WrappedCopy


class WatchedKeystore:
    """Implements the port on top of another implementation; ``on_result(reachable)`` is called after each call."""

    def __init__(self, keystore: Keystore, on_result: Callable[[bool], None]) -> None:
        self._keystore = keystore
        self._on_result = on_result

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        try:
            yield
        except KeystoreUnavailableError:
            self._on_result(False)
            raise
        self._on_result(True)

    async def open(self, *, upgrade: bool = False) -> None:
        """As the port."""
        async with self._watched():
            await self._keystore.open(upgrade=upgrade)

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """As the port."""
        async with self._watched():
            return await self._keystore.get(key_id)

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        """As the port."""
        async with self._watched():
            return await self._keystore.get_many(key_ids)

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """As the port."""
        async with self._watched():
            return await self._keystore.primary(keyring)

    async def newest_generation(self, keyring: str) -> int:
        """As the port."""
        async with self._watched():
            return await self._keystore.newest_generation(keyring)

    async def insert(self, record: DataKeyRecord) -> bool:
        """As the port."""
        async with self._watched():
            return await self._keystore.insert(record)

    async def set_state(self, key_id: str, state: KeyState, *, at: datetime) -> bool:
        """As the port."""
        async with self._watched():
            return await self._keystore.set_state(key_id, state, at=at)

    async def replace_copies(self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> bool:
        """As the port."""
        async with self._watched():
            return await self._keystore.replace_copies(key_id, expected, copies)

    async def keyring(self, name: str) -> KeyringRecord | None:
        """As the port."""
        async with self._watched():
            return await self._keystore.keyring(name)

    async def save_keyring(self, record: KeyringRecord, *, replace: bool = False) -> bool:
        """As the port."""
        async with self._watched():
            return await self._keystore.save_keyring(record, replace=replace)

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord]:
        """As the port."""
        async with self._watched():
            return await self._keystore.list_keys(keyring, after=after, limit=limit)

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """As the port."""
        async with self._watched():
            return await self._keystore.list_keyrings(after=after, limit=limit)

    async def add_usage(self, usage: Mapping[str, Usage]) -> None:
        """As the port."""
        async with self._watched():
            await self._keystore.add_usage(usage)

    async def close(self) -> None:
        """As the port."""
        await self._keystore.close()
