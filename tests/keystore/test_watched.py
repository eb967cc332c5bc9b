"""What the calls to a keystore say of it."""

from datetime import UTC, datetime

import pytest

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore.port import Usage
from sidecar.keystore.watched import WatchedKeystore
from tests.fakes.keystore import MemoryKeystore
from tests.keystore.records import record

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def told() -> tuple[WatchedKeystore, MemoryKeystore, list[bool]]:
    results: list[bool] = []
    below = MemoryKeystore()
    watched = WatchedKeystore(below, results.append)
    await watched.open(upgrade=True)
    results.clear()
    return watched, below, results


async def test_each_call_says_whether_the_keystore_could_be_reached(
    told: tuple[WatchedKeystore, MemoryKeystore, list[bool]],
) -> None:
    watched, below, results = told
    await watched.get_many([record().key_id])
    below.fail_with = KeystoreUnavailableError("away")
    with pytest.raises(KeystoreUnavailableError):
        await watched.primary("default")
    with pytest.raises(KeystoreUnavailableError):
        await watched.add_usage({record().key_id: Usage(1, 0, NOW, NOW)})
    assert results == [True, False, False]


async def test_a_call_that_asks_for_nothing_says_nothing(
    told: tuple[WatchedKeystore, MemoryKeystore, list[bool]],
) -> None:
    watched, below, results = told
    below.fail_with = KeystoreUnavailableError("away")
    assert await watched.get_many([]) == {}
    assert await watched.get_many(iter(())) == {}
    await watched.add_usage({})
    assert results == []
