"""A sidecar on its embedded default for each test; whatever a test did to it, it must serve afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rpc.running import Caller, Running, running


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Running]:
    """On a Unix socket, with its HTTP side on a free port; keyrings of any name may be made."""
    async with running(tmp_path / "data", {"keyrings": {"*": {}}}) as it:
        yield it
        await it.caller.still_serves()
        assert await it.metric("sidekey_calls_in_flight") == 0
        assert await it.metric("sidekey_bytes_in_flight") == 0


@pytest.fixture
def caller(sidecar: Running) -> Caller:
    """Calls that sidecar."""
    return sidecar.caller
