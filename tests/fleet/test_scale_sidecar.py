"""A sidecar whose keystore is as large as a large fleet makes it, and one through which ten thousand keyrings encrypt.

What is measured is printed (``pytest -n 0 -s``); with SIDEKEY_SOAK=1 a million data keys are there, and all ten
thousand keyrings are used.
"""

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.processes import Served
from tests.fleet.scale import Size, fill_sqlite
from tests.rpc.batches import rows_of, values
from tests.rpc.running import Caller, connected

SOAK = os.environ.get("SIDEKEY_SOAK") == "1"
LARGE = Size(10_000, 100 if SOAK else 10)
KEYRINGS = 10_000 if SOAK else 500
_AT_ONCE = 32
_ROWS_A_CALL = 1000
_ENVIRONMENT = {
    "SIDEKEY_KEYRINGS": "*",
    "SIDEKEY_SERVER_HTTP": "127.0.0.1:0",
    "SIDEKEY_CACHE_MAX_KEYS": "10001",
    # So long that no refresh falls into the test.
    "SIDEKEY_CACHE_TTL_SECONDS": "7200",
}


@dataclass(frozen=True)
class Measured:
    """Of one start."""

    start_seconds: float
    """Of the processors' time, which other processes do not change."""
    resident_bytes: int
    """After a value was encrypted and decrypted."""


def process_of(served: Served) -> Path:
    """What the kernel says of it."""
    return Path(f"/proc/{served.wait_for('serving')['pid']}")


def resident_bytes(served: Served) -> int:
    """The memory that a serving process has now."""
    status = (process_of(served) / "status").read_text()
    (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


def processor_seconds(served: Served) -> float:
    """What a serving process has needed so far."""
    fields = (process_of(served) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def started() -> Iterator[list[Served]]:
    """Processes that are ended with the test."""
    processes: list[Served] = []
    yield processes
    for process in processes:
        process.kill()


async def measured(started: list[Served], data_dir: Path) -> Measured:
    """Start a sidecar, use it, and end it."""
    served = Served(data_dir, environment=_ENVIRONMENT)
    started.append(served)
    served.serving()
    seconds = processor_seconds(served)
    async with connected(served.target) as caller:
        await caller.still_serves()
    found = Measured(seconds, resident_bytes(served))
    served.stop()
    return found


async def test_a_large_keystore_changes_neither_what_a_start_needs_nor_its_memory(
    tmp_path: Path, started: list[Served]
) -> None:
    data_dir = tmp_path / "data"
    await measured(started, data_dir)  # makes the keystore, the wrapping key and the keyring
    empty = await measured(started, data_dir)
    fill_sqlite(data_dir / "keystore.db", LARGE)
    large = await measured(started, data_dir)
    print(f"\nwith 1 data key {empty}\nwith {LARGE.data_keys:,} {large}")  # noqa: T201
    assert large.resident_bytes < 1.1 * empty.resident_bytes
    # Reading them all takes many times as long.
    assert large.start_seconds < 1.5 * empty.start_seconds


async def unwraps(served: Served) -> float:
    """Calls of the KMS so far."""
    address = served.wait_for("serving")["http"]
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        found = re.findall(
            r'^sidekey_kms_calls_total\{.*operation="unwrap".*\} (\S+)$', await answer.text(), re.MULTILINE
        )
    return sum(map(float, found))


async def encrypt_under_all(caller: Caller) -> list[bytes | None]:
    """One value under each keyring, some at once."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def encrypt(number: int) -> bytes | None:
        async with turns:
            (row,) = await caller.sealed(b"value", keyring=f"keyring-{number:05d}")
        return row

    return list(await asyncio.gather(*map(encrypt, range(KEYRINGS))))


@pytest.mark.timeout(600 if SOAK else 120)
async def test_thousands_of_keyrings_encrypt_through_one_sidecar_and_the_kms_hears_of_each_once(
    tmp_path: Path, started: list[Served]
) -> None:
    served = Served(tmp_path / "data", environment=_ENVIRONMENT)
    started.append(served)
    served.serving()
    async with connected(served.target) as caller:
        await caller.still_serves()
        before = resident_bytes(served)
        first = await encrypt_under_all(caller)
        grown = resident_bytes(served) - before
        asked = await unwraps(served)
        again = await encrypt_under_all(caller)
        for start in range(0, KEYRINGS, _ROWS_A_CALL):
            rows = (*first[start : start + _ROWS_A_CALL], *again[start : start + _ROWS_A_CALL])
            assert set(rows_of(await caller.decrypt(values(*rows)))) == {b"value"}
        assert await unwraps(served) == asked
    print(f"\n{KEYRINGS:,} data keys: {grown / KEYRINGS:,.0f} bytes each")  # noqa: T201
    # What one data key needs is some kilobytes; with a hundred of them a cache of 10,000 would be a gigabyte.
    assert grown < KEYRINGS * 50_000
    served.stop()
