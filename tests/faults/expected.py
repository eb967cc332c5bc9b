"""What is declared of every fault in every situation: values only. Page and test are made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

OK: Final = "OK"
STALE: Final = "cache.staleOnOutageSeconds"
TTL: Final = "cache.ttlSeconds"
RECOVERY_SECONDS: Final = 20.0
"""After the end of a fault, at the settings of the matrix; a machine that is busy otherwise included."""
LONGEST_CALL_SECONDS: Final = 12.0
"""Of any call: several times the deadlines of the KMS and the keystore."""


class Situation(StrEnum):
    """What the data keys are in when the fault begins."""

    COLD = "cold"
    WARM = "warm"
    REFRESHING = "refreshing"
    ROLLING_OVER = "rolling over"
    REWRAPPING = "rewrapping"


class Fault(StrEnum):
    """What goes wrong, as the page says it."""

    HANGS = "KMS hangs"
    SLOW = "KMS answers after its deadline"
    RESETS = "KMS resets connections"
    FAILS = "KMS answers 500"
    THROTTLES = "KMS throttles"
    DENIES = "KMS denies"
    DISABLED = "wrapping key disabled"
    LIES = "KMS answers with another data key"
    GARBLES = "KMS answers garbage"
    STOPPED = "PostgreSQL stopped"
    RESTARTED = "PostgreSQL restarted"
    DELAYED = "PostgreSQL answers after its timeout"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a fault reads to who needs what it keeps away: ``OK``, or gRPC status and reason."""

    encrypt: str
    decrypt: str
    passes: bool
    """Whether a retry may mend it, so that a data key in use goes on until the stale limit."""
    readiness_sees: bool = True
    """Whether a sidecar with no data key in its cache says that it is not ready."""
    event: str = "kms_state"
    """Logged by whoever meets it."""

    @property
    def back(self) -> str:
        """What brings calls back when the fault has ended."""
        return f"the next call, at most {'1 s' if self.passes else '`cache.unknownKeySeconds`'} later"

    @property
    def reason(self) -> str:
        """Of the error, as logs and ``sidekey rewrap`` have it."""
        return self.encrypt.rpartition(" ")[2]


_UNAVAILABLE: Final = Reading("UNAVAILABLE KMS_UNAVAILABLE", "UNAVAILABLE KEY_UNAVAILABLE", passes=True)
_AWAY: Final = Reading(
    "UNAVAILABLE KEYSTORE_UNAVAILABLE", "UNAVAILABLE KEY_UNAVAILABLE", passes=True, event="keystore_reachability"
)
_CORRUPT: Final = "DATA_LOSS CORRUPT_KEY"

READINGS: Final[Mapping[Fault, Reading | None]] = {
    Fault.HANGS: _UNAVAILABLE,
    Fault.SLOW: _UNAVAILABLE,
    Fault.RESETS: _UNAVAILABLE,
    Fault.FAILS: _UNAVAILABLE,
    Fault.THROTTLES: Reading("UNAVAILABLE KMS_THROTTLED", "UNAVAILABLE KEY_UNAVAILABLE", passes=True),
    Fault.DENIES: Reading("PERMISSION_DENIED KMS_ACCESS_DENIED", "PERMISSION_DENIED KMS_ACCESS_DENIED", passes=False),
    Fault.DISABLED: Reading("FAILED_PRECONDITION KMS_KEY_DISABLED", "FAILED_PRECONDITION KEY_DISABLED", passes=False),
    # A corrupt data key is that key's trouble, and says nothing of the KMS.
    Fault.LIES: Reading(_CORRUPT, _CORRUPT, passes=False, readiness_sees=False, event="data_key_corrupt"),
    Fault.GARBLES: _UNAVAILABLE,
    Fault.STOPPED: _AWAY,
    # Over before anybody asks: the connections that it broke are replaced.
    Fault.RESTARTED: None,
    Fault.DELAYED: _AWAY,
}
OF_POSTGRESQL: Final = (Fault.STOPPED, Fault.RESTARTED, Fault.DELAYED)


@dataclass(frozen=True, slots=True)
class Expected:
    """One cell. Outcomes follow one another while the fault lasts; the last one stays."""

    encrypt: tuple[str, ...]
    decrypt: tuple[str, ...]
    ready: bool
    """What ``/readyz`` says at last, while the fault lasts."""
    until: str | None = None
    """The setting that bounds how long after the beginning of the fault a first outcome ``OK`` is met."""
    work: str = ""
    """What becomes of the rollover or the rewrap."""
    events: tuple[str, ...] = ()
    """Log events that the sidecar (or the rewrap) tells it by."""
    back: str = ""
    """What brings it back when the fault has ended."""


_NOTHING: Final = "nothing was away"
_WAITS: Final = "waits; made when the fault is over"


def _cold(reading: Reading | None) -> Expected:
    if reading is None:
        return Expected((OK,), (OK,), ready=True, back=_NOTHING)
    ready = not reading.readiness_sees
    return Expected((reading.encrypt,), (reading.decrypt,), ready, events=(reading.event,), back=reading.back)


def _warm(_reading: Reading | None) -> Expected:
    return Expected((OK,), (OK,), ready=True, back=_NOTHING)


def _refreshing(reading: Reading | None) -> Expected:
    if reading is None:
        return Expected((OK,), (OK,), ready=True, back=_NOTHING)
    return Expected(
        (OK, reading.encrypt),
        (OK, reading.decrypt),
        ready=not reading.readiness_sees,
        until=STALE if reading.passes else TTL,
        events=(reading.event, "refresh_failed" if reading.passes else "cached_entry_refused"),
        back=reading.back,
    )


def _rolling_over(reading: Reading | None) -> Expected:
    if reading is None:
        return Expected((OK,), (OK,), ready=True, work="goes on", events=("rolled_over",), back=_NOTHING)
    # Without the keystore it is not known whether there is another primary by now: none is looked for.
    postponed = "refresh_failed" if reading is _AWAY else "rollover_postponed"
    as_refreshing = _refreshing(reading)
    return Expected(
        as_refreshing.encrypt,
        as_refreshing.decrypt,
        as_refreshing.ready,
        as_refreshing.until,
        work=_WAITS,
        events=(reading.event, postponed, "rolled_over"),
        back="the keyring's next refresh, at most 45 s later",
    )


def _rewrapping(reading: Reading | None) -> Expected:
    assert reading is not None
    return Expected(
        (OK,),
        (OK,),
        ready=True,
        work=f"exits with 1; data keys as they were, each listed with `{reading.reason}`",
        events=("data_key_not_rewrapped",),
        back="an operator: the same command again",
    )


_RULES: Final = {
    Situation.COLD: _cold,
    Situation.WARM: _warm,
    Situation.REFRESHING: _refreshing,
    Situation.ROLLING_OVER: _rolling_over,
    Situation.REWRAPPING: _rewrapping,
}


def faults_in(situation: Situation) -> Sequence[Fault]:
    """The rows of a situation's table; how the keystore's faults meet a rewrap is for the tests of ``rewrap``."""
    return [fault for fault in Fault if situation is not Situation.REWRAPPING or fault not in OF_POSTGRESQL]


def expected(situation: Situation, fault: Fault) -> Expected:
    """The cell."""
    return _RULES[situation](READINGS[fault])
