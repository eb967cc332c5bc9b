"""Other processes that use a keystore: run as ``python -m tests.keystore.processes WHAT URL``."""

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path

from sidecar.errors import SidekeyError
from sidecar.keystore.factory import create
from sidecar.keystore.sql import SqlKeystore
from tests.keystore.records import record

ROOT = Path(__file__).parents[2]
RACE_GENERATIONS = 25


def start(what: str, url: str) -> subprocess.Popen[str]:
    """Run one of the programs below, with its standard input and output as text pipes."""
    command = [sys.executable, "-m", __name__, what, url]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def start_together(what: str, url: str, count: int) -> list[list[str]]:
    """Run as many programs that wait for a line, let them go at once, and return what each printed after that."""
    started = [start(what, url) for _ in range(count)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=60)[0].splitlines() for process in started]
    assert [process.returncode for process in started] == [0] * count
    return printed


async def race(url: str) -> None:
    """Wait for a line, open, then insert 25 generations and print the numbers of those that this process won."""
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    keystore = create(url)
    await keystore.open(upgrade=True)
    for generation in range(1, RACE_GENERATIONS + 1):
        if await keystore.insert(record(generation=generation)):
            print(generation, flush=True)  # noqa: T201
    await keystore.close()


async def upgrade(url: str) -> None:
    """Wait for a line, upgrade, and print the version of the schema."""
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    keystore = create(url)
    assert isinstance(keystore, SqlKeystore)
    await keystore.open(upgrade=True)
    print(await keystore.schema_version(), flush=True)  # noqa: T201
    await keystore.close()


async def flood(url: str) -> None:
    """Insert generations until killed, printing each after it is acknowledged."""
    keystore = create(url)
    await keystore.open(upgrade=True)
    generation = 1
    while True:
        if await keystore.insert(record(generation=generation)):
            print(generation, flush=True)  # noqa: T201
        generation += 1


async def unprivileged(url: str) -> None:
    """Open as a user whom file modes bind (root too: it gives up its capabilities) and print what that raises."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    keystore = create(url)
    try:
        await keystore.open(upgrade=True)
    except SidekeyError as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201
    else:
        await keystore.close()
        print("opened", flush=True)  # noqa: T201


if __name__ == "__main__":
    programs = {"race": race, "upgrade": upgrade, "flood": flood, "unprivileged": unprivileged}
    asyncio.run(programs[sys.argv[1]](sys.argv[2]))
