"""How each fault is done: before a real HTTP API of AWS KMS, and to a real PostgreSQL server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import aiohttp
from aiohttp import web

from sidecar.keystore.factory import create
from tests.faults.expected import Fault
from tests.keystore.postgres import PostgresServer
from tests.kms.loopback import Answer, LoopbackKms, error, hang, plaintext, raw, reset, serve

_SLOW_SECONDS: Final = 2.0
"""Longer than the deadline of a call to the KMS."""
_DELAY_SECONDS: Final = 1.0
"""Of every piece of data in each direction: no transaction is done within the keystore's timeout."""


class Knob(Protocol):
    """Begins and ends a fault."""

    async def on(self) -> None:
        """Nothing that is begun from now on escapes it."""
        ...

    async def off(self) -> None:
        """All is well from now on."""
        ...


class FaultyKms:
    """moto's KMS with a knob before it."""

    def __init__(self, loopback: LoopbackKms, forward: Answer, answer: Answer | None) -> None:
        """``answer`` None: there is no fault."""
        self.loopback = loopback
        self._forward = forward
        self._answer = answer or forward

    async def on(self) -> None:
        """As ``Knob``."""
        self.loopback.answer = self._answer

    async def off(self) -> None:
        """As ``Knob``."""
        self.loopback.answer = self._forward

    async def on_after(self, calls: int) -> None:
        """As ``on``, and so many calls escape it."""
        self.loopback.first = [self._forward] * calls
        await self.on()

    def environment(self) -> dict[str, str]:
        """What leads a process there."""
        return {
            "AWS_ENDPOINT_URL_KMS": self.loopback.url,
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": "environment-secret-access-key",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@asynccontextmanager
async def faulty_kms(moto: str, fault: Fault) -> AsyncIterator[FaultyKms]:
    """A way to the KMS at ``moto``; it works until its knob is turned, and always for a fault of PostgreSQL."""
    async with aiohttp.ClientSession() as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = {name: request.headers[name] for name in ("X-Amz-Target", "Content-Type", "Authorization")}
            async with session.post(moto, data=await request.read(), headers=headers) as answer:
                return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

        async with serve(forward) as loopback:
            yield FaultyKms(loopback, forward, _answers(forward).get(fault))


def _answers(forward: Answer) -> dict[Fault, Answer]:
    another = plaintext(b"\x5a" * 32)

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(_SLOW_SECONDS)
        return await forward(request)

    async def lie(request: web.Request) -> web.StreamResponse:
        unwraps = request.headers["X-Amz-Target"].endswith("Decrypt")
        return await (another if unwraps else forward)(request)

    return {
        Fault.HANGS: hang,
        Fault.SLOW: slow,
        Fault.RESETS: reset,
        Fault.FAILS: error(500, "KMSInternalException"),
        Fault.THROTTLES: error(400, "ThrottlingException"),
        Fault.DENIES: error(400, "AccessDeniedException"),
        Fault.DISABLED: error(400, "DisabledException"),
        Fault.LIES: lie,
        Fault.GARBLES: raw(200, b"\x00garbage{"),
    }


class Stopped:
    """The server is stopped, and started again."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    async def on(self) -> None:
        """As ``Knob``."""
        self._server.stop()

    async def off(self) -> None:
        """As ``Knob``."""
        self._server.start()


class Restarted:
    """The server is stopped and started again before anybody is asked."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    async def on(self) -> None:
        """As ``Knob``."""
        self._server.restart()

    async def off(self) -> None:
        """As ``Knob``."""


class Delayed:
    """A TCP proxy before the server that lets each piece of data wait."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._delay_seconds = 0.0
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Take connections; returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def on(self) -> None:
        """As ``Knob``."""
        self._delay_seconds = _DELAY_SECONDS

    async def off(self) -> None:
        """As ``Knob``."""
        self._delay_seconds = 0.0

    async def stop(self) -> None:
        """End all connections."""
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, inner_writer))
                both.create_task(self._copy(inner_reader, writer))
        except* OSError:
            # One side is gone, and the other is let go of.
            pass
        finally:
            self._running.discard(task)
            inner_writer.close()
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64 * 1024):
            await asyncio.sleep(self._delay_seconds)
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def faulty_postgres(fault: Fault) -> AsyncIterator[tuple[str, Knob]]:
    """A server of its own, with the URL of a new keystore in it, and the knob."""
    server = PostgresServer()
    try:
        server.start()
        database = server.new_database()
        keystore = create(server.url(database))
        await keystore.open(upgrade=True)
        await keystore.close()
        if fault is not Fault.DELAYED:
            yield server.url(database), Stopped(server) if fault is Fault.STOPPED else Restarted(server)
            return
        proxy = Delayed(server.port)
        port = await proxy.start()
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/{database}", proxy
        finally:
            await proxy.stop()
    finally:
        server.remove()
