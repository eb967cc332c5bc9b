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
        self._calls = 0
        self._rows = 0
        self._bytes = 0
        # Read when they are scraped, so that a call does not pay for them.
        metrics.calls_in_flight.set_function(lambda: self._calls)
        metrics.bytes_in_flight.set_function(lambda: self._bytes)

    @contextmanager
    def admit(self, rows: int, data_bytes: int) -> Iterator[None]:
        """Count a batch as under way until the block ends.

        Raises:
            LimitExceededError: there is no room now; the caller tries later, or with less in flight.
        """
        limits = self._limits
        if self._calls >= limits.calls:
            raise _full("calls", limits.calls)
        if self._rows + rows > limits.rows:
            raise _full("rows", limits.rows)
        if self._bytes + data_bytes > limits.data_bytes:
            raise _full("bytes", limits.data_bytes)
        self._add(1, rows, data_bytes)
        try:
            yield
        finally:
            self._add(-1, -rows, -data_bytes)

    def _add(self, calls: int, rows: int, data_bytes: int) -> None:
        self._calls += calls
        self._rows += rows
        self._bytes += data_bytes


def _full(what: str, most: int) -> LimitExceededError:
    return LimitExceededError(f"too many {what} in flight: at most {most} at once; try again later")
