"""The outermost interceptor: every unary call's status and metrics.

No exception's text passes it but those of our own taxonomy.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import grpc
import structlog

from sidecar.metrics import Metrics
from sidecar.rpc.statuses import DETAILS_KEY, answer_to

log = structlog.get_logger(__name__)

if TYPE_CHECKING:  # grpc's classes are generic to type checkers alone
    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]
    Behaviour = Callable[[Any, Context], Awaitable[Any]]


class Boundary(grpc.aio.ServerInterceptor):
    """Turns errors into statuses, and counts and times calls.

    Streaming calls (health Watch, reflection) are library code without our errors; they pass as they are.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of a call; an unknown method has none, and gRPC answers it with UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        # Only methods that exist get here, so callers cannot make labels.
        method = handler_call_details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(
            self._bounded(cast("Behaviour", handler.unary_unary), method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _bounded(self, behaviour: Behaviour, method: str) -> Behaviour:
        observe = self._metrics.call_seconds.labels(method).observe
        answered = self._metrics.calls.labels(method, "OK").inc

        async def call(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            try:
                response = await behaviour(request, context)
            except BaseException as error:
                observe(time.perf_counter() - started)
                await self._fail(error, context, method)
                raise
            observe(time.perf_counter() - started)
            answered()
            return response

        return call

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
