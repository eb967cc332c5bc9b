"""One clock for a fleet of processes: it stands still until the test moves it, and moves in all of them at once."""

import mmap
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_SECONDS = struct.Struct("=d")
_START = 1_000.0


class FleetClock:
    """Implements ``sidecar.keys.clock.Clock`` by eight bytes of a file that every process maps."""

    def __init__(self, path: Path) -> None:
        """Map the file, made at its start where there is none."""
        if not path.exists():
            path.write_bytes(_SECONDS.pack(_START))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _SECONDS.size)
        self.path = path

    def monotonic(self) -> float:
        """Seconds, from an arbitrary start."""
        seconds: float = _SECONDS.unpack_from(self._shared)[0]
        return seconds

    def now(self) -> datetime:
        """The time of day, aware, UTC."""
        return self.date_of(self.monotonic())

    @staticmethod
    def date_of(seconds: float) -> datetime:
        """The time of day at a moment of ``monotonic``."""
        return _EPOCH + timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass, for all."""
        _SECONDS.pack_into(self._shared, 0, self.monotonic() + seconds)
