"""Another process that makes a keystore in DynamoDB and races for its generations.

Run as ``python -m tests.keystore.dynamodb_race URL``; it waits for a line on its standard input.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from sidecar.keystore.dynamodb import from_url
from tests.keystore.dynamodb import DynamoDb
from tests.keystore.records import record

ROOT = Path(__file__).parents[2]
GENERATIONS = 10


def start(place: DynamoDb) -> subprocess.Popen[str]:
    """Run it, with its standard input and output as text pipes."""
    command = [sys.executable, "-m", __name__, place.url]
    environment = {**os.environ, **place.environment}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


async def race(url: str) -> None:
    """Make or find the table, insert generations, and print the numbers of those that this process won."""
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    keystore = from_url(url, timeout_seconds=60.0)
    await keystore.open(upgrade=True)
    for generation in range(1, GENERATIONS + 1):
        if await keystore.insert(record(generation=generation)):
            print(f"won {generation}", flush=True)  # noqa: T201
    await keystore.close()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1]))
