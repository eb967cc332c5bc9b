"""Fleets on each keystore.

Seeds are drawn anew for each test, and printed where it fails; ``SIDEKEY_SEED`` sets one.
"""

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.fleet.fleet import Fleet
from tests.fleet.nursery import Nursery
from tests.keystore.dynamodb import DynamoDb, aws_environment, dynamodb, dynamodb_server
from tests.keystore.postgres import postgres_server, postgres_url
from tests.kms.moto import moto_kms, moto_server

__all__ = [
    "aws_environment",
    "dynamodb",
    "dynamodb_server",
    "moto_kms",
    "moto_server",
    "postgres_server",
    "postgres_url",
]

Place = tuple[str, dict[str, str]]
"""The URL of a keystore, and the environment that leads to it."""


def _sqlite(request: pytest.FixtureRequest) -> Place:
    path: Path = request.getfixturevalue("tmp_path")
    return f"sqlite:///{path / 'keystore.db'}", {}


def _postgres(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue("postgres_url"), {}


def _dynamodb(request: pytest.FixtureRequest) -> Place:
    place: DynamoDb = request.getfixturevalue("dynamodb")
    return place.url, place.environment


KEYSTORES: Final[dict[str, Callable[[pytest.FixtureRequest], Place]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "dynamodb": _dynamodb,
}


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """What starts workers; it lasts for the session."""
    made = Nursery(tmp_path_factory.mktemp("nursery") / "stderr")
    yield made
    made.close()


@pytest.fixture
def seed() -> int:
    """Of whatever a test draws."""
    drawn = int(os.environ.get("SIDEKEY_SEED") or secrets.randbits(32))
    print(f"SIDEKEY_SEED={drawn}")  # noqa: T201
    return drawn


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    """A new, empty keystore of the kind that the test names by indirect parametrization."""
    return KEYSTORES[request.param](request)


@pytest.fixture
async def fleet(nursery: Nursery, place: Place, tmp_path: Path, seed: int) -> AsyncIterator[Fleet]:
    """A fleet that has no worker yet, on that keystore."""
    url, environment = place
    async with AsyncExitStack() as stack:
        made = Fleet(nursery, tmp_path, url, environment, seed)
        stack.push_async_callback(made.close)
        await made.open()
        yield made
