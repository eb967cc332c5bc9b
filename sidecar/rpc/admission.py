"""How much may be under way at once: calls, rows and bytes. What is over the limit is refused, never queued.

gRPC's own ``maximum_concurrent_rpcs`` is of no use here: it counts calls, which may differ in size a million times.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sidecar.errors import LimitExceededError
from sidecar.metrics import Metrics


@dataclass(frozen=True, slots=True)
class InFlightLimits:
    """The most of each for the whole process."""

    calls: int
    rows: int
    data_bytes: int


class Admission:
    """Counts what is under way; for one event loop."""

    def __init__(self, limits: InFlightLimits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._calls = 0
        self._rows = 0
        self._bytes = 0

    @contextmanager
    def admit(self, rows: int, data_bytes: int) -> Iterator[None]:
        """Count a batch as under way until the block ends.

        Raises:
            LimitExceededError: there is no room now; the caller tries later, or with less in flight.
        """
        limits = self._limits
        for what, wanted, most in (
            ("calls", self._calls + 1, limits.calls),
            ("rows", self._rows + rows, limits.rows),
            ("bytes", self._bytes + data_bytes, limits.data_bytes),
        ):
            if wanted > most:
                raise LimitExceededError(f"too many {what} in flight: at most {most} at once; try again later")
        self._add(1, rows, data_bytes)
        try:
            yield
        finally:
            self._add(-1, -rows, -data_bytes)

    def _add(self, calls: int, rows: int, data_bytes: int) -> None:
        self._calls += calls
        self._rows += rows
        self._bytes += data_bytes
        self._metrics.calls_in_flight.set(self._calls)
        self._metrics.bytes_in_flight.set(self._bytes)
