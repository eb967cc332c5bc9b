"""What was measured, and the arithmetic on it. Pure: no clock, no terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.cases import Case


@dataclass(frozen=True, slots=True)
class Repeat:
    """One uninterrupted stretch of the same call over and over."""

    calls: int
    seconds: float
    p50: float
    """Half of the calls took at most this many seconds."""
    p99: float

    @property
    def calls_per_second(self) -> float:
        """All calls of the stretch over its whole time."""
        return self.calls / self.seconds


@dataclass(frozen=True, slots=True)
class Measurement:
    """One case with so many calls in flight, by contender; repeat i of each was measured side by side."""

    case: Case
    in_flight: int
    repeats: Mapping[str, Sequence[Repeat]]
    failures: Mapping[str, str]
    """The gRPC status by contender that did not answer; it has no repeats."""

    def rows_per_second(self, contender: str) -> float | None:
        """The median of the repeats; None where the contender was not measured."""
        repeats = self.repeats.get(contender)
        return median(r.calls_per_second for r in repeats) * self.case.rows if repeats else None

    def bytes_per_second(self, contender: str) -> float | None:
        """Plaintext bytes, at the rate of ``rows_per_second``; ragged values count with their mean length."""
        rows = self.rows_per_second(contender)
        return None if rows is None else rows * (self.case.size.shortest + self.case.size.longest) / 2

    def latency(self, contender: str) -> tuple[float, float] | None:
        """The p50 and the p99 of a call, in seconds: the median of the repeats' own."""
        repeats = self.repeats.get(contender)
        return (median(r.p50 for r in repeats), median(r.p99 for r in repeats)) if repeats else None

    def rate_ratio(self, contender: str, other: str) -> float | None:
        """How many times the rate of the other: the median of the ratios of neighbouring repeats."""
        pairs = self._pairs(contender, other)
        return median(a.calls_per_second / b.calls_per_second for a, b in pairs) if pairs else None

    def p50_ratio(self, contender: str, other: str) -> float | None:
        """How many times the p50 of the other: the median of the ratios of neighbouring repeats."""
        pairs = self._pairs(contender, other)
        return median(a.p50 / b.p50 for a, b in pairs) if pairs else None

    def _pairs(self, contender: str, other: str) -> list[tuple[Repeat, Repeat]]:
        return list(zip(self.repeats.get(contender, ()), self.repeats.get(other, ()), strict=False))


@dataclass(frozen=True, slots=True)
class PeerRate:
    """How many values a second a cipher does in process, one call a value."""

    peer: str
    size: str
    direction: str
    values_per_second: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of the sidecar: ready and never called, and after everything that the run asked of it."""

    idle: int
    after: int


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that one run found out."""

    measurements: Sequence[Measurement]
    peers: Sequence[PeerRate]
    memory: Mapping[str, Memory]
    too_long: Sequence[Case]
    """Cases of the grid whose messages would be over the limit."""

    def peer_rate(self, peer: str, size: str, direction: str) -> float | None:
        """Values a second of one cipher in process; None where it was not measured."""
        wanted = (peer, size, direction)
        return next((p.values_per_second for p in self.peers if (p.peer, p.size, p.direction) == wanted), None)

    def find(self, case: Case, in_flight: int) -> Measurement | None:
        """The measurement of a case; None where it was not measured."""
        return next((m for m in self.measurements if m.case == case and m.in_flight == in_flight), None)


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The smallest of the values, in rising order, that at least this fraction of them does not exceed."""
    rank = -int(-fraction * len(ordered) // 1)
    return ordered[max(rank, 1) - 1]
