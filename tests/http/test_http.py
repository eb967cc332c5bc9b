"""The HTTP side, asked over a real socket."""

import socket
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.errors import StartupError
from sidecar.http import HttpServer
from sidecar.metrics import Metrics


class Checks:
    """A readiness with knobs."""

    def __init__(self) -> None:
        self.ready = True
        self.results: dict[str, str] = {"kms": "ok", "keystore": "ok"}
        self.failure: Exception | None = None

    def __call__(self) -> tuple[bool, Mapping[str, str]]:
        if self.failure is not None:
            raise self.failure
        return self.ready, self.results


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def session(metrics: Metrics, checks: Checks) -> AsyncIterator[aiohttp.ClientSession]:
    server = HttpServer(("127.0.0.1", 0), metrics, checks)
    host, port = await server.start()
    async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
        yield client
    await server.stop()
    await server.stop()  # A second time does nothing.


async def test_metrics_are_as_prometheus_reads_them_at_the_moment_of_the_scrape(
    session: aiohttp.ClientSession, metrics: Metrics
) -> None:
    metrics.calls.labels("Encrypt", "OK").inc(3)
    metrics.primary_age.labels("default").set_function(lambda: 12.5)
    async with session.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text = await answer.text()
    samples = {
        sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert samples["sidekey_calls_total"] == 3
    assert samples["sidekey_primary_age_seconds"] == 12.5


async def test_alive_does_not_depend_on_ready(session: aiohttp.ClientSession, checks: Checks) -> None:
    checks.ready, checks.results = False, {"kms": "unavailable"}
    async with session.get("/livez") as answer:
        assert (answer.status, await answer.text()) == (200, "ok")


@pytest.mark.parametrize(
    ("ready", "results", "status"),
    [
        (True, {"kms": "ok", "keystore": "ok"}, 200),
        # Data keys in the cache work without the KMS: the page says what is wrong, and that calls are answered.
        (True, {"kms": "unavailable", "keystore": "ok", "cachedKeys": "3"}, 200),
        (False, {"kms": "denied", "keystore": "ok", "cachedKeys": "0"}, 503),
    ],
)
async def test_the_status_says_whether_calls_are_answered_and_the_page_says_why(
    session: aiohttp.ClientSession, checks: Checks, ready: bool, results: dict[str, str], status: int
) -> None:
    checks.ready, checks.results = ready, results
    async with session.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (status, results)


async def test_a_check_that_fails_is_not_ready_and_its_text_stays_inside(
    session: aiohttp.ClientSession, checks: Checks
) -> None:
    checks.failure = ValueError("hunter2")
    async with session.get("/readyz") as answer:
        assert (answer.status, await answer.text()) == (500, "internal error")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/livez", 405), ("HEAD", "/metrics", 405), ("GET", "/", 404)]
)
async def test_nothing_but_get_of_three_pages(
    session: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with session.request(method, path) as answer:
        assert answer.status == status
        assert answer.headers["Server"] == "sidekey"


async def test_long_request_lines_are_refused(session: aiohttp.ClientSession) -> None:
    async with session.get("/livez?" + "x" * 4096) as answer:
        assert answer.status == 400


async def test_an_address_in_use_says_so_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer(("127.0.0.1", port), Metrics(), lambda: (True, {}))
        with pytest.raises(
            StartupError, match=f"cannot listen for HTTP on 127.0.0.1 port {port}: Address already in use"
        ):
            await server.start()
        await server.stop()


async def test_an_address_of_another_machine_says_so_at_the_start() -> None:
    server = HttpServer(("192.0.2.1", 0), Metrics(), lambda: (True, {}))
    # From Python 3.13 on asyncio drops the operating system's word for it.
    reasons = "(Cannot assign requested address|the host is no address of this machine)"
    with pytest.raises(StartupError, match=rf"cannot listen for HTTP on 192\.0\.2\.1 port 0: {reasons}"):
        await server.start()


async def test_a_stopped_server_lets_its_address_go() -> None:
    server = HttpServer(("127.0.0.1", 0), Metrics(), lambda: (True, {}))
    address = await server.start()
    await server.stop()
    again = HttpServer(address, Metrics(), lambda: (True, {}))
    assert await again.start() == address
    await again.stop()
