"""The implementations of the port, by name: what the suites of the contract go through.

Each makes a new, empty database for a test, and answers with what makes one more keystore on that database, not yet
open. To run a suite over all of them, take the fixture ``opener``.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from sidecar.keystore.factory import create
from sidecar.keystore.port import Keystore
from tests.fakes.keystore import MemoryDatabase, MemoryKeystore
from tests.keystore.dynamodb import DynamoDb

Maker = Callable[[], Keystore]
"""Makes one more keystore on the same database, not yet open."""
Opener = Callable[[], Awaitable[Keystore]]
"""Opens one more keystore on the same database; it is closed with the test."""


def _memory(_request: pytest.FixtureRequest) -> Maker:
    database = MemoryDatabase()
    return lambda: MemoryKeystore(database)


def _sqlite(request: pytest.FixtureRequest) -> Maker:
    path: Path = request.getfixturevalue("tmp_path")
    return lambda: create(f"sqlite:///{path / 'keystore.db'}")


def _postgres(request: pytest.FixtureRequest) -> Maker:
    url: str = request.getfixturevalue("postgres_url")
    return lambda: create(url)


def _dynamodb(request: pytest.FixtureRequest) -> Maker:
    place: DynamoDb = request.getfixturevalue("dynamodb")
    return lambda: create(place.url, timeout_seconds=60.0)


IMPLEMENTATIONS: Final[Mapping[str, Callable[[pytest.FixtureRequest], Maker]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgres": _postgres,
    "dynamodb": _dynamodb,
}


@pytest.fixture(params=IMPLEMENTATIONS)
def maker(request: pytest.FixtureRequest) -> Maker:
    """What makes keystores on one new database, of each implementation in turn."""
    return IMPLEMENTATIONS[request.param](request)


@pytest.fixture
async def opener(maker: Maker) -> AsyncIterator[Opener]:
    """What opens keystores on one new database, of each implementation in turn; the schema is made by the first."""
    async with AsyncExitStack() as stack:

        async def open_one() -> Keystore:
            keystore = maker()
            await keystore.open(upgrade=True)
            stack.push_async_callback(keystore.close)
            return keystore

        yield open_one


@pytest.fixture
async def keystore(opener: Opener) -> Keystore:
    """An open keystore, of each implementation in turn."""
    return await opener()
