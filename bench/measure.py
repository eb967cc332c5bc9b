"""Time: how long calls take and how many fit into a second. Knows no case and no server."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bench.results import Repeat, percentile

Call = Callable[[], Awaitable[object]]
"""One call, ready to be made; the answer is dropped."""
Contender = Callable[[float], Awaitable[Repeat]]
"""Something that can be measured for about so many seconds."""

WARM_UP = 0.2
"""How long a contender runs before its first repeat, as a part of one repeat."""


def over_grpc(call: Call, in_flight: int) -> Contender:
    """A contender that keeps so many calls under way; every call that was begun is waited for and counted.

    The first exception of a call is raised again, once no call is under way any more.
    """

    async def run(seconds: float) -> Repeat:
        latencies: list[float] = []
        begin = time.perf_counter()
        workers = (_call_until(begin + seconds, call, latencies) for _ in range(in_flight))
        for failure in await asyncio.gather(*workers, return_exceptions=True):
            if failure is not None:
                raise failure
        return _repeat(latencies, time.perf_counter() - begin)

    return run


def in_process(work: Callable[[], object]) -> Contender:
    """A contender that does the same work over and over on this thread; nothing else runs meanwhile."""

    async def run(seconds: float) -> Repeat:
        latencies: list[float] = []
        begin = now = time.perf_counter()
        while now < begin + seconds:
            work()
            start, now = now, time.perf_counter()
            latencies.append(now - start)
        return _repeat(latencies, now - begin)

    return run


async def interleave(
    contenders: Mapping[str, Contender], repeats: int, seconds: float
) -> Mapping[str, Sequence[Repeat]]:
    """Measure all contenders in turn, A B C A B C …, after a warm-up of each.

    What disturbs the machine for longer than a repeat then disturbs neighbours alike, and their ratio little.
    """
    for contender in contenders.values():
        await contender(seconds * WARM_UP)
    found: dict[str, list[Repeat]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            found[name].append(await contender(seconds))
    return found


async def _call_until(end: float, call: Call, latencies: list[float]) -> None:
    now = time.perf_counter()
    while now < end:
        await call()
        start, now = now, time.perf_counter()
        latencies.append(now - start)


def _repeat(latencies: list[float], seconds: float) -> Repeat:
    latencies.sort()
    return Repeat(len(latencies), seconds, percentile(latencies, 0.50), percentile(latencies, 0.99))
