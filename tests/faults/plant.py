"""Two sidecars as processes on one keystore and one KMS.

The steady one keeps its data keys for minutes, the brief one for seconds.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.processes import Served
from tests.faults import settings
from tests.faults.watching import Ledger
from tests.rpc.running import Caller, connected


@dataclass(frozen=True)
class Process:
    """A sidecar that serves."""

    served: Served
    caller: Caller
    http: str
    session: aiohttp.ClientSession

    async def readyz(self) -> tuple[bool, dict[str, str]]:
        """Whether it is ready, and its checks."""
        async with self.session.get(f"http://{self.http}/readyz") as answer:
            return answer.status == 200, await answer.json()

    async def is_well(self) -> bool:
        """Whether it is ready and no part is in trouble."""
        ready, checks = await self.readyz()
        return ready and checks["kms"] == "ok" and checks["keystore"] == "ok"

    def events(self, since: int) -> set[str]:
        """What was logged after so many lines."""
        return {line["event"] for line in self.served.lines()[since:]}


@dataclass(frozen=True)
class Plant:
    """Both sidecars, and what their callers have."""

    directory: Path
    steady: Process
    brief: Process
    ledger: Ledger
    keystore_url: str
    environment: dict[str, str]

    async def rewrap(self, plugin: dict[str, Any], environment: dict[str, str]) -> tuple[int, dict[str, Any], str]:
        """``sidekey rewrap`` of the shared keyring under another wrapping key: exit code, report and log."""
        path = self.directory / "rewrap.yaml"
        path.write_text(json.dumps(settings.document({"awsKms": plugin}, self.keystore_url, short=False)))
        command = [sys.executable, "-m", "sidecar", "rewrap", "--config", str(path), "--keyring", settings.SHARED]
        process = await asyncio.create_subprocess_exec(
            *(*command, "--json", "--data-dir", str(self.directory / "rewrap")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Commands log nothing below errors of their own accord.
            env=self.environment | environment | {"SIDEKEY_LOG_LEVEL": "warning"},
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, json.loads(out), err.decode()


@asynccontextmanager
async def plant(
    directory: Path, plugin: dict[str, Any], keystore_url: str, environment: dict[str, str]
) -> AsyncIterator[Plant]:
    """Both serve, and every keyring has its data keys."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        served = []
        for name in ("steady", "brief"):
            document = settings.document({"awsKms": plugin}, keystore_url, short=name == "brief")
            served.append(stack.enter_context(_served(directory / name, document, environment)))
        processes = []
        for each in served:
            line = await asyncio.to_thread(each.wait_for, "serving")
            caller = await stack.enter_async_context(connected(each.target))
            processes.append(Process(each, caller, line["http"], session))
        steady, brief = processes
        ledger = Ledger()
        await _fill(steady, brief, ledger)
        yield Plant(directory, steady, brief, ledger, keystore_url, environment)


@contextlib.contextmanager
def _served(data_dir: Path, document: dict[str, Any], environment: dict[str, str]) -> Iterator[Served]:
    config = data_dir.with_suffix(".yaml")
    # JSON is YAML.
    config.write_text(json.dumps(document))
    served = Served(data_dir, "--config", str(config), environment=environment)
    try:
        yield served
    finally:
        served.kill()


async def _fill(steady: Process, brief: Process, ledger: Ledger) -> None:
    await ledger.encrypt(steady.caller, settings.SHARED)
    for _ in range(2):
        await steady.caller.rotate(settings.SHARED)
        await ledger.encrypt(steady.caller, settings.SHARED)
    for keyring in (settings.REFRESHED, settings.ROLLING):
        await ledger.encrypt(brief.caller, keyring)
