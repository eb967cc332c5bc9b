"""A real sidecar whose keyrings a test may rotate, in a thread of the test's own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from sidekey.v1 import keyring_pb2 as pb
from sidekey.v1 import keyring_pb2_grpc

from tests.fakes.kms import FakeKms
from tests.rpc.running import running

_SECONDS = 60
SETTINGS: dict[str, Any] = {
    "server.manageKeys": True,
    "keyrings": {"*": {}, "closed": {"allowDeterministic": False}, "joined": {"defaultMode": "deterministic"}},
}


@dataclass(frozen=True)
class Managed:
    """Where the sidecar listens, its KMS with the knobs, and the loop that both run in."""

    address: str
    kms: FakeKms
    loop: asyncio.AbstractEventLoop

    def rotate(self, keyring: str) -> pb.DataKey:
        """A new primary."""
        with grpc.insecure_channel(self.address, options=[("grpc.default_authority", "localhost")]) as channel:
            stub = keyring_pb2_grpc.KeyringServiceStub(channel)
            answer: pb.RotateKeyringResponse = stub.RotateKeyring(pb.RotateKeyringRequest(name=keyring), timeout=20)
        return answer.primary


@contextmanager
def managed(data_dir: Path) -> Iterator[Managed]:
    """A sidecar that serves until the block ends."""
    kms = FakeKms()
    serves: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        async with running(data_dir, SETTINGS, kms=kms) as it:
            serves.set_result((it.address, asyncio.get_running_loop(), ended))
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if not serves.done():
                serves.set_exception(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    address, loop, ended = serves.result(_SECONDS)
    try:
        yield Managed(address, kms, loop)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(_SECONDS)
