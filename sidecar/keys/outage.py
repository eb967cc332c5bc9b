"""How to call what is in trouble: seldom, of all keys together, and not for each caller that asks.

Owns no call and no key: whoever calls asks here first, and tells how it ended.
"""

import asyncio
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from sidecar.errors import (
    CorruptKeyError,
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
)
from sidecar.keys.clock import Clock

FAIL_FAST_SECONDS = 1.0
"""For so long, half of it jitter, a failure that may pass is the answer for those who ask again, without a call."""

OF_KMS = (KmsThrottledError, KmsUnavailableError)
OF_KEYSTORE = (KeystoreUnavailableError,)

_KMS_ANSWERS = (KmsDeniedError, KmsDisabledError, CorruptKeyError)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many calls are made in the background, of all keys together."""

    retries_per_second: float = 10.0
    """In an outage."""
    refreshes_per_second: float = 200.0
    """Outside of one, and in the time after it, when everything is due at once."""

    def __post_init__(self) -> None:
        """Refuse what would mean "never" or "without bounds"."""
        if not (0 < self.retries_per_second < math.inf and 0 < self.refreshes_per_second < math.inf):
            raise ValueError("the pace must be more than 0 calls a second, and have a bound")


class TokenBucket:
    """Lets so many through a second, and after a pause as many at once as come in one second."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._per_second = per_second
        self._clock = clock
        self._most = max(1.0, per_second)
        self._tokens = self._most
        self._counted_at = clock.monotonic()

    def take(self) -> bool:
        """Whether one more may go."""
        now = self._clock.monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def drain(self, left: float) -> None:
        """Begin anew with so little."""
        self._tokens = left
        self._counted_at = self._clock.monotonic()


class Outage:
    """Whether an outage lasts: the last call failed in a way that may pass, and none has succeeded since."""

    def __init__(self, retries_per_second: float, clock: Clock, jitter: Callable[[], float]) -> None:
        """``jitter`` gives a random number in [0, 1); it keeps the sidecars of a fleet from trying in step."""
        self._budget = TokenBucket(retries_per_second, clock)
        self._clock = clock
        self._jitter = jitter
        self._error: SidekeyError | None = None
        self._began_at = self._ended_at = -math.inf
        self._fail_fast_until = -math.inf
        self._trying: set[Hashable] = set()
        self._news = asyncio.Event()
        self.number = 0
        """How many outages have ended."""

    @property
    def lasts(self) -> bool:
        """Whether it is to be reckoned with now."""
        return self._error is not None

    def covered(self, moment: float) -> bool:
        """Whether this moment of the monotonic clock lies in the outage that lasts, or else in the last one."""
        return self._began_at <= moment < (math.inf if self.lasts else self._ended_at)

    def lets(self, key: Hashable) -> bool:
        """Whether a call for this key may be made: always, but in an outage only as often as its budget says.

        What was let through is let through again until it has ``landed``.
        """
        if self._error is None or key in self._trying:
            return True
        if not self._budget.take():
            return False
        self._trying.add(key)
        return True

    async def turn(self, key: Hashable, kinds: tuple[type[SidekeyError], ...]) -> None:
        """Come back when a call of a caller may be made; an outage of none of these kinds is no reason to wait.

        Raises:
            SidekeyError: what a call met a moment ago. Where the last failure is older, and the budget is spent by
                others who just try again, their outcome is waited for: an outage that is long over fails nobody.
        """
        while isinstance(self._error, kinds) and not self.lets(key):
            if self._clock.monotonic() < self._fail_fast_until or not self._trying:
                raise fresh(self._error)
            await self._news.wait()

    def check(self, key: Hashable, kinds: tuple[type[SidekeyError], ...]) -> None:
        """As ``turn`` after a wait for something else: raise at once where no call may be made."""
        if isinstance(self._error, kinds) and not self.lets(key):
            raise fresh(self._error)

    def landed(self, key: Hashable) -> None:
        """The call for this key is over."""
        if key in self._trying:
            self._trying.discard(key)
            self._tell()

    def failed(self, error: SidekeyError, number: int) -> None:
        """A call failed in a way that may pass; it began when so many outages had ended.

        What began before the end of an outage and fails after it says nothing new.
        """
        if number != self.number:
            return
        if self._error is None:
            self._began_at = self._clock.monotonic()
            self._budget.drain(self._jitter())
        self._error = error
        self._fail_fast_until = self._clock.monotonic() + fail_fast_seconds(self._jitter)
        self._tell()

    def refused(self, error: SidekeyError) -> None:
        """A call was answered with a permanent failure: that ends an outage of whoever gave the answer."""
        if isinstance(error, _KMS_ANSWERS) or isinstance(self._error, KeystoreUnavailableError):
            self.succeeded()

    def succeeded(self) -> None:
        """A call succeeded."""
        if self._error is not None:
            self._error = None
            self._ended_at = self._clock.monotonic()
            self.number += 1
            self._tell()

    def _tell(self) -> None:
        """Wake those who wait for news; what comes later is news of its own."""
        self._news.set()
        self._news = asyncio.Event()


def fail_fast_seconds(jitter: Callable[[], float]) -> float:
    """For how long one failure that may pass is remembered."""
    return FAIL_FAST_SECONDS * (0.5 + jitter() / 2)


def fresh(error: SidekeyError) -> SidekeyError:
    """The same error for one more caller: a shared exception would gather every caller's traceback."""
    return type(error)(*error.args)
