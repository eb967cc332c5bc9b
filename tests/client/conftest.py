"""Fixtures of the client's tests: a reference server to turn knobs on, a target to talk to, and both clients as one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sidekey

from tests.client.managed import Managed, managed
from tests.client.reference import Reference, serve

Connect = Callable[..., Any]


class Blocking:
    """The async client as a blocking one, on a loop of its own, so that one test serves both."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = sidekey.AsyncClient(*args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: self._runner.run(call(*args, **kwargs))

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short: a Unix socket's path has 107 bytes at most."""
    return tmp_path_factory.mktemp("s") / "s"


@pytest.fixture
def reference(socket_path: Path) -> Iterator[Reference]:
    """A reference server of this test's own."""
    knobs = Reference()
    server = serve(f"unix://{socket_path}", knobs)
    yield knobs
    server.stop(None).wait()


@pytest.fixture
def address(reference: Reference, socket_path: Path) -> str:  # noqa: ARG001 (it is what listens there)
    """Where the reference server listens."""
    return f"unix://{socket_path}"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Any sidecar that keeps the contract: ``$SIDEKEY_TEST_TARGET`` if it is set, else a reference server."""
    given = os.environ.get("SIDEKEY_TEST_TARGET")
    if given:
        yield given
        return
    address = f"unix://{tmp_path_factory.mktemp('s') / 's'}"
    server = serve(address, Reference())
    yield address
    server.stop(None).wait()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """A real sidecar whose keyrings a test may rotate."""
    with managed(tmp_path_factory.mktemp("s") / "data") as it:
        yield it


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of either kind, all with blocking methods, and closes them."""
    made: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        made.append(sidekey.Client(*args, **kwargs) if request.param == "sync" else Blocking(*args, **kwargs))
        return made[-1]

    yield make
    for client in made:
        client.close()
