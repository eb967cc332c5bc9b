"""Stands between a keystore and DynamoDB, for what moto cannot do: throttle, deny, hang, lie, and lose answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, web

_TYPE = "application/x-amz-json-1.0"
_HEADERS = {"x-amzn-RequestId": "OF-ALL-ANSWERS-OF-DYNAMODB"}
VENDOR_TEXT = "vendor-text arn:aws:iam::123456789012:user/alice"

Forward = Callable[[], Awaitable[web.Response]]
Answer = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]


class DynamoDbProxy:
    """Forwards what ``answers`` does not answer.

    ``answers``: by operation (``GetItem``), what answers its next calls, one each; ``always``: what answers all calls
    of an operation after those. ``called``: the operations, and ``bodies`` what they said; ``arrived``: set by each.
    """

    def __init__(self, upstream: str, session: ClientSession) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.always: dict[str, Answer] = {}
        self.called: list[str] = []
        self.bodies: list[Any] = []
        self.arrived = asyncio.Event()
        self.url = ""
        self._upstream = upstream
        self._session = session

    def bodies_of(self, operation: str) -> list[Any]:
        """What the calls of an operation said."""
        return [body for called, body in zip(self.called, self.bodies, strict=True) if called == operation]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call."""
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        body = await request.read()
        self.called.append(operation)
        self.bodies.append(json.loads(body))
        self.arrived.set()

        async def forward() -> web.Response:
            async with self._session.post(self._upstream, data=body, headers=request.headers) as answer:
                content = await answer.read()
                return web.Response(status=answer.status, body=content, content_type=_TYPE, headers=_HEADERS)

        if waiting := self.answers.get(operation):
            return await waiting.pop(0)(request, forward)
        if always := self.always.get(operation):
            return await always(request, forward)
        return await forward()


@asynccontextmanager
async def serve(upstream: str) -> AsyncIterator[DynamoDbProxy]:
    """Serve on a free port of loopback until left."""
    async with ClientSession() as session:
        proxy = DynamoDbProxy(upstream, session)
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", proxy.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            await runner.cleanup()


def error(status: int, code: str, **more: Any) -> Answer:
    """An error as DynamoDB words it; nothing is forwarded."""

    async def answer(_request: web.Request, _forward: Forward) -> web.StreamResponse:
        body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": VENDOR_TEXT, **more}
        return web.json_response(body, status=status, content_type=_TYPE)

    return answer


def canceled(*reasons: str) -> Answer:
    """A transaction that was canceled; one reason for each of its items."""
    codes = [{"Code": reason, "Message": VENDOR_TEXT} for reason in reasons]
    return error(400, "TransactionCanceledException", CancellationReasons=codes)


def raw(status: int, body: bytes) -> Answer:
    """Whatever a broken proxy might say; nothing is forwarded."""

    async def answer(_request: web.Request, _forward: Forward) -> web.StreamResponse:
        return web.Response(status=status, body=body, content_type=_TYPE)

    return answer


def computed(answer_to: Callable[[Any], Any]) -> Answer:
    """An answer made of what the call said; nothing is forwarded."""

    async def answer(request: web.Request, _forward: Forward) -> web.StreamResponse:
        return web.json_response(answer_to(await request.json()), content_type=_TYPE, headers=_HEADERS)

    return answer


def changed(change: Callable[[Any], Any]) -> Answer:
    """The forwarded call's answer, changed."""

    async def answer(_request: web.Request, forward: Forward) -> web.StreamResponse:
        response = await forward()
        assert isinstance(response.body, bytes)
        return web.json_response(change(json.loads(response.body)), content_type=_TYPE, headers=_HEADERS)

    return answer


def after(happens: Callable[[], Awaitable[object]], then: Answer) -> Answer:
    """Something happens before the call is answered."""

    async def answer(request: web.Request, forward: Forward) -> web.StreamResponse:
        await happens()
        return await then(request, forward)

    return answer


async def forwarded(_request: web.Request, forward: Forward) -> web.StreamResponse:
    """As without this proxy."""
    return await forward()


async def lost(request: web.Request, forward: Forward) -> web.StreamResponse:
    """The work is done, and the connection breaks before the answer."""
    await forward()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def reset(request: web.Request, _forward: Forward) -> web.StreamResponse:
    """The connection breaks before anything is done."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(_request: web.Request, _forward: Forward) -> web.StreamResponse:
    """No answer for longer than any test waits."""
    await asyncio.sleep(3600)
    return web.Response()
