"""Other processes that use a keystore: run as ``python -m tests.keystore.processes WHAT PATH``."""

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path

from sidecar.errors import SidekeyError
from sidecar.keystore.factory import create
from tests.keystore.records import record

ROOT = Path(__file__).parents[2]
RACE_GENERATIONS = 25


def start(what: str, path: Path) -> subprocess.Popen[str]:
    """Run one of the programs below, with its standard input and output as text pipes."""
    command = [sys.executable, "-m", __name__, what, str(path)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )


async def race(path: Path) -> None:
    """Wait for a line, open, then insert 25 generations and print the numbers of those that this process won."""
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    keystore = create(f"sqlite:///{path}")
    await keystore.open()
    for generation in range(1, RACE_GENERATIONS + 1):
        if await keystore.insert(record(generation=generation)):
            print(generation, flush=True)  # noqa: T201
    await keystore.close()


async def flood(path: Path) -> None:
    """Insert generations until killed, printing each after it is acknowledged."""
    keystore = create(f"sqlite:///{path}")
    await keystore.open()
    generation = 1
    while True:
        if await keystore.insert(record(generation=generation)):
            print(generation, flush=True)  # noqa: T201
        generation += 1


async def unprivileged(path: Path) -> None:
    """Open as a user whom file modes bind (root too: it gives up its capabilities) and print what that raises."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    keystore = create(f"sqlite:///{path}")
    try:
        await keystore.open()
    except SidekeyError as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201
    else:
        await keystore.close()
        print("opened", flush=True)  # noqa: T201


if __name__ == "__main__":
    programs = {"race": race, "flood": flood, "unprivileged": unprivileged}
    asyncio.run(programs[sys.argv[1]](Path(sys.argv[2])))
