"""Two-stage stop: the first signal drains, the second ends the process; what was counted is kept."""

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2

from tests.e2e.conftest import KmsApi, Serve
from tests.e2e.processes import Served
from tests.rpc.batches import rows_of, values
from tests.rpc.running import ENCRYPTION_SERVICE, connected, refusal, until


def _values_encrypted(data_dir: Path) -> dict[str, int]:
    with closing(sqlite3.connect(data_dir / "keystore.db")) as database:
        return dict(database.execute("SELECT keyring, values_encrypted FROM data_keys"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_an_idle_sidecar_in_order_and_its_counts_are_kept(
    tmp_path: Path, served: Serve, number: signal.Signals
) -> None:
    process = served(tmp_path / "data").serving()
    async with connected(process.target) as caller:
        for _ in range(3):
            await caller.sealed(*[b"v"] * 100, None)
    began = time.monotonic()
    process.send(number)
    assert await asyncio.to_thread(process.exit_code) == 0
    assert time.monotonic() - began < 3
    assert [line["event"] for line in process.lines()][-2:] == ["draining", "stopped"]
    assert process.stdout == ""
    assert _values_encrypted(tmp_path / "data") == {"default": 300}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["kek", "keystore.db", "sidekey.sock.lock"]


@pytest.fixture
async def gate(kms_api: KmsApi) -> AsyncIterator[asyncio.Event]:
    """Once it is cleared, the KMS answers when it is set."""
    gate = asyncio.Event()
    gate.set()

    async def answer(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return await kms_api.forward(request)

    kms_api.loopback.answer = answer
    yield gate
    gate.set()


@pytest.fixture
async def waiting(tmp_path: Path, served: Serve, kms_api: KmsApi, gate: asyncio.Event) -> Served:
    """A sidecar whose next cold call waits at the gate."""
    environment = kms_api.environment() | {"SIDEKEY_KMS_DEADLINE_SECONDS": "20"}
    process = served(tmp_path / "data", "--config", str(kms_api.config), environment=environment)
    await asyncio.to_thread(process.wait_for, "serving")
    gate.clear()
    kms_api.loopback.called.clear()
    return process


async def test_sigterm_lets_running_calls_finish_and_takes_no_new_ones(
    waiting: Served, kms_api: KmsApi, gate: asyncio.Event, tmp_path: Path
) -> None:
    async with connected(waiting.target) as caller, connected(waiting.target) as latecomer:
        watch = caller.health.Watch(health_pb2.HealthCheckRequest(service=ENCRYPTION_SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert await latecomer.status() == "SERVING"
        running = asyncio.create_task(caller.encrypt(values(b"began before", b"the end")))
        await kms_api.loopback.called.wait()
        waiting.send(signal.SIGTERM)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING

        async def is_refused() -> bool:
            refused = await refusal(latecomer.encrypt(values(b"late")))
            return refused.code is grpc.StatusCode.UNAVAILABLE

        await until(is_refused, 2)
        async with connected(waiting.target) as newcomer:
            refused = await refusal(newcomer.encrypt(values(b"new")))
            assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert not running.done()
        gate.set()
        sealed = rows_of(await running)
        assert len(sealed) == 2
        assert await asyncio.to_thread(waiting.exit_code, 10) == 0
    assert _values_encrypted(tmp_path / "data") == {"default": 2}


async def test_a_second_sigterm_ends_the_process_at_once(waiting: Served, kms_api: KmsApi) -> None:
    async with connected(waiting.target) as caller:
        running = asyncio.create_task(refusal(caller.encrypt(values(b"v"))))
        await kms_api.loopback.called.wait()
        waiting.send(signal.SIGTERM)
        await asyncio.to_thread(waiting.wait_for, "draining")
        assert not running.done()
        began = time.monotonic()
        waiting.send(signal.SIGTERM)
        assert await asyncio.to_thread(waiting.exit_code, 10) == 130
        assert time.monotonic() - began < 2
        assert (await running).code is grpc.StatusCode.UNAVAILABLE
    assert waiting.lines()[-1]["event"] == "stopped_by_second_signal"


async def test_a_drain_has_an_end_and_what_runs_longer_is_cut_off(
    tmp_path: Path, served: Serve, kms_api: KmsApi, gate: asyncio.Event
) -> None:
    environment = kms_api.environment() | {"SIDEKEY_SERVER_DRAIN_SECONDS": "0.3", "SIDEKEY_KMS_DEADLINE_SECONDS": "20"}
    process = served(tmp_path / "data", "--config", str(kms_api.config), environment=environment)
    await asyncio.to_thread(process.wait_for, "serving")
    gate.clear()
    kms_api.loopback.called.clear()
    async with connected(process.target) as caller:
        running = asyncio.create_task(refusal(caller.encrypt(values(b"v"))))
        await kms_api.loopback.called.wait()
        process.send(signal.SIGTERM)
        assert await asyncio.to_thread(process.exit_code, 10) == 0
        assert (await running).code is grpc.StatusCode.UNAVAILABLE
    assert process.lines()[-1]["event"] == "stopped"
