"""Time as an argument: what measures spans, and what dates data keys."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock for spans and a wall clock for dates."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def now(self) -> datetime:
        """The date and time, aware, in UTC; may be set back by an operator."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def now(self) -> datetime:
        """The date and time, aware, in UTC."""
        return datetime.now(UTC)
