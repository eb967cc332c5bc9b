"""A kill at any moment loses nothing that was acknowledged, and leaves nothing that the next start stumbles over."""

import asyncio
import time
from pathlib import Path

import grpc

from tests.e2e.conftest import Serve
from tests.e2e.processes import Served
from tests.rpc.batches import rows_of, values
from tests.rpc.running import Caller, connected

ROUNDS = 20
KEYRINGS = 6


async def test_whatever_was_acknowledged_before_a_kill_decrypts_after_it(tmp_path: Path, served: Serve) -> None:
    """Each round's kill falls a little later into the making of first data keys; the next round is the restart."""
    environment = {"SIDEKEY_KEYRINGS": "*"}
    acknowledged: dict[bytes, bytes] = {}
    answered = []
    step_seconds = await _seconds_of_first_values(served(tmp_path / "measured", environment=environment)) / ROUNDS
    for round_ in range(ROUNDS):
        process = served(tmp_path / "data", environment=environment).serving()
        async with connected(process.target) as caller:
            await _check(caller, acknowledged)
            tasks = [asyncio.create_task(_first_value(caller, f"r{round_}-{n}")) for n in range(KEYRINGS)]
            await asyncio.sleep(round_ * step_seconds)
            process.kill()
            made = [pair for pair in await asyncio.gather(*tasks) if pair is not None]
        acknowledged.update(made)
        answered.append(len(made))
    process = served(tmp_path / "data", environment=environment).serving()
    async with connected(process.target) as caller:
        await _check(caller, acknowledged)
        await caller.still_serves()
    process.stop()
    # Some kills must have come before the first answer and some between answers, or nothing was tried.
    assert min(answered) < KEYRINGS
    assert max(answered) > 0


async def _seconds_of_first_values(process: Served) -> float:
    """How long a round lasts that nobody kills, half as long again: this machine may be busy."""
    async with connected(process.serving().target) as caller:
        began = time.monotonic()
        await asyncio.gather(*(_first_value(caller, f"measured-{n}") for n in range(KEYRINGS)))
        seconds = time.monotonic() - began
    process.stop()
    return 1.5 * seconds


async def _first_value(caller: Caller, keyring: str) -> tuple[bytes, bytes] | None:
    """A keyring's first value and its ciphertext; None where the process died before it answered."""
    try:
        (sealed,) = await caller.sealed(keyring.encode(), keyring=keyring)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
        return None
    assert sealed is not None
    return sealed, keyring.encode()


async def _check(caller: Caller, acknowledged: dict[bytes, bytes]) -> None:
    opened = rows_of(await caller.decrypt(values(*acknowledged)))
    assert opened == list(acknowledged.values())


async def test_a_kill_during_the_very_first_start_leaves_a_place_that_the_next_can_start_in(
    tmp_path: Path, served: Serve
) -> None:
    began = time.monotonic()
    served(tmp_path / "measured").serving().kill()
    start_seconds = time.monotonic() - began
    for part in (0.80, 0.86, 0.92, 0.96):
        process = served(tmp_path / "data")
        await asyncio.sleep(start_seconds * part)
        process.kill()
    process = served(tmp_path / "data").serving()
    async with connected(process.target) as caller:
        await caller.still_serves()
    process.stop()
