"""Letting an event loop do what it has to do, without real time."""

import asyncio

_FETCH = "sidekey-fetch"


async def turns(count: int = 20) -> None:
    """Let every task that is ready go on, some times over; tasks that wait for a gate stay where they are."""
    for _ in range(count):
        await asyncio.sleep(0)


async def fetches_done() -> None:
    """Wait until no fetch of a cache is under way."""
    while fetches := [task for task in asyncio.all_tasks() if task.get_name() == _FETCH]:
        await asyncio.wait(fetches)
        await turns()
