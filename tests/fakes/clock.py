"""A clock that stands still until a test moves it."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Monotonic seconds and the time of day, moved together by ``advance``."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC), monotonic: float = 1_000.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def monotonic(self) -> float:
        """Seconds, from an arbitrary start."""
        return self._monotonic

    def now(self) -> datetime:
        """The time of day, aware, UTC."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; raises ``ValueError`` for time that runs backwards."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)

    def set_back(self, seconds: float) -> None:
        """An operator sets the time of day back; the monotonic clock knows nothing of it."""
        self._now -= timedelta(seconds=seconds)
