"""Wrapping one data key under several wrapping keys at once, and what came of each.

Owns how long one waits for another; which of them are asked, and what is made of their refusals, is for ``wrapping``.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sidecar.errors import RETRYABLE, CorruptKeyError, KmsUnavailableError, SidekeyError
from sidecar.keys.wrapping_key import WrappingKey
from sidecar.keystore.port import WrappedCopy

_Wrap = asyncio.Task[WrappedCopy]


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of wrapping, by the names of the wrapping keys."""

    wrapped: Mapping[str, WrappedCopy]
    failures: Mapping[str, SidekeyError]

    @property
    def copies(self) -> tuple[WrappedCopy, ...]:
        """The copies, in order."""
        return distinct(self.wrapped.values())

    @property
    def worst(self) -> SidekeyError:
        """What to raise of the failures: an outage before a refusal, since trying again may help."""
        failures = list(self.failures.values())
        return next((error for error in failures if isinstance(error, RETRYABLE)), failures[0])


def distinct(copies: Iterable[WrappedCopy]) -> tuple[WrappedCopy, ...]:
    """One copy for each wrapping key, the first: two names in the configuration may stand for one."""
    first: dict[str, WrappedCopy] = {}
    for copy in copies:
        first.setdefault(copy.kek_id, copy)
    return tuple(first.values())


async def wrapped_under(
    keys: Sequence[WrappingKey], data_key: bytearray, context: Mapping[str, str], *, failover_seconds: float | None
) -> Answers:
    """What each wrapping key makes of a data key; nobody uses ``data_key`` any more when this returns or raises.

    Args:
        failover_seconds: so long the slower ones have when the first has answered; None: until their own deadlines.

    Raises:
        CorruptKeyError: a copy was not proved.
    """
    tasks = {asyncio.create_task(key.wrap(data_key, context), name="sidekey-wrap"): key for key in keys}
    try:
        await _settled(tasks, failover_seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    answers = {key.name: _answer_of(task) for task, key in tasks.items()}
    return Answers(
        {name: answer for name, answer in answers.items() if isinstance(answer, WrappedCopy)},
        {name: answer for name, answer in answers.items() if isinstance(answer, SidekeyError)},
    )


async def _settled(tasks: Mapping[_Wrap, WrappingKey], failover_seconds: float | None) -> None:
    waiting: set[_Wrap] = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if failover_seconds is not None and any(task.exception() is None for task in done):
            break
    if waiting:
        _, waiting = await asyncio.wait(waiting, timeout=failover_seconds)
    for task in waiting:
        tasks[task].lets_wait()


def _answer_of(task: _Wrap) -> WrappedCopy | SidekeyError:
    if task.cancelled():
        return KmsUnavailableError("the KMS takes too long to wrap a data key")
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, CorruptKeyError) or not isinstance(error, SidekeyError):
        raise error
    return error
