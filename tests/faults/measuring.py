"""A fault, done to two sidecars that serve, and what came of it: one cell of each situation."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults import settings
from tests.faults.breaking import FaultyKms, Knob
from tests.faults.expected import OK, TTL, Expected, Fault, Situation, expected
from tests.faults.plant import Plant, Process
from tests.faults.watching import Series, seconds_until, watch

_PATIENCE_SECONDS: Final = 25.0
_CALLS_BEFORE_THE_REWRAP: Final = 2
"""To learn the id of the new wrapping key; each data key that is rewrapped is three more."""
_ROLLED_OVER: Final = "rolled_over"


@dataclass
class Measured:
    """One cell, as it came out."""

    encrypt: tuple[str, ...]
    decrypt: tuple[str, ...]
    ready: bool
    late: int
    """Calls that succeeded although they were begun later than the setting of the cell allows."""
    stale: int
    """Calls that succeeded although they were begun later than the TTL allows where nothing is wrong."""
    slowest_seconds: float
    events: set[str] = field(default_factory=set)
    work: str = ""
    seconds_to_recover: float | None = None


class Cell:
    """The callers of one situation at one sidecar."""

    def __init__(self, plant: Plant, process: Process, situation: Situation, fault: Fault, keyring: str) -> None:
        self.declared: Expected = expected(situation, fault)
        self.situation = situation
        self._process = process
        self._lines = len(process.served.lines())
        caller, ledger = process.caller, plant.ledger
        self.encrypt = Series(lambda: ledger.encrypt(caller, keyring), self.declared.encrypt)
        self.decrypt = Series(lambda: ledger.decrypt(caller, keyring, first=3), self.declared.decrypt)

    @property
    def series(self) -> tuple[Series, Series]:
        """Both callers."""
        return self.encrypt, self.decrypt

    def events(self) -> set[str]:
        """What its sidecar has logged since this cell was made."""
        return self._process.events(self._lines)

    async def measured(self, began_at: float) -> Measured:
        """What was met while the fault lasts; it began at this moment of the monotonic clock."""

        async def as_declared() -> bool:
            ready, _ = await self._process.readyz()
            return ready is self.declared.ready

        await seconds_until(as_declared, time.monotonic(), _PATIENCE_SECONDS)
        ready, _ = await self._process.readyz()
        # What was unwrapped before the fault began ends so long after its beginning at the latest.
        end = settings.SHORT[self.declared.until] if self.declared.until else math.inf
        return Measured(
            self.encrypt.outcomes,
            self.decrypt.outcomes,
            ready,
            late=sum(one.ok_sent_after(began_at + end) for one in self.series),
            stale=min(one.ok_sent_after(began_at + settings.SHORT[TTL]) for one in self.series),
            slowest_seconds=max(one.slowest_seconds for one in self.series),
        )

    async def serves(self) -> bool:
        """Whether both calls succeed now, and the sidecar knows of no trouble."""
        outcomes = await asyncio.gather(*(one.once() for one in self.series))
        return set(outcomes) == {OK} and await self._process.is_well()


class Rollover(Cell):
    """The callers of the keyring that rolls over all the time."""

    def __init__(self, plant: Plant, fault: Fault) -> None:
        super().__init__(plant, plant.brief, Situation.ROLLING_OVER, fault, settings.ROLLING)
        self._ledger = plant.ledger
        self._key_before = b""
        goes_on = len(self.declared.encrypt) == 1
        self._meanwhile = {event for event in self.declared.events if goes_on or event != _ROLLED_OVER}

    def was_met(self) -> bool:
        """Whether the log says what became of a rollover while the fault lasts."""
        return self._meanwhile <= self.events()

    async def measured(self, began_at: float) -> Measured:
        """As every cell; the next primary is to be another than that of now."""
        self._key_before = self._ledger.newest_key(settings.ROLLING)
        return await super().measured(began_at)

    async def serves(self) -> bool:
        """As every cell, and with a new primary."""
        return await super().serves() and self._ledger.newest_key(settings.ROLLING) != self._key_before


class Rewrap(Cell):
    """``sidekey rewrap`` as a process, by a way of its own to the KMS, and the callers of the sidecar beside it."""

    def __init__(self, plant: Plant, fault: Fault, way: FaultyKms, plugin: dict[str, Any]) -> None:
        """``plugin``: the block of the new wrapping key."""
        super().__init__(plant, plant.steady, Situation.REWRAPPING, fault, settings.SHARED)
        self._plant = plant
        self._way = way
        self._plugin = plugin
        self._running: asyncio.Task[tuple[int, dict[str, Any], str]] | None = None
        self._all_rewrapped = False

    async def begin(self) -> None:
        """Start the process; the fault meets it soon."""
        await self._way.on_after(_CALLS_BEFORE_THE_REWRAP)
        self._running = asyncio.create_task(self._rewrap())

    def has_ended(self) -> bool:
        """Whether the process that met the fault has ended."""
        return self._running is not None and self._running.done()

    def events(self) -> set[str]:
        """What the process that met the fault has logged."""
        assert self._running is not None
        _, _, log = self._running.result()
        return {event for event in self.declared.events if event in log}

    async def measured(self, began_at: float) -> Measured:
        """As every cell, with what the process has done."""
        assert self._running is not None
        code, report, _ = await self._running
        found = await super().measured(began_at)
        found.work = _in_words(code, report)
        return found

    async def serves(self) -> bool:
        """As every cell, and the same command again rewraps everything."""
        await self._way.off()
        if not self._all_rewrapped:
            code, report, _ = await self._rewrap()
            counts = report["rewrapped"], report["unchanged"], report["failed"]
            self._all_rewrapped = (code, counts) == (0, (3, 0, 0))
        return self._all_rewrapped and await super().serves()

    async def _rewrap(self) -> tuple[int, dict[str, Any], str]:
        return await self._plant.rewrap(self._plugin, self._way.environment())


def _in_words(code: int, report: dict[str, Any]) -> str:
    """As ``Expected.work``; anything that differs is told as it is."""
    reasons = {failure["reason"] for failure in report["failures"]}
    if len(report["failures"]) != 3 or len(reasons) != 1 or report["rewrapped"]:
        return f"exits with {code}: {report}"
    return f"exits with {code}; data keys as they were, each listed with `{reasons.pop()}`"


async def measure(plant: Plant, knob: Knob, fault: Fault, rewrap: Rewrap | None) -> dict[Situation, Measured]:
    """The fault meets data keys in every situation at once; until all is settled, and then until all is well."""
    rollover = Rollover(plant, fault)
    cells = [
        Cell(plant, plant.brief, Situation.COLD, fault, settings.SHARED),
        Cell(plant, plant.steady, Situation.WARM, fault, settings.SHARED),
        Cell(plant, plant.brief, Situation.REFRESHING, fault, settings.REFRESHED),
        rollover,
        *([] if rewrap is None else [rewrap]),
    ]
    await knob.on()
    began_at = time.monotonic()
    if rewrap is not None:
        await rewrap.begin()
    series = [one for cell in cells for one in cell.series]
    await watch(series, lambda: rollover.was_met() and (rewrap is None or rewrap.has_ended()), _PATIENCE_SECONDS)
    found = {cell.situation: await cell.measured(began_at) for cell in cells}
    await knob.off()
    await _recover(cells, found)
    return found


async def _recover(cells: Sequence[Cell], found: dict[Situation, Measured]) -> None:
    ended_at = time.monotonic()
    times = await asyncio.gather(*(seconds_until(cell.serves, ended_at, _PATIENCE_SECONDS) for cell in cells))
    for cell, seconds in zip(cells, times, strict=True):
        found[cell.situation].seconds_to_recover = seconds
        found[cell.situation].events = cell.events()
