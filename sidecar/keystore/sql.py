"""The keystore in an SQL database: one set of queries for all of them.

Decides nothing about rollover; what state may follow which is in the statements (``queries``).
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Insert, Select, Update, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sidecar.errors import CorruptKeyError, KeystoreUnavailableError, SidekeyError, StartupError
from sidecar.keystore import migrations, queries, rows
from sidecar.keystore.port import NO_SCHEMA, DamagedRow, DataKeyRecord, KeyringRecord, KeyState, Usage, WrappedCopy
from sidecar.keystore.schema import DATA_KEYS, KEYRINGS, SCHEMA_VERSION
from sidecar.keystore.transactions import Transactions

_IDS_A_QUERY: Final = 1024


class Database(Protocol):
    """What differs from one SQL database to the next."""

    @property
    def writes_at_once(self) -> int | None:
        """How many transactions that write it is to be given at one time; None: as many as there are connections."""
        ...

    def prepare(self, *, create: bool) -> bool:
        """Make (with ``create``) or check what must be there before a connection is; may block, in bounded time.

        Returns whether there is a database. Raises ``StartupError`` where it cannot be used.
        """
        ...

    def engine(self) -> AsyncEngine:
        """A new engine; the execution option ``write`` marks transactions that write, which must be durable."""
        ...

    def begin_upgrade(self, connection: Connection) -> None:
        """Hold off every other upgrade until the end of the transaction; ``StartupError`` where none can be made."""
        ...

    def refusal(self, error: Exception) -> StartupError | None:
        """The error of ours for a foreign one that an operator must mend before this can work; None for any other."""
        ...


class SqlKeystore:
    """Implements the port. ``timeout_seconds`` bounds each call; after a timeout the outcome of a write is unknown."""

    newest_schema: Final = SCHEMA_VERSION

    def __init__(self, database: Database, *, timeout_seconds: float = 5.0) -> None:
        self._database = database
        self._timeout_seconds = timeout_seconds
        self._transactions: Transactions | None = None

    async def open(self, *, upgrade: bool = False) -> None:
        """As the port. An upgrade is one transaction, and safe when many sidecars do it at once."""
        transactions = await self._connect(create=upgrade)
        if transactions is None:
            raise StartupError(NO_SCHEMA)
        try:
            version = await self._version(transactions)
            if upgrade and version < SCHEMA_VERSION:
                await transactions.run(self._upgrade, write=True, refusal=self._database.refusal)
            else:
                migrations.check(version)
        except SidekeyError:
            await transactions.close()
            raise
        self._transactions = transactions

    async def schema_version(self) -> int:
        """The version of the schema, 0 where there is none; also before ``open``, and it creates nothing.

        Raises ``KeystoreUnavailableError``, and ``StartupError`` where the place cannot be used or is no keystore.
        """
        transactions = await self._connect(create=False)
        if transactions is None:
            return 0
        try:
            return await self._version(transactions)
        finally:
            await transactions.close()

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """As the port."""
        return (await self.get_many([key_id])).get(key_id)

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        """As the port; raises ``ValueError`` for more than 4,096 ids."""
        known = sorted(key_id for key_id in rows.check_ids(key_ids) if rows.is_key_id(key_id))
        chunks = [known[start : start + _IDS_A_QUERY] for start in range(0, len(known), _IDS_A_QUERY)]
        records = [rows.from_row(row) for row in await self._rows(*(queries.by_ids(chunk) for chunk in chunks))]
        return {record.key_id: record for record in records}

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """As the port."""
        found = await self._rows_of(keyring, queries.primary(keyring))
        return rows.from_row(found[0]) if found else None

    async def newest_generation(self, keyring: str) -> int:
        """As the port."""
        found = await self._rows_of(keyring, queries.newest_generation(keyring))
        newest = found[0]["newest"] if found else None
        if newest is None:
            return 0
        if not isinstance(newest, int) or newest < 1:
            raise CorruptKeyError("the keystore holds a generation that is no positive number")
        return newest

    async def insert(self, record: DataKeyRecord) -> bool:
        """As the port."""
        return await self._insert(insert(DATA_KEYS), rows.to_row(record))

    async def set_state(self, key_id: str, state: KeyState, *, at: datetime) -> bool:
        """As the port."""
        rows.check_time(at)
        if await self._update(key_id, queries.set_state(key_id, state, at)):
            return True
        # Not a part of the change: that the data key has the state already is true whenever this looks.
        record = await self.get(key_id)
        return record is not None and record.state is state

    async def replace_copies(self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> bool:
        """As the port; raises ``ValueError`` for copies that no record could have."""
        return await self._update(key_id, queries.replace_copies(key_id, expected, copies))

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord | DamagedRow]:
        """As the port."""
        if after is not None:
            rows.check_name_after(after[0])
        query = queries.page_of_keys(keyring, after, rows.check_page(limit))
        found = await (self._rows(query) if keyring is None else self._rows_of(keyring, query))
        return [rows.from_listed_row(row) for row in found]

    async def keyring(self, name: str) -> KeyringRecord | None:
        """As the port."""
        found = await self._rows_of(name, select(KEYRINGS).where(KEYRINGS.c.name == name))
        return rows.keyring_from_row(found[0]) if found else None

    async def save_keyring(self, record: KeyringRecord, *, replace: bool = False) -> bool:
        """As the port."""
        row = rows.keyring_to_row(record)
        if await self._insert(insert(KEYRINGS), row):
            return True
        if not replace:
            return False
        # No row of this table is ever deleted, so the one that was in the way is still there.
        del row["created_at"]
        statement = update(KEYRINGS).where(KEYRINGS.c.name == record.name).values(row)
        return await self._changed(statement)

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """As the port."""
        rows.check_name_after(after)
        names = [row["name"] for row in await self._rows(queries.page_of_keyrings(after, rows.check_page(limit)))]
        if not all(rows.is_keyring(name) for name in names):
            raise CorruptKeyError("the keystore holds a keyring's name that does not parse")
        return names

    async def add_usage(self, usage: Mapping[str, Usage]) -> Mapping[str, SidekeyError]:
        """As the port; all of it in one transaction, so all or nothing."""
        for used in usage.values():
            rows.check_usage(used)
        # In one order everywhere, so that two sidecars which add to the same data keys cannot deadlock.
        parameters = [_usage_parameters(key_id, usage[key_id]) for key_id in sorted(usage) if rows.is_key_id(key_id)]
        transactions = self._opened()
        if not parameters:
            return {}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(queries.add_usage(), parameters)

        await transactions.run(work, write=True)
        return {}

    async def close(self) -> None:
        """Close all connections; every later call finds the keystore unavailable."""
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            await transactions.close()

    async def _connect(self, *, create: bool) -> Transactions | None:
        """Transactions on a new engine; None where there is no database."""
        _silence_library_logs()
        if not await asyncio.to_thread(self._database.prepare, create=create):
            return None
        return Transactions(
            self._database.engine(),
            timeout_seconds=self._timeout_seconds,
            writes_at_once=self._database.writes_at_once,
        )

    async def _version(self, transactions: Transactions) -> int:
        async def work(connection: AsyncConnection) -> int:
            return await connection.run_sync(migrations.stored_version)

        return await transactions.run(work, refusal=self._database.refusal)

    async def _upgrade(self, connection: AsyncConnection) -> None:
        await connection.run_sync(self._database.begin_upgrade)
        await connection.run_sync(migrations.upgrade)

    async def _insert(self, statement: Insert, row: Mapping[str, Any]) -> bool:
        """Whether the row was stored; it was not where another is in its place."""

        async def work(connection: AsyncConnection) -> None:
            try:
                await connection.execute(statement, row)
            except IntegrityError:
                # Of the constraints only the unique ones can be hurt: ``rows`` lets no NULL through.
                raise _TakenError from None

        try:
            await self._opened().run(work, write=True)
        except _TakenError:
            return False
        return True

    async def _update(self, key_id: str, statement: Update) -> bool:
        """Whether the statement changed the data key; nothing is asked where no data key can have the id."""
        self._opened()
        return rows.is_key_id(key_id) and await self._changed(statement)

    async def _changed(self, statement: Update) -> bool:
        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement)).rowcount > 0

        return await self._opened().run(work, write=True)

    async def _rows_of(self, keyring: str, query: Select[Any]) -> list[dict[str, Any]]:
        """The rows; none, and nothing is asked, where no keyring can have the name."""
        return await (self._rows(query) if rows.is_keyring(keyring) else self._rows())

    async def _rows(self, *selects: Select[Any]) -> list[dict[str, Any]]:
        async def work(connection: AsyncConnection) -> list[dict[str, Any]]:
            results = [await connection.execute(query) for query in selects]
            return [row._asdict() for result in results for row in result]

        transactions = self._opened()
        return await transactions.run(work) if selects else []

    def _opened(self) -> Transactions:
        if self._transactions is None:
            raise KeystoreUnavailableError("the keystore is not open")
        return self._transactions


class _TakenError(SidekeyError):
    """Ends a transaction whose row found another in its place; never leaves this file."""


def _usage_parameters(key_id: str, used: Usage) -> dict[str, Any]:
    return {
        "id": key_id,
        "encrypted": used.values_encrypted,
        "decrypted": used.values_decrypted,
        "first": used.first_at,
        "last": used.last_at,
    }


def _silence_library_logs() -> None:
    """Below WARNING these libraries log statements with their parameters, and rows: wrapped keys among them."""
    for name in ("aiosqlite", "asyncpg", "sqlalchemy.engine", "sqlalchemy.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
