"""What passes the outermost interceptor: our statuses, no foreign text, and nothing left behind by who goes away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from sidekey.v1 import encryption_pb2 as pb

from sidecar.keystore.port import DataKeyRecord
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.rpc.batches import ragged, rows_of, values
from tests.rpc.logs import logged
from tests.rpc.running import Refusal, Running, refusal, running, until

MARKED = "marked-text-of-a-foreign-exception"
INTERNAL = Refusal(grpc.StatusCode.INTERNAL, "INTERNAL", "internal error")


class BrokenKeystore(MemoryKeystore):
    """A keystore with a defect, which it meets far down."""

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        if keyring == "broken":
            _deep_down()
        return await super().primary(keyring)


def _deep_down() -> None:
    nothing: dict[str, str] = {}
    try:
        nothing[MARKED]
    except KeyError as error:
        raise ZeroDivisionError(MARKED) from error


async def test_a_defect_is_internal_error_and_nothing_else_and_the_log_says_where(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"keyrings": {"*": {}}}
    with logged() as lines:
        async with running(tmp_path, settings, kms=FakeKms(), keystore=BrokenKeystore()) as it:
            assert await refusal(it.caller.encrypt(values(b"v"), keyring="broken")) == INTERNAL
            assert await it.metric("sidekey_calls_total", method="Encrypt", status="INTERNAL") == 1
            await it.caller.still_serves()
            assert MARKED not in (await it.page("/metrics"))[1]
    (defect,) = lines.of("call_defect")
    assert (defect["level"], defect["method"]) == ("error", "Encrypt")
    assert defect["exception"]["type"] == "ZeroDivisionError"
    assert defect["exception"]["causes"] == ["KeyError"]
    assert any(frame.startswith("rpc/test_boundary.py:") for frame in defect["exception"]["frames"])
    assert MARKED not in lines.text


async def test_a_kms_providers_defect_reads_as_an_outage_without_its_text(tmp_path: Path) -> None:
    kms = FakeKms()
    with logged() as lines:
        async with running(tmp_path, kms=kms) as it:
            kms.fail_wrap_with = RuntimeError(MARKED)
            refused = await refusal(it.caller.encrypt(values(b"v")))
            kms.fail_wrap_with = None
            await it.caller.serves_again()
    text = "the KMS provider fake failed (RuntimeError)"
    assert refused == Refusal(grpc.StatusCode.UNAVAILABLE, "KMS_UNAVAILABLE", text)
    assert lines.of("kms_provider_defect")[0]["error"] == "RuntimeError"
    assert MARKED not in lines.text


@pytest.fixture
def kms() -> FakeKms:
    """With a gate that calls wait at."""
    made = FakeKms()
    made.gate = asyncio.Event()
    made.gate.set()
    return made


@pytest.fixture
async def waiting(tmp_path: Path, kms: FakeKms) -> AsyncIterator[Running]:
    """A sidecar whose every cold call waits at the KMS's gate; it must have nothing under way afterwards."""
    async with running(tmp_path, {"kms.deadlineSeconds": 30.0}, kms=kms) as it:
        assert kms.gate is not None
        kms.gate.clear()
        yield it
        await it.until_in_flight(0)
        assert await it.metric("sidekey_bytes_in_flight") == 0
        kms.gate.set()
        await it.caller.still_serves()


async def test_a_cancelled_call_leaves_nothing_behind_and_its_fetch_serves_the_next(
    waiting: Running, kms: FakeKms
) -> None:
    wraps = kms.wraps
    calls = [waiting.caller.stub.Encrypt(pb.EncryptRequest(values=values(b"v" * 1000))) for _ in range(20)]
    await waiting.until_in_flight(20)
    async with asyncio.timeout(10):
        while kms.running == 0:  # noqa: ASYNC110 (the keystore is asked first, in a thread)
            await asyncio.sleep(0.005)
    assert await waiting.metric("sidekey_bytes_in_flight") == 20_000
    for call in calls:
        call.cancel()
    await waiting.until_in_flight(0)
    assert await waiting.metric("sidekey_calls_total", method="Encrypt", status="CANCELLED") == 20
    assert kms.running == 1
    assert kms.gate is not None
    kms.gate.set()
    await waiting.caller.still_serves()
    assert kms.wraps == wraps + 1


async def test_a_short_deadline_is_kept_and_leaves_nothing_behind(waiting: Running) -> None:
    request = pb.EncryptRequest(column=ragged(b"v"))
    calls = [waiting.caller.stub.Encrypt(request, timeout=0.05) for _ in range(20)]
    for refused in [await refusal(call) for call in calls]:
        assert (refused.code, refused.text) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


async def test_a_caller_that_hangs_up_leaves_nothing_behind(waiting: Running) -> None:
    async with grpc.aio.insecure_channel(waiting.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        method: Any = channel.unary_unary("/sidekey.v1.EncryptionService/Encrypt")
        call = method(pb.EncryptRequest(values=values(b"v")).SerializeToString())
        task = asyncio.ensure_future(_broken_off(call))
        await waiting.until_in_flight(1)
    await task
    await waiting.until_in_flight(0)


async def _broken_off(call: Awaitable[object]) -> None:
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call


async def test_storms_of_cancelled_calls_leave_no_call_and_no_byte(sidecar: Running) -> None:
    """Against a warm cache calls are cancelled at any stage: on the way in, while they work, on the way out."""
    request = pb.EncryptRequest(column=ragged(*[b"value"] * 2_000))
    for storm in range(20):
        calls = [sidecar.caller.stub.Encrypt(request) for _ in range(5)]
        await asyncio.sleep(storm / 2_000)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def all_counted() -> bool:
        samples = await sidecar.metrics()
        in_flight = samples["sidekey_calls_in_flight", frozenset()] + samples["sidekey_bytes_in_flight", frozenset()]
        return in_flight == 0

    await until(all_counted)
    answer = await sidecar.caller.encrypt(ragged(b"after"))
    assert rows_of(await sidecar.caller.decrypt(answer.column)) == [b"after"]
