"""When to try again: decisions only; who calls this sends and sleeps."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import grpc

from sidekey._status import Failure, error_of
from sidekey.errors import SidekeyError

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class Attempts:
    """The attempts at one message, which share one deadline.

    Only UNAVAILABLE is tried again: encrypting or decrypting twice harms nothing, and every other status is an answer.
    An outage whose last attempt runs out of time is told by what was last heard of it, not by the clock.
    """

    def __init__(
        self,
        target: str,
        timeout: float,
        *,
        timer: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``timeout`` in seconds, from now; ``jitter`` gives numbers in [0, 1)."""
        self._target = target
        self._timer = timer
        self._jitter = jitter
        self._started = timer()
        self._deadline = self._started + timeout
        self._made = 0
        self._outage: Failure | None = None

    def begin(self) -> float:
        """Count an attempt; its own timeout is all the time that is left, in seconds."""
        self._made += 1
        return max(self._deadline - self._timer(), 0.001)

    def pause(self, failure: Failure) -> float:
        """How long to wait before the next attempt, in seconds.

        Raises the typed error where there is none: any status but UNAVAILABLE, or no time left.
        """
        now = self._timer()
        left = self._deadline - now
        if failure.code is grpc.StatusCode.UNAVAILABLE:
            self._outage = failure
        if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and self._outage is not None:
            raise self._error(self._outage, now - self._started)
        if failure.code is not grpc.StatusCode.UNAVAILABLE or left < _FIRST_PAUSE:
            raise self._error(failure, now - self._started)
        longest: float = min(_FIRST_PAUSE * 2.0 ** min(self._made - 1, 16), _LONGEST_PAUSE)
        # Half fixed, half random: clients that lost the same sidecar do not come back in step. Towards the deadline
        # the pauses shrink, so that the last attempt is made near it and not up to a second before.
        return min(longest * (0.5 + 0.5 * self._jitter()), left / 2)

    def _error(self, failure: Failure, seconds: float) -> SidekeyError:
        return error_of(failure, target=self._target, seconds=seconds, attempts=self._made)
