"""One run: with which contenders each case is measured, and in which order. Prints nothing and writes no file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.caller import Caller, ContenderFailedError
from bench.cases import B32, RAGGED, Case, Direction, Mode, Shape, Size, rows_of
from bench.inprocess import TINK_SIV, InProcess
from bench.measure import Contender, in_process, interleave
from bench.results import Measurement, PeerRate

IN_FLIGHT = (1, 4)
SIDECAR = "sidecar"
ECHO = "echo"
LOOP = "loop"
CLIENT = "client library"

CLIENT_CASE = Case(B32, 10_000, Shape.COLUMN, Mode.DETERMINISTIC, Direction.ENCRYPT)
"""The one case that the client library is measured on."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often; each repeat of a contender takes so many seconds."""

    repeats: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Runner:
    """Measures cases against the servers behind some callers."""

    callers: Sequence[Caller]
    effort: Effort
    step: Callable[[str], None]
    """Told what is measured next, once for each measurement and each row of peers."""
    client: Contender | None = None
    """``CLIENT_CASE`` through the client library, if that is to be measured."""
    in_process: InProcess = field(default_factory=InProcess)

    async def measure(self, cases: Sequence[Case]) -> list[Measurement]:
        """All cases, with each number of calls in flight."""
        return [await self._measure(case, in_flight) for case in cases for in_flight in IN_FLIGHT]

    async def peers(self, cases: Sequence[Case]) -> list[PeerRate]:
        """The ciphers in process, on every size and direction that the cases have."""
        found: list[PeerRate] = []
        for size, direction in peer_rows(cases):
            self.step(f"in process: {direction} {size.name}")
            found += await self.in_process.rates(size, direction, self.effort.repeats, self.effort.seconds)
        return found

    async def _measure(self, case: Case, in_flight: int) -> Measurement:
        self.step(f"{case.name}, {in_flight} in flight")
        contenders: dict[str, Contender] = {}
        failures: dict[str, str] = {}
        for caller in self.callers:
            if caller.server.name == LOOP and not is_loop_case(case):
                continue
            try:
                contenders[caller.server.name] = await caller.contender(case, in_flight)
            except ContenderFailedError as failed:
                failures[failed.contender] = failed.status
        contenders |= self._extra(case, in_flight)
        return await self._interleaved(case, in_flight, contenders, failures)

    def _extra(self, case: Case, in_flight: int) -> Mapping[str, Contender]:
        if is_tink_case(case) and in_flight > 1:
            values = rows_of(case.size, case.rows).values
            return {TINK_SIV: in_process(self.in_process.work(TINK_SIV, case.direction, values))}
        if case == CLIENT_CASE and in_flight == 1 and self.client is not None:
            return {CLIENT: self.client}
        return {}

    async def _interleaved(
        self, case: Case, in_flight: int, contenders: dict[str, Contender], failures: dict[str, str]
    ) -> Measurement:
        while True:
            try:
                repeats = await interleave(contenders, self.effort.repeats, self.effort.seconds)
            except ContenderFailedError as failed:
                failures[failed.contender] = failed.status
                del contenders[failed.contender]
            else:
                return Measurement(case, in_flight, repeats, failures)


def is_loop_case(case: Case) -> bool:
    """Whether the naive sidecar is measured beside the sidecar: values by the thousand."""
    return case.shape is Shape.VALUES and case.rows == 1_000 and case.size in (B32, RAGGED)


def is_tink_case(case: Case) -> bool:
    """Whether Tink's AES-SIV is measured beside the sidecar, on the same rows in the same stretch of time."""
    return case.shape is Shape.COLUMN and case.rows == 10_000 and case.size == B32 and case.mode is Mode.DETERMINISTIC


def peer_rows(cases: Sequence[Case]) -> Sequence[tuple[Size, Direction]]:
    """The sizes and directions that the ciphers in process are measured on."""
    return list(dict.fromkeys((case.size, case.direction) for case in cases))
