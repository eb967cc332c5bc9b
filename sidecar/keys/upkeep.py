"""What goes on in the background: jobs that come round, and asking after what is in trouble."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from sidecar.keys.readiness import Readiness

_FIRST_PROBE_SECONDS = 0.5
_LONGEST_PROBE_SECONDS = 30.0
_READINESS_SECONDS = 0.25
_JITTER_FRACTION = 0.2

Job = Callable[[], Awaitable[None]]

log = structlog.get_logger(__name__)


class Upkeep:
    """Runs until it is cancelled; no failure of one round ends it.

    Args:
        jobs: with the mean time between two rounds of each; a fifth of it is jitter, so that a fleet is not in step.
        probe: asks the KMSs and the keystore how they are; done while there is trouble.
        on_ready: called when readiness changes.
    """

    def __init__(
        self,
        readiness: Readiness,
        jobs: Sequence[tuple[float, Job]],
        *,
        probe: Job,
        on_ready: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._readiness = readiness
        self._jobs = jobs
        self._probe = probe
        self._on_ready = on_ready
        self._told = False

    async def run(self) -> None:
        """All rounds side by side."""
        async with asyncio.TaskGroup() as group:
            for seconds, job in self._jobs:
                group.create_task(_every(seconds, job))
            group.create_task(self._probe_while_in_trouble())
            group.create_task(self._tell_readiness())

    async def _probe_while_in_trouble(self) -> None:
        wait = _FIRST_PROBE_SECONDS
        while True:
            await asyncio.sleep(wait)
            if self._readiness.in_trouble:
                await _survived(self._probe)
                wait = min(wait * 2, _LONGEST_PROBE_SECONDS)
            else:
                wait = _FIRST_PROBE_SECONDS

    async def _tell_readiness(self) -> None:
        self._told = self._readiness.ready  # the composition has told the first
        await _every(_READINESS_SECONDS, self._tell_change)

    async def _tell_change(self) -> None:
        ready = self._readiness.ready
        if ready is not self._told:
            await self._on_ready(ready)
            log.info("readiness", ready=ready, **self._readiness.checks())
            self._told = ready


async def _every(seconds: float, job: Job) -> None:
    while True:
        await asyncio.sleep(seconds * (1 - _JITTER_FRACTION * (random.random() - 0.5)))  # noqa: S311 (no secret)
        await _survived(job)


async def _survived(job: Job) -> None:
    """Do one round; a defect in it is logged and does not end the rounds."""
    try:
        await job()
    except Exception as error:
        log.exception("upkeep_defect", exc_info=error)
