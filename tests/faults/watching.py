"""Callers that ask all along, and what they were answered. Owns no expectation."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from tests.faults.expected import OK
from tests.rpc.batches import rows_of, values
from tests.rpc.running import Caller

_BETWEEN_CALLS_SECONDS: Final = 0.2
_SETTLED_CALLS: Final = 3
_COUNT: Final = itertools.count()


class Ledger:
    """Every value whose ciphertext a caller has."""

    def __init__(self) -> None:
        self._of_keyring: dict[str, dict[bytes, bytes]] = {}

    async def encrypt(self, caller: Caller, keyring: str) -> None:
        """Encrypt one more value."""
        value = f"{keyring} {next(_COUNT)}".encode()
        (ciphertext,) = rows_of(await caller.encrypt(values(value), keyring=keyring))
        assert ciphertext is not None
        self._of_keyring.setdefault(keyring, {})[ciphertext] = value

    async def decrypt(self, caller: Caller, *keyrings: str, first: int | None = None) -> None:
        """Decrypt what was encrypted in these keyrings: all of it, or the first so many values of each."""
        chosen = [pair for name in keyrings for pair in itertools.islice(self._of_keyring[name].items(), first)]
        answer = await caller.decrypt(values(*(ciphertext for ciphertext, _ in chosen)))
        assert rows_of(answer) == [value for _, value in chosen]

    def newest_key(self, keyring: str) -> bytes:
        """The id of the data key that encrypted last."""
        return next(reversed(self._of_keyring[keyring]))[1:8]


@dataclass(frozen=True, slots=True)
class Answered:
    """One call; ``sent_at`` of the monotonic clock."""

    sent_at: float
    seconds: float
    outcome: str


class Series:
    """One caller that does one thing again and again."""

    def __init__(self, ask: Callable[[], Awaitable[None]], expected: tuple[str, ...]) -> None:
        self._ask = ask
        self._expected = expected
        self.answered: list[Answered] = []

    async def once(self) -> str:
        """Ask once; ``OK``, or the status and the reason."""
        sent_at = time.monotonic()
        outcome = await outcome_of(self._ask())
        self.answered.append(Answered(sent_at, time.monotonic() - sent_at, outcome))
        return outcome

    @property
    def outcomes(self) -> tuple[str, ...]:
        """One after the other, without repetitions."""
        return tuple(outcome for outcome, _ in itertools.groupby(each.outcome for each in self.answered))

    @property
    def settled(self) -> bool:
        """Whether everything that is expected has come, and the last of it for some calls."""
        last = [each.outcome for each in self.answered[-_SETTLED_CALLS:]]
        return self.outcomes == self._expected and last == [self._expected[-1]] * _SETTLED_CALLS

    @property
    def slowest_seconds(self) -> float:
        """How long the slowest call has waited for its answer."""
        return max(each.seconds for each in self.answered)

    def ok_sent_after(self, moment: float) -> int:
        """How many calls were begun later than this and succeeded."""
        return sum(each.outcome == OK and each.sent_at > moment for each in self.answered)


async def watch(series: Sequence[Series], done: Callable[[], bool], seconds: float) -> None:
    """Ask all along until everything is settled and ``done``, or for so long; no call is under way afterwards."""
    stop = asyncio.Event()

    async def ask(one: Series) -> None:
        while not stop.is_set():
            await one.once()
            await asyncio.sleep(_BETWEEN_CALLS_SECONDS)

    async with asyncio.TaskGroup() as group:
        for one in series:
            group.create_task(ask(one))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (all(one.settled for one in series) and done()):  # noqa: ASYNC110
            await asyncio.sleep(_BETWEEN_CALLS_SECONDS)
        stop.set()


async def seconds_until(ask: Callable[[], Awaitable[bool]], since: float, seconds: float) -> float | None:
    """When what is asked for first came, in seconds since then; None where it did not come for so long."""
    while not await ask():
        if time.monotonic() > since + seconds:
            return None
        await asyncio.sleep(_BETWEEN_CALLS_SECONDS / 4)
    return time.monotonic() - since


async def outcome_of(call: Awaitable[Any]) -> str:
    """``OK``, or the status and the reason of the refusal."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {_reason(error)}"
    return OK


def _reason(error: grpc.aio.AioRpcError) -> str:
    raw = dict(iter(error.trailing_metadata())).get("grpc-status-details-bin")
    if not isinstance(raw, bytes):
        return "without a reason"
    (detail,) = Status.FromString(raw).details
    info = ErrorInfo()
    assert detail.Unpack(info)
    reason: str = info.reason
    return reason
