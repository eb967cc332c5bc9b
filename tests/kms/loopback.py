"""A small HTTP server that answers as AWS KMS would, for what moto cannot do: deny, throttle, hang, break, lie."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TYPE = "application/x-amz-json-1.1"


class LoopbackKms:
    """Answers every call by ``answer``; ``first`` are answered before that, one each. ``targets``: what was called."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.first: list[Answer] = []
        self.targets: list[str] = []
        self.bodies: list[bytes] = []
        self.called = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call."""
        self.targets.append(request.headers.get("X-Amz-Target", ""))
        self.bodies.append(await request.read())
        self.called.set()
        answer = self.first.pop(0) if self.first else self.answer
        return await answer(request)


@asynccontextmanager
async def serve(answer: Answer) -> AsyncIterator[LoopbackKms]:
    """Serve on a free port of loopback until left."""
    kms = LoopbackKms(answer)
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", kms.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kms.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield kms
    finally:
        await runner.cleanup()


def error(status: int, code: str, message: str = "vendor-text arn:aws:iam::123456789012:user/alice") -> Answer:
    """An error as KMS words it."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"__type": code, "message": message}, status=status, content_type=_TYPE)

    return answer


def raw(status: int, body: bytes) -> Answer:
    """Whatever a broken proxy might say."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, content_type=_TYPE)

    return answer


def plaintext(data: bytes) -> Answer:
    """A successful Decrypt."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"Plaintext": base64.b64encode(data).decode()}, content_type=_TYPE)

    return answer


def ciphertext(data: bytes, arn: str = "arn:aws:kms:eu-west-1:123456789012:key/1") -> Answer:
    """A successful Encrypt."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        body = {"CiphertextBlob": base64.b64encode(data).decode(), "KeyId": arn}
        return web.json_response(body, content_type=_TYPE)

    return answer


async def hang(_request: web.Request) -> web.StreamResponse:
    """No answer for longer than any test waits."""
    await asyncio.sleep(3600)
    return web.Response()


async def reset(request: web.Request) -> web.StreamResponse:
    """The connection breaks before an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
