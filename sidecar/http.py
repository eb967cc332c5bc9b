"""The HTTP side, for Prometheus and for probes: GET /metrics, /livez and /readyz, and nothing else."""

import os
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from sidecar.errors import StartupError
from sidecar.metrics import Metrics

_log = structlog.get_logger("sidecar.http")

Readiness = Callable[[], tuple[bool, Mapping[str, str]]]
"""Whether calls can be answered, and named checks in a word or two each, for people. Must not block."""

_MAX_LINE_BYTES = 2048
_MAX_HEADERS = 64
_IDLE_SECONDS = 75.0
_STOP_SECONDS = 1.0


class HttpServer:
    """Serves the metrics, liveness and readiness of one sidecar on one address."""

    def __init__(
        self,
        address: tuple[str, int],
        metrics: Metrics,
        readiness: Readiness,
    ) -> None:
        self._address = address
        self._metrics = metrics
        self._readiness = readiness
        self._runner: web.AppRunner | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; returns the bound host and port. Raises ``StartupError`` where the address cannot be had."""
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_HEADERS,
            keepalive_timeout=_IDLE_SECONDS,
            shutdown_timeout=_STOP_SECONDS,
        )
        await runner.setup()
        host, port = self._address
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise StartupError(f"cannot listen for HTTP on {host} port {port}: {_reason(error)}") from None
        self._runner = runner
        bound = runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def stop(self) -> None:
        """Close the address and the connections; may be called twice, and without ``start``."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=1024, middlewares=[_keep_defects_inside])
        application.router.add_get("/metrics", self._metrics_page, allow_head=False)
        application.router.add_get("/livez", _live_page, allow_head=False)
        application.router.add_get("/readyz", self._ready_page, allow_head=False)
        application.on_response_prepare.append(_leave_out_versions)
        return application

    async def _metrics_page(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _ready_page(self, _request: web.Request) -> web.Response:
        ready, checks = self._readiness()
        return web.json_response(dict(checks), status=200 if ready else 503)


async def _live_page(_request: web.Request) -> web.Response:
    # That the event loop got here is the answer. A KMS outage must not restart a sidecar that serves from its cache.
    return web.Response(text="ok")


async def _leave_out_versions(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "sidekey"


@web.middleware
async def _keep_defects_inside(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer 500 and nothing else where a handler fails; aiohttp's own answer may hold a traceback."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:  # noqa: BLE001 (the outermost place that can answer)
        _log.error("http_handler_failed", exc_info=error)
        return web.Response(status=500, text="internal error")


def _reason(error: OSError) -> str:
    """The operating system's word for it; asyncio's own text repeats the address."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else "the host is no address of this machine"
