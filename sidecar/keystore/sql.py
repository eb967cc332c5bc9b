"""The keystore in an SQL database: one set of queries for all of them, in SQLAlchemy's portable core.

Decides nothing about rollover or states.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Select, and_, bindparam, func, insert, inspect, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sidecar.errors import CorruptKeyError, KeystoreUnavailableError, SidekeyError, StartupError
from sidecar.keystore.port import DataKeyRecord, KeyState, Usage
from sidecar.keystore.rows import from_row, to_row
from sidecar.keystore.schema import DATA_KEYS, METADATA, SCHEMA_VERSION, VERSION
from sidecar.keystore.transactions import Transactions

_COLUMNS: Final = DATA_KEYS.c


class Database(Protocol):
    """What differs from one SQL database to the next."""

    def prepare(self) -> None:
        """Make or check what must be there before a connection is; may block, in bounded time."""
        ...

    def engine(self) -> AsyncEngine:
        """A new engine. Transactions with the execution option ``write`` must exclude each other."""
        ...


class SqlKeystore:
    """Implements the port. ``timeout_seconds`` bounds each call; after a timeout the outcome of a write is unknown."""

    def __init__(self, database: Database, *, timeout_seconds: float = 5.0) -> None:
        self._database = database
        self._timeout_seconds = timeout_seconds
        self._transactions: Transactions | None = None

    async def open(self, *, upgrade: bool = False) -> None:
        """Connect, and create or check the schema in one transaction; raises as the port says."""
        _silence_library_logs()
        await asyncio.to_thread(self._database.prepare)
        self._transactions = Transactions(self._database.engine(), timeout_seconds=self._timeout_seconds)
        try:
            await self._transactions.run(lambda connection: connection.run_sync(_create_or_check), write=True)
        except SidekeyError:
            await self.close()
            raise

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """The data key of this id, in whatever state."""
        records = await self._records(select(DATA_KEYS).where(_COLUMNS.key_id == key_id))
        return records[0] if records else None

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """The enabled data key of the highest generation; None where the keyring has none."""
        query = (
            select(DATA_KEYS)
            .where(_COLUMNS.keyring == keyring, _COLUMNS.state == str(KeyState.ENABLED))
            .order_by(_COLUMNS.generation.desc())
            .limit(1)
        )
        records = await self._records(query)
        return records[0] if records else None

    async def newest_generation(self, keyring: str) -> int:
        """The highest generation ever stored for the keyring; 0 where there is none."""
        rows = await self._rows(
            select(func.max(_COLUMNS.generation).label("newest")).where(_COLUMNS.keyring == keyring)
        )
        newest = rows[0]["newest"]
        if newest is None:
            return 0
        if not isinstance(newest, int) or newest < 1:
            raise CorruptKeyError("the keystore holds a generation that is no positive number")
        return newest

    async def insert(self, record: DataKeyRecord) -> bool:
        """Store a new data key durably; False, and nothing stored, where generation or key id are taken."""
        row = to_row(record)

        async def work(connection: AsyncConnection) -> bool:
            try:
                await connection.execute(insert(DATA_KEYS), row)
            except IntegrityError:
                # Of the constraints only the unique ones can be hurt: ``to_row`` lets no NULL through.
                return False
            return True

        return await self._opened().run(work, write=True)

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord]:
        """A page of data keys in the order (keyring, generation), beginning after the given pair."""
        query = select(DATA_KEYS).order_by(_COLUMNS.keyring, _COLUMNS.generation).limit(_page(limit))
        if keyring is not None:
            query = query.where(_COLUMNS.keyring == keyring)
        if after is not None:
            name, generation = after
            later = and_(_COLUMNS.keyring == name, _COLUMNS.generation > generation)
            query = query.where(or_(_COLUMNS.keyring > name, later))
        return await self._records(query)

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """A page of the names of keyrings that have data keys, in order."""
        query = select(_COLUMNS.keyring).distinct().where(_COLUMNS.keyring > after).order_by(_COLUMNS.keyring)
        return [row["keyring"] for row in await self._rows(query.limit(_page(limit)))]

    async def add_usage(self, usage: Mapping[str, Usage]) -> None:
        """Add to ``values_encrypted`` of each key id; raises ``ValueError`` for a negative count."""
        counts = {key_id: used.values_encrypted for key_id, used in usage.items()}
        if any(count < 0 for count in counts.values()):
            raise ValueError("a count of values encrypted cannot be negative")
        # In one order everywhere, so that two sidecars which add to the same data keys cannot deadlock.
        parameters = [{"id": key_id, "count": counts[key_id]} for key_id in sorted(counts)]
        if not parameters:
            return
        statement = (
            update(DATA_KEYS)
            .where(_COLUMNS.key_id == bindparam("id"))
            .values(values_encrypted=_COLUMNS.values_encrypted + bindparam("count"))
        )

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement, parameters)

        await self._opened().run(work, write=True)

    async def close(self) -> None:
        """Close all connections; every later call finds the keystore unavailable."""
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            await transactions.close()

    async def _records(self, query: Select[Any]) -> list[DataKeyRecord]:
        return [from_row(row) for row in await self._rows(query)]

    async def _rows(self, query: Select[Any]) -> list[dict[str, Any]]:
        async def work(connection: AsyncConnection) -> list[dict[str, Any]]:
            result = await connection.execute(query)
            try:
                return [row._asdict() for row in result]
            except (TypeError, ValueError):
                # SQLite keeps what it is given: a time that does not parse, text where bytes belong.
                raise CorruptKeyError("the keystore holds a row whose columns do not parse") from None

        return await self._opened().run(work)

    def _opened(self) -> Transactions:
        if self._transactions is None:
            raise KeystoreUnavailableError("the keystore is not open")
        return self._transactions


def _page(limit: int) -> int:
    if limit < 1:
        raise ValueError("a page holds at least one row")
    return limit


def _create_or_check(connection: Connection) -> None:
    """Create the schema in an empty database, or check its version; within the caller's transaction."""
    tables = inspect(connection).get_table_names()
    if not tables:
        METADATA.create_all(connection)
        connection.execute(insert(VERSION), {"version": SCHEMA_VERSION})
        return
    if VERSION.name not in tables:
        raise StartupError("the database holds tables of another program; give the keystore one of its own")
    versions = connection.execute(select(VERSION.c.version)).scalars().all()
    if len(versions) != 1 or not isinstance(versions[0], int) or versions[0] < 1:
        raise StartupError("the keystore's schema version does not parse; restore the keystore from a backup")
    if versions[0] > SCHEMA_VERSION:
        raise StartupError(
            f"the keystore has schema version {versions[0]}, and this sidecar knows versions up to {SCHEMA_VERSION}; "
            "upgrade the sidecar"
        )


def _silence_library_logs() -> None:
    """Below WARNING these libraries log statements with their parameters, and rows: wrapped keys among them."""
    for name in ("aiosqlite", "sqlalchemy.engine", "sqlalchemy.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
