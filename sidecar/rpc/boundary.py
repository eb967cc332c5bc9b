"""The outermost interceptor: every unary call's status and metrics.

No exception's text passes it but those of our own taxonomy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import grpc
import structlog
from google.protobuf.message import DecodeError

from sidecar.errors import InvalidRequestError
from sidecar.metrics import Metrics
from sidecar.rpc.statuses import DETAILS_KEY, answer_to

log = structlog.get_logger(__name__)

if TYPE_CHECKING:  # grpc's classes are generic to type checkers alone
    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]
    Behaviour = Callable[[Any, Context], Awaitable[Any]]
    Parse = Callable[[bytes], Any]
    Serialize = Callable[[Any], bytes]


class Boundary(grpc.aio.ServerInterceptor):
    """Turns errors into statuses, and counts and times calls.

    Streaming calls (health Watch, reflection) are library code without our errors; they pass as they are.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._handlers: dict[str, Handler] = {}
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Return once no unary call runs."""
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of a call; an unknown method has none, and gRPC answers it with UNIMPLEMENTED."""
        known = self._handlers.get(handler_call_details.method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        # Only methods that exist get here, so callers cannot make labels.
        method = handler_call_details.method.rpartition("/")[2]
        # Without a deserializer the request arrives as bytes: gRPC would answer what does not parse with UNKNOWN and
        # the parser's own text.
        parse = cast("Parse", handler.request_deserializer)
        bounded: Handler = grpc.unary_unary_rpc_method_handler(
            self._bounded(cast("Behaviour", handler.unary_unary), parse, method),
            response_serializer=_unless_serialized(cast("Serialize", handler.response_serializer)),
        )
        self._handlers[handler_call_details.method] = bounded
        return bounded

    def _bounded(self, behaviour: Behaviour, parse: Parse, method: str) -> Behaviour:
        observe = self._metrics.call_seconds.labels(method).observe
        answered = self._metrics.calls.labels(method, "OK").inc

        async def call(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            self._began()
            try:
                response = await behaviour(_parsed(request, parse), context)
            except BaseException as error:
                observe(time.perf_counter() - started)
                await self._fail(error, context, method)
                raise
            finally:
                self._ended()
            observe(time.perf_counter() - started)
            answered()
            return response

        return call

    def _began(self) -> None:
        self._running += 1
        self._idle.clear()

    def _ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    async def _fail(self, error: BaseException, context: Context, method: str) -> None:
        """Count a failed call, and end it with a status of ours; returns only where the error is to go on as it is."""
        if isinstance(error, grpc.aio.AbortError):
            # Library code (health) has ended the call itself, with a text of its own.
            self._metrics.calls.labels(method, "ABORTED_BY_HANDLER").inc()
            return
        if not isinstance(error, Exception):
            # The caller has gone or its deadline has passed: nobody is there to be told.
            self._metrics.calls.labels(method, "CANCELLED").inc()
            return
        code, text, details = answer_to(error)
        self._metrics.calls.labels(method, code.name).inc()
        if code is grpc.StatusCode.INTERNAL:
            log.error("call_defect", method=method, exc_info=error)
        else:
            log.debug("call_failed", method=method, status=code.name, reason=getattr(error, "reason", ""))
        await context.abort(code, text, trailing_metadata=((DETAILS_KEY, details),))


def _parsed(request: bytes, parse: Parse) -> Any:
    """The message in the bytes; raises InvalidRequestError."""
    try:
        return parse(request)
    except (DecodeError, ValueError):  # ValueError: what protobuf's pure Python raises for text that is no UTF-8
        raise InvalidRequestError("the request is not a message of this method") from None


def _unless_serialized(serialize: Serialize) -> Serialize:
    """The stubs' serializer, for answers that are still messages."""
    return lambda answer: answer if isinstance(answer, bytes) else serialize(answer)
