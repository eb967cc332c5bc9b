"""Sidecars in the test's process, with clocks of its own, on a keystore that the test changes from outside as well."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.composition import Sidecar
from sidecar.config import load
from sidecar.keystore.factory import create
from sidecar.kms.port import Kms
from tests.fakes.clock import FakeClock
from tests.keystore.postgres import PostgresServer
from tests.rpc.batches import Row, rows_of, values
from tests.rpc.logs import LogLines
from tests.rpc.running import Running, connected, until

TTL = 6.0
REFRESH = 0.8 * TTL
"""After so long what is in use is refreshed, and not expired yet."""
FORGOTTEN = 5.0
"""For so long a permanent failure is remembered."""
SETTINGS: dict[str, Any] = {
    "keyrings": {"*": {}},
    "cache.ttlSeconds": TTL,
    "cache.jitterFraction": 0.0,
    "cache.unknownKeySeconds": FORGOTTEN,
    "server.http": "127.0.0.1:0",
}


@dataclass(frozen=True)
class Place:
    """A keystore's database, and how to run a statement in it that no sidecar would."""

    url: str
    execute: Callable[[str], list[str]]

    def count(self, what: str = "true") -> int:
        """Data keys for which it holds."""
        (count,) = self.execute(f"SELECT count(*) FROM data_keys WHERE {what}")  # noqa: S608 - of a test
        return int(count)


def in_sqlite(path: Path) -> Place:
    """A new SQLite keystore."""

    def execute(statement: str) -> list[str]:
        with closing(sqlite3.connect(path)) as database:
            rows = database.execute(statement).fetchall()
            database.commit()
        return ["|".join(map(str, row)) for row in rows]

    return Place(f"sqlite:///{path}", execute)


def in_postgres(server: PostgresServer) -> Place:
    """A new PostgreSQL keystore."""
    database = server.new_database()
    return Place(server.url(database), lambda statement: server.sql(database, statement))


@asynccontextmanager
async def at_work(data_dir: Path, place: Place, kms: Kms, clock: FakeClock, **settings: Any) -> AsyncIterator[Running]:
    """A sidecar that serves; ``settings`` by dotted path with ``_`` for the dot."""
    flags = {"dataDir": str(data_dir), "keystore.url": place.url, **SETTINGS}
    flags |= {name.replace("_", "."): value for name, value in settings.items()}
    keystore = create(place.url)
    await keystore.open(upgrade=True)
    await keystore.close()
    sidecar = Sidecar(load(None, {}, flags), kms=kms, clock=clock)
    try:
        addresses, http = await sidecar.start()
        assert http is not None
        async with connected(addresses[0]) as caller:
            yield Running(sidecar, caller, addresses[0], http)
    finally:
        await sidecar.close()


async def sealed(it: Running, value: bytes, keyring: str = "sales") -> Row:
    """One ciphertext."""
    (row,) = await it.caller.sealed(value, keyring=keyring)
    return row


async def opened(it: Running, *rows: Row) -> list[Row]:
    """Their values."""
    return rows_of(await it.caller.decrypt(values(*rows)))


def key_id(row: Row) -> str:
    """Of the data key that it was encrypted under."""
    assert row is not None
    return row[1:8].hex()


def remove_files_beside(path: Path) -> None:
    """As an operator who restores a SQLite file must."""
    for beside in path.parent.glob(f"{path.name}-*"):
        beside.unlink()


async def until_told(logs: LogLines, event: str) -> dict[str, object]:
    """The first line of an event."""

    async def told() -> bool:
        return bool(logs.of(event))

    await until(told)
    return logs.of(event)[0]


async def refreshed_often(its: list[Running], clocks: list[FakeClock]) -> None:
    """Let all of them look at the keyring again, many times."""
    for _ in range(6):
        for clock in clocks:
            clock.advance(2 * TTL)
        for it in its:
            assert await opened(it, await sealed(it, b"v")) == [b"v"]
