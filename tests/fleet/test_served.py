"""``sidekey serve`` as several processes on one keystore, over gRPC and on real clocks: they roll over together.

Nothing here depends on how fast the machine is: what is checked holds at any pace.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.keystore.factory import create
from sidecar.keystore.port import DataKeyRecord, Keystore
from tests.e2e.processes import Served
from tests.fleet.conftest import KEYSTORES, Place
from tests.keystore.records import whole
from tests.rpc.batches import rows_of, values
from tests.rpc.running import Caller, connected

SIDECARS = 3
ROLLOVERS = 3
PERIOD = timedelta(seconds=1.5)
LEAD_FRACTION = 0.05
WRAPPING_KEY_BYTES = 32


@pytest.fixture
async def keystore(place: Place) -> AsyncIterator[Keystore]:
    """The keystore of the fleet, made before it as whoever runs a fleet does."""
    made = create(place[0], timeout_seconds=30)
    await made.open(upgrade=True)
    yield made
    await made.close()


@pytest.fixture
async def served(place: Place, keystore: Keystore, tmp_path: Path) -> AsyncIterator[list[Served]]:
    """The processes, each with a data directory of its own that holds the same wrapping key."""
    assert not await keystore.list_keys()
    config = tmp_path / "sidekey.yaml"
    # JSON is YAML.
    config.write_text(
        json.dumps(
            {
                "keystore": {"url": place[0], "timeoutSeconds": 30},
                "cache": {"ttlSeconds": 1.0},
                "schedule": {"dataKeyRollOverLength": PERIOD / timedelta(days=1)},
            }
        )
    )
    processes = []
    try:
        for number in range(SIDECARS):
            data_dir = tmp_path / str(number) / "data"
            data_dir.mkdir(parents=True, mode=0o700)
            (data_dir / "kek").touch(0o600)
            (data_dir / "kek").write_bytes(bytes(range(WRAPPING_KEY_BYTES)))
            processes.append(Served(data_dir, "--config", str(config), environment=place[1]))
        for process in processes:
            process.serving()
        yield processes
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("place", KEYSTORES, indirect=True)
async def test_sidecars_roll_over_together_and_decrypt_what_any_of_them_has_encrypted(
    served: list[Served], keystore: Keystore
) -> None:
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(connected(process.target)) for process in served]
        ciphertexts = await _encrypt_until(callers, keystore)
        for caller in callers:
            opened = rows_of(await caller.decrypt(values(*ciphertexts)))
            assert opened == list(ciphertexts.values())
    rows = whole(await keystore.list_keys(limit=4096))
    assert [row.generation for row in rows] == list(range(1, len(rows) + 1))
    assert {ciphertext[1:8].hex() for ciphertext in ciphertexts} <= {row.key_id for row in rows}
    for older, newer in itertools.pairwise(rows):
        # A second generation at one crossing would be a primary that was replaced before its time.
        assert newer.created_at - older.created_at >= PERIOD * (1 - LEAD_FRACTION)
    for process in served:
        process.stop()


async def _encrypt_until(callers: list[Caller], keystore: Keystore) -> dict[bytes, bytes]:
    """All encrypt side by side, until each has done so under a data key that is so many rollovers old."""
    ciphertexts: dict[bytes, bytes] = {}

    async def encrypt(number: int, caller: Caller) -> None:
        for count in range(1_000_000):
            value = f"{number}-{count}".encode()
            (ciphertext,) = await caller.sealed(value)
            assert ciphertext is not None
            ciphertexts[ciphertext] = value
            if _generation_of(ciphertext, whole(await keystore.list_keys(limit=4096))) > ROLLOVERS:
                return
            await asyncio.sleep(0.02)

    async with asyncio.timeout(90):
        await asyncio.gather(*(encrypt(number, caller) for number, caller in enumerate(callers)))
    return ciphertexts


def _generation_of(ciphertext: bytes, rows: Sequence[DataKeyRecord]) -> int:
    (generation,) = (row.generation for row in rows if row.key_id == ciphertext[1:8].hex())
    return generation
