"""Puts a run together: the server processes, a channel to each, the runner, and the memory before and after."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import sidekey

from bench import servers
from bench.caller import Caller
from bench.cases import Case
from bench.library import encrypt_array
from bench.results import Memory, Results
from bench.run import CLIENT_CASE, ECHO, Effort, Runner

_SETTLE_SECONDS = 1.0
"""How long servers that are ready are left alone before their idle memory is read."""


async def measure(
    chosen: Sequence[Case], too_long: Sequence[Case], effort: Effort, step: Callable[[str], None]
) -> Results:
    """Everything about the chosen cases, against servers that live only for it.

    Raises ``ServerFailedError`` where one does not come up, ``WrongAnswerError`` where one answers something wrong.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidekey-bench-")))
        running = [
            stack.enter_context(servers.sidecar(directory)),
            stack.enter_context(servers.echo(directory)),
            stack.enter_context(servers.echo(directory, loop=True)),
        ]
        await asyncio.sleep(_SETTLE_SECONDS)
        idle = {server.name: server.resident_bytes() for server in running}
        callers = [await stack.enter_async_context(Caller(server, exact=server.name != ECHO)) for server in running]
        client = await stack.enter_async_context(sidekey.AsyncClient(running[0].target))
        runner = Runner(callers, effort, step, encrypt_array(client, CLIENT_CASE))
        measured, peers = await runner.measure(chosen), await runner.peers(chosen)
        memory = {server.name: Memory(idle[server.name], server.resident_bytes()) for server in running}
    return Results(measured, peers, memory, too_long)


async def measure_peers(chosen: Sequence[Case], effort: Effort, step: Callable[[str], None]) -> Results:
    """The ciphers in process alone, on the values of the chosen cases; no server is started."""
    return Results([], await Runner([], effort, step).peers(chosen), {}, [])
