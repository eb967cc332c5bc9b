"""TLS in front of a PostgreSQL server that was built without it, as a connection pooler would offer it."""

import asyncio
import ssl
import struct
from contextlib import suppress
from pathlib import Path

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""PostgreSQL's protocol, 'SSLRequest': a length and a code."""


class TlsProxy:
    """Takes connections on a free port of the loopback interface, with TLS or without, and passes them on to ``port``.

    ``connections`` has, for each that got as far as PostgreSQL's own protocol, whether it came with TLS.
    """

    def __init__(self, certificate: Path, key: Path, port: int) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._server_port = port
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.connections: list[bool] = []
        self.port = 0

    async def start(self) -> None:
        """Start taking connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop, and end all connections."""
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            # Whoever does not trust the certificate, or goes away, is no concern of the proxy's.
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            self._running.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(len(_SSL_REQUEST))
        encrypted = first == _SSL_REQUEST
        if encrypted:
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            first = await reader.readexactly(1)
        self.connections.append(encrypted)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        inner_writer.write(first)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, inner_writer))
                both.create_task(_copy(inner_reader, writer))
        except* OSError:
            # One side is gone, and the other is let go of.
            pass
        finally:
            inner_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()
