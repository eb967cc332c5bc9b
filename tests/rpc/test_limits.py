"""Every limit is finite, refused with RESOURCE_EXHAUSTED, and leaves the sidecar serving."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sidekey.v1 import encryption_pb2 as pb
from sidekey.v1 import info_pb2

from tests.fakes.kms import FakeKms
from tests.rpc.batches import offsets, ragged, rows_of, values
from tests.rpc.running import Batch, Caller, Refusal, Running, refusal, running

MESSAGE = 65_536
LIMITS = {
    "server.maxMessageBytes": MESSAGE,
    "server.maxRows": 5_000,
    "server.maxCallsInFlight": 3,
    "server.maxRowsInFlight": 6_000,
    "server.maxBytesInFlight": 90_000,
}


def _limit(text: str) -> Refusal:
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", text)


@pytest.fixture
def kms() -> FakeKms:
    """To let calls wait for."""
    return FakeKms()


@pytest.fixture
async def narrow(tmp_path: Path, kms: FakeKms) -> AsyncIterator[Running]:
    """A sidecar with narrow limits; it must serve afterwards."""
    async with running(tmp_path, LIMITS, kms=kms) as it:
        yield it
        await it.caller.still_serves()
        assert await it.metric("sidekey_calls_in_flight") == 0
        assert await it.metric("sidekey_bytes_in_flight") == 0


@pytest.fixture
def caller(narrow: Running) -> Caller:
    """Calls that sidecar."""
    return narrow.caller


@pytest.mark.parametrize("method", ["Encrypt", "Decrypt"])
async def test_a_request_over_the_limit_is_refused_by_grpc_before_it_is_read(caller: Caller, method: str) -> None:
    request = b"\x2a\x80\x80\x04" + bytes(MESSAGE)
    refused = await refusal(caller.raw(f"/sidekey.v1.EncryptionService/{method}", request))
    text = f"SERVER: Received message larger than max ({len(request)} vs. {MESSAGE})"
    assert refused == Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "", text)


async def test_a_request_of_just_the_limit_is_read(caller: Caller) -> None:
    envelope = len(pb.DecryptRequest(column=ragged(bytes(60_000))).SerializeToString()) - 60_000
    request = pb.DecryptRequest(column=ragged(bytes(MESSAGE - envelope))).SerializeToString()
    assert len(request) == MESSAGE
    refused = await refusal(caller.raw("/sidekey.v1.EncryptionService/Decrypt", request))
    assert refused.reason == "DECRYPT_FAILED"


@pytest.mark.parametrize(
    "batch",
    [
        values(*[b"v"] * 2_000),
        values(bytes(MESSAGE - 40)),
        ragged(*[b"v"] * 2_000),
        pb.ColumnBatch(data=bytes(2_000), byte_width=1),
    ],
    ids=["values", "one value", "ragged", "fixed"],
)
async def test_an_answer_that_would_be_over_the_limit_is_refused_before_it_is_made(
    caller: Caller, batch: Batch
) -> None:
    refused = await refusal(caller.encrypt(batch))
    size = int(refused.text.split()[4])
    assert size > MESSAGE
    assert refused == _limit(f"the answer would have {size} bytes, and a message may have {MESSAGE}: send fewer rows")


@pytest.mark.parametrize(("overhead", "mode"), [(40, pb.MODE_RANDOMIZED), (24, pb.MODE_DETERMINISTIC)])
async def test_the_largest_answer_that_is_given_fits_closely(caller: Caller, overhead: int, mode: pb.Mode) -> None:
    most = (MESSAGE - 64) * 8 // (8 * (1 + overhead + 5) + 1) - 1
    answer = await caller.encrypt(values(*[b"v"] * most), mode=mode)
    assert 0.85 * MESSAGE < answer.ByteSize() <= MESSAGE
    refused = await refusal(caller.encrypt(values(*[b"v"] * (most + 2)), mode=mode))
    assert refused.reason == "LIMIT_EXCEEDED"


async def test_more_row_errors_than_fit_into_a_message_are_refused(caller: Caller) -> None:
    noise = pb.ColumnBatch(data=bytes(5_000), byte_width=1)
    refused = await refusal(caller.decrypt(noise, on_error=pb.ON_ERROR_REPORT))
    assert refused == _limit("5000 row errors do not fit into one message: send fewer rows")
    few = pb.ColumnBatch(data=bytes(3_000), byte_width=1)
    answer = await caller.decrypt(few, on_error=pb.ON_ERROR_REPORT)
    assert len(answer.row_errors) == 3_000
    assert answer.ByteSize() <= MESSAGE


@pytest.mark.parametrize(
    "batch",
    [
        pb.ValueBatch(values=[b""] * 5_001),
        pb.ColumnBatch(offsets=offsets(*[0] * 5_002)),
        pb.ColumnBatch(data=bytes(5_001), byte_width=1),
    ],
    ids=["values", "offsets", "byte_width"],
)
async def test_too_many_rows_are_refused_in_every_shape(caller: Caller, batch: Batch) -> None:
    text = "the batch has 5001 rows; one call may have at most 5000"
    assert await refusal(caller.encrypt(batch)) == _limit(text)
    assert await refusal(caller.decrypt(batch)) == _limit(text)


@pytest.mark.parametrize(
    ("waiting", "calls", "one_more", "what", "most"),
    [
        (values(b"v"), 3, values(b"v"), "calls", 3),
        (values(*[b""] * 1_000), 2, pb.ColumnBatch(offsets=offsets(*[0] * 4_002)), "rows", 6_000),
        (values(bytes(40_000)), 2, values(bytes(10_001)), "bytes", 90_000),
    ],
    ids=["calls", "rows", "bytes"],
)
async def test_what_is_in_flight_is_limited_and_refused_at_once(
    narrow: Running, kms: FakeKms, waiting: Batch, calls: int, one_more: Batch, what: str, most: int
) -> None:
    kms.gate = asyncio.Event()
    tasks = [asyncio.create_task(narrow.caller.encrypt(waiting)) for _ in range(calls)]
    await narrow.until_in_flight(calls)
    refused = await refusal(narrow.caller.decrypt(one_more, on_error=pb.ON_ERROR_REPORT))
    assert refused == _limit(f"too many {what} in flight: at most {most} at once; try again later")
    assert not any(task.done() for task in tasks)
    kms.gate.set()
    assert len(await asyncio.gather(*tasks)) == calls


async def test_a_batch_that_names_thousands_of_data_keys_is_refused_before_one_is_looked_up(tmp_path: Path) -> None:
    noise = b"".join(b"\xf8" + os.urandom(23) for _ in range(4_097))
    async with running(tmp_path) as it:
        await it.caller.still_serves()
        lookups = await it.metric("sidekey_cache_lookups_total", result="miss")
        column = pb.ColumnBatch(data=noise, byte_width=24)
        refused = await refusal(it.caller.decrypt(column, on_error=pb.ON_ERROR_REPORT))
        text = "the batch names 4097 data keys; one call may use at most 4096: send fewer rows"
        assert refused == _limit(text)
        assert await it.metric("sidekey_cache_lookups_total", result="miss") == lookups
        await it.caller.still_serves()


async def test_a_narrow_limit_of_rows_holds_for_small_batches_too(tmp_path: Path) -> None:
    async with running(tmp_path, {"server.maxRows": 8}) as it:
        text = "the batch has 9 rows; one call may have at most 8"
        for batch in (values(*[b"v"] * 9), ragged(*[b"v"] * 9)):
            assert await refusal(it.caller.encrypt(batch)) == _limit(text)
            assert await refusal(it.caller.decrypt(batch, on_error=pb.ON_ERROR_REPORT)) == _limit(text)
        await it.caller.still_serves()


async def test_metadata_over_16_kib_is_refused_without_its_values(caller: Caller) -> None:
    call: Any = caller.channel.unary_unary("/sidekey.v1.EncryptionService/Encrypt")
    refused = await refusal(call(b"", metadata=(("x-marked", "marked-value" * 2_000),)))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "marked-value" not in refused.text


async def test_the_limits_that_are_published_are_the_ones_that_hold(caller: Caller) -> None:
    info = await caller.info.GetServerInfo(info_pb2.GetServerInfoRequest())
    assert (info.limits.max_message_bytes, info.limits.max_rows) == (MESSAGE, 5_000)
    assert (info.limits.max_value_bytes, info.limits.max_associated_data_bytes) == (8 << 20, 64 << 10)
    assert rows_of(await caller.encrypt(values())) == []
