"""How fast calls may follow one another. Owns the rate and nothing else; measured by the event loop's clock."""

import asyncio
import math

_ROUNDING = 1e-6


class Pace:
    """A token bucket: so many turns a second, a second's worth of them at once after a rest; first come, first served.

    For one event loop.
    """

    def __init__(self, per_second: float) -> None:
        """``per_second``: more than 0; raises ``ValueError`` for less."""
        if not 0 < per_second < math.inf:
            raise ValueError("a pace must be more than 0 a second")
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._tokens = self._most
        self._counted_at: float | None = None
        self._first_in_line = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until it is one's turn. Who is cancelled while waiting takes nobody's turn away."""
        async with self._first_in_line:
            self._count()
            while self._tokens < 1 - _ROUNDING:
                await asyncio.sleep((1 - self._tokens) / self._per_second)
                self._count()
            self._tokens -= 1

    def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        since = now if self._counted_at is None else self._counted_at
        self._tokens = min(self._most, self._tokens + (now - since) * self._per_second)
        self._counted_at = now
