"""What goes on in the background: refreshing, expiring, flushing counts, and asking after what is in trouble."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from sidecar.keys.keyrings import Keyrings
from sidecar.keys.readiness import Readiness, probe
from sidecar.keys.usage import UsageCounts
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import Keystore

_FLUSH_SECONDS = 10.0
_FIRST_PROBE_SECONDS = 0.5
_LONGEST_PROBE_SECONDS = 30.0
_READINESS_SECONDS = 0.25

log = structlog.get_logger(__name__)


class Upkeep:
    """Runs until it is cancelled; no failure of one round ends it.

    Args:
        sweep_seconds: time between two sweeps of the cache, a small part of its TTL.
        probe_keyring: the keyring in whose name the KMS is asked how it is.
        on_ready: called when readiness changes.
    """

    def __init__(
        self,
        keyrings: Keyrings,
        usage: UsageCounts,
        readiness: Readiness,
        wrapping_keys: WrappingKeys,
        keystore: Keystore,
        *,
        sweep_seconds: float,
        probe_keyring: str,
        on_ready: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._keyrings = keyrings
        self._usage = usage
        self._readiness = readiness
        self._wrapping_keys = wrapping_keys
        self._keystore = keystore
        self._sweep_seconds = sweep_seconds
        self._probe_keyring = probe_keyring
        self._on_ready = on_ready
        self._told = False

    async def run(self) -> None:
        """All rounds side by side."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._sweep_seconds, self._sweep))
            group.create_task(self._every(_FLUSH_SECONDS, self._usage.flush))
            group.create_task(self._probe_while_in_trouble())
            group.create_task(self._tell_readiness())

    async def _sweep(self) -> None:
        self._keyrings.sweep()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await _survived(work)

    async def _probe_while_in_trouble(self) -> None:
        wait = _FIRST_PROBE_SECONDS
        while True:
            await asyncio.sleep(wait)
            if self._readiness.in_trouble:
                await _survived(self._probe)
                wait = min(wait * 2, _LONGEST_PROBE_SECONDS)
            else:
                wait = _FIRST_PROBE_SECONDS

    async def _probe(self) -> None:
        await probe(self._wrapping_keys, self._keystore, self._probe_keyring)

    async def _tell_readiness(self) -> None:
        self._told = self._readiness.ready  # the composition has told the first
        await self._every(_READINESS_SECONDS, self._tell_change)

    async def _tell_change(self) -> None:
        ready = self._readiness.ready
        if ready is not self._told:
            await self._on_ready(ready)
            log.info("readiness", ready=ready, **self._readiness.checks())
            self._told = ready


async def _survived(work: Callable[[], Awaitable[None]]) -> None:
    """Do one round; a defect in it is logged and does not end the rounds."""
    try:
        await work()
    except Exception as error:
        log.exception("upkeep_defect", exc_info=error)
