"""A sidecar in the test's own event loop, on real sockets, and raw calls to it by the contract's stubs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from sidekey.v1 import encryption_pb2 as pb
from sidekey.v1 import encryption_pb2_grpc, info_pb2_grpc, keyring_pb2, keyring_pb2_grpc

from sidecar.composition import Sidecar
from sidecar.config import load
from sidecar.keys.clock import Clock
from sidecar.keystore.port import Keystore
from sidecar.kms.port import Kms
from tests.rpc import batches

ENCRYPTION_SERVICE = "sidekey.v1.EncryptionService"
Batch = pb.ValueBatch | pb.ColumnBatch


@dataclass(frozen=True)
class Refusal:
    """How a call failed; ``reason`` is empty where gRPC itself refused it."""

    code: grpc.StatusCode
    reason: str
    text: str


async def refusal(call: Awaitable[object]) -> Refusal:
    """How the call fails; fails itself where it does not, or where its details contradict its status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    text = error.details() or ""
    raw = dict(iter(error.trailing_metadata())).get("grpc-status-details-bin")
    if raw is None:
        return Refusal(error.code(), "", text)
    assert isinstance(raw, bytes)
    status = Status.FromString(raw)
    assert (status.code, status.message) == (error.code().value[0], text)
    (detail,) = status.details
    info = ErrorInfo()
    assert detail.Unpack(info)
    assert info.domain == "sidekey"
    assert not info.metadata
    return Refusal(error.code(), info.reason, text)


class Caller:
    """Calls one sidecar. Keywords are the request's fields."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stub: Any = encryption_pb2_grpc.EncryptionServiceStub(channel)
        self.keyrings: Any = keyring_pb2_grpc.KeyringServiceStub(channel)
        self.info: Any = info_pb2_grpc.InfoServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def encrypt(self, batch: Batch | None, **fields: Any) -> pb.EncryptResponse:
        """Encrypt one batch; None sets none."""
        answer: pb.EncryptResponse = await self.stub.Encrypt(pb.EncryptRequest(**_batch(batch), **fields), timeout=20)
        return answer

    async def decrypt(self, batch: Batch | None, **fields: Any) -> pb.DecryptResponse:
        """Decrypt one batch; None sets none."""
        answer: pb.DecryptResponse = await self.stub.Decrypt(pb.DecryptRequest(**_batch(batch), **fields), timeout=20)
        return answer

    async def sealed(self, *rows: batches.Row, **fields: Any) -> list[batches.Row]:
        """The ciphertexts of values."""
        return batches.rows_of(await self.encrypt(batches.values(*rows), **fields))

    async def reencrypt(self, batch: Batch | None, **fields: Any) -> pb.ReencryptResponse:
        """Reencrypt one batch; None sets none."""
        answer: pb.ReencryptResponse = await self.stub.Reencrypt(
            pb.ReencryptRequest(**_batch(batch), **fields), timeout=20
        )
        return answer

    async def query_tokens(self, batch: Batch | None, **fields: Any) -> pb.QueryTokensResponse:
        """The query tokens of one batch; None sets none."""
        answer: pb.QueryTokensResponse = await self.stub.QueryTokens(
            pb.QueryTokensRequest(**_batch(batch), **fields), timeout=20
        )
        return answer

    async def rotate(self, keyring: str = "default") -> keyring_pb2.DataKey:
        """A new primary; for a sidecar that lets callers manage keys."""
        answer: keyring_pb2.RotateKeyringResponse = await self.keyrings.RotateKeyring(
            keyring_pb2.RotateKeyringRequest(name=keyring), timeout=20
        )
        return answer.primary

    async def raw(self, method: str, request: bytes) -> bytes:
        """Any bytes to any method."""
        call: Any = self.channel.unary_unary(method)
        answer: bytes = await call(request, timeout=20)
        return answer

    async def status(self, service: str = ENCRYPTION_SERVICE) -> str:
        """What the health service says."""
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    async def still_serves(self) -> None:
        """A good call, whatever came before it."""
        rows = (b"still", None, b"", b"serves")
        sealed = await self.sealed(*rows, associated_data=b"good")
        opened = await self.decrypt(batches.values(*sealed), associated_data=b"good")
        assert batches.rows_of(opened) == list(rows)

    async def serves_again(self) -> None:
        """A good call, as soon as what was heard of an outage is forgotten."""

        async def served() -> bool:
            try:
                await self.still_serves()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

        await until(served)


@dataclass(frozen=True)
class Running:
    """A sidecar that serves."""

    sidecar: Sidecar
    caller: Caller
    address: str
    http: str

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of an HTTP page."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.http}{path}") as answer:
            return answer.status, await answer.text()

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample by its name and labels."""
        _, text = await self.page("/metrics")
        families = text_string_to_metric_families(text)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    async def metric(self, name: str, **labels: str) -> float:
        """One sample; 0 where it was never counted."""
        return (await self.metrics()).get((name, frozenset(labels.items())), 0.0)

    async def until_in_flight(self, calls: int) -> None:
        """Wait until so many calls are being answered."""

        async def reached() -> bool:
            return await self.metric("sidekey_calls_in_flight") == calls

        await until(reached)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Caller]:
    """A channel of its own; messages of any length, so that the sidecar's limits are the ones that are met."""
    options = [
        ("grpc.default_authority", "localhost"),
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Caller(channel)


@asynccontextmanager
async def running(
    data_dir: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    kms: Kms | Mapping[str, Kms] | None = None,
    keystore: Keystore | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Running]:
    """A sidecar with its data directory, ended on leaving; ``settings`` by dotted path, over the file ``config``."""
    flags = {"dataDir": str(data_dir), "server.http": "127.0.0.1:0", **(settings or {})}
    sidecar = Sidecar(load(config, {}, flags), kms=kms, keystore=keystore, clock=clock)
    try:
        addresses, http = await sidecar.start()
        assert http is not None
        async with connected(addresses[0]) as caller:
            yield Running(sidecar, caller, addresses[0], http)
    finally:
        await sidecar.close()


async def until(ask: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait for what nobody tells of; ``TimeoutError`` where it does not come."""
    async with asyncio.timeout(seconds):
        while not await ask():  # noqa: ASYNC110 (asked of a sidecar from outside)
            await asyncio.sleep(0.01)


def _batch(batch: Batch | None) -> dict[str, Any]:
    if batch is None:
        return {}
    return {"values" if isinstance(batch, pb.ValueBatch) else "column": batch}
