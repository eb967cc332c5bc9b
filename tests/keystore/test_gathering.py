"""Single reads that become few: how many round trips, and whose error is whose."""

import asyncio
from collections.abc import Iterable, Mapping

import pytest
from structlog.testing import capture_logs

from sidecar.errors import CorruptKeyError, KeystoreUnavailableError
from sidecar.keystore.gathering import GatheringKeystore
from sidecar.keystore.port import DataKeyRecord
from tests.fakes.keystore import MemoryKeystore
from tests.keys.settling import turns
from tests.keystore.records import record


class SpoiltKeystore(MemoryKeystore):
    """Some of its rows do not parse."""

    spoilt: frozenset[str] = frozenset()

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        """As the port."""
        wanted = list(key_ids)
        found = await super().get_many(wanted)
        if self.spoilt.intersection(wanted):
            raise CorruptKeyError("a row does not parse")
        return found


@pytest.fixture
async def store() -> SpoiltKeystore:
    store = SpoiltKeystore()
    await store.open(upgrade=True)
    for generation in range(1, 101):
        assert await store.insert(record(generation=generation))
    store.calls.clear()
    return store


async def test_the_reads_of_one_turn_are_one_round_trip(store: SpoiltKeystore) -> None:
    gathering = GatheringKeystore(store)
    key_ids = [*store.rows, "0123456789abcd"]
    answers = await asyncio.gather(*(gathering.get(key_id) for key_id in key_ids * 3))
    assert answers == [*store.rows.values(), None] * 3
    assert store.calls == {"get_many": 1}
    assert await gathering.get(key_ids[0]) == store.rows[key_ids[0]]
    assert store.calls == {"get_many": 2}


@pytest.mark.parametrize(("ids", "round_trips"), [(4096, 1), (4097, 2), (10_000, 3)])
async def test_thousands_are_as_few_as_the_port_takes_at_once(
    store: SpoiltKeystore, ids: int, round_trips: int
) -> None:
    gathering = GatheringKeystore(store)
    answers = await asyncio.gather(*(gathering.get(f"{number:014x}") for number in range(ids)))
    assert answers == [None] * ids
    assert store.calls == {"get_many": round_trips}


async def test_a_row_that_does_not_parse_spoils_no_other(store: SpoiltKeystore) -> None:
    key_ids = list(store.rows)
    store.spoilt = frozenset({key_ids[17], key_ids[18], key_ids[99]})
    gathering = GatheringKeystore(store)
    with capture_logs() as lines:
        answers = await asyncio.gather(*(gathering.get(key_id) for key_id in key_ids), return_exceptions=True)
    for key_id, answer in zip(key_ids, answers, strict=True):
        assert (type(answer) is CorruptKeyError) if key_id in store.spoilt else answer == store.rows[key_id]
    assert store.calls["get_many"] < 40
    assert {(line["event"], line["key_id"]) for line in lines} == {("data_key_corrupt", each) for each in store.spoilt}


@pytest.mark.parametrize("error", [KeystoreUnavailableError("away"), RuntimeError("a defect")], ids=repr)
async def test_an_error_reaches_all_who_asked(store: SpoiltKeystore, error: Exception) -> None:
    store.fail_with = error
    gathering = GatheringKeystore(store)
    answers = await asyncio.gather(*(gathering.get(key_id) for key_id in store.rows), return_exceptions=True)
    assert {type(answer) for answer in answers} == {type(error)}
    assert store.calls == {"get_many": 1}


async def test_a_caller_that_leaves_takes_no_other_along(store: SpoiltKeystore) -> None:
    gathering = GatheringKeystore(store)
    store.gate = asyncio.Event()
    key_id = next(iter(store.rows))
    leaving, staying = [asyncio.create_task(gathering.get(key_id)) for _ in range(2)]
    await turns()
    leaving.cancel()
    await turns()
    store.gate.set()
    assert await staying == store.rows[key_id]
    assert leaving.cancelled()


async def test_close_ends_reads_and_those_who_wait_for_them(store: SpoiltKeystore) -> None:
    gathering = GatheringKeystore(store)
    store.gate = asyncio.Event()
    waiting = asyncio.create_task(gathering.get(next(iter(store.rows))))
    await turns()
    await gathering.close()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
