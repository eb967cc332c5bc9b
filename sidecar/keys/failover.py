"""Asking several for the same data key: one after the other, and side by side where one lets it wait.

Knows of outages, refusals and corrupt copies by their errors, and nothing of KMSs.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.crypto import key_schedule
from sidecar.errors import RETRYABLE, CorruptKeyError, SidekeyError


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that can be asked."""

    ask: Callable[[], Coroutine[Any, Any, bytearray]]
    on_slow: Callable[[], None]
    """Called where it has let us wait for so long that the next one is asked as well."""


class Failover:
    """Finds the first answer. For one event loop."""

    def __init__(self, seconds: float) -> None:
        """``seconds``: after so long without an answer the next one is asked as well."""
        self._seconds = seconds
        self._late: set[asyncio.Task[bytearray]] = set()

    async def first(self, attempts: Sequence[Attempt]) -> bytearray:
        """The data key of the first that has it; the others are cancelled, and what they answer still is overwritten.

        Raises:
            SidekeyError: what is neither an outage nor a corrupt copy is an answer, and ends this at once: a KMS that
                denies must not be got round by asking another. Where all fail: an outage, if there was one (it may be
                over the next time), else ``CorruptKeyError``.
        """
        asked: dict[asyncio.Task[bytearray], Attempt] = {}
        failures: list[SidekeyError] = []
        data_key: bytearray | None = None
        try:
            for number, attempt in enumerate(attempts, 1):
                asked[asyncio.create_task(attempt.ask(), name="sidekey-unwrap")] = attempt
                data_key = await self._answer(asked, failures, last=number == len(attempts))
                if data_key is not None:
                    return data_key
        finally:
            for task in asked:
                self._give_up(task, data_key)
        raise next((error for error in failures if isinstance(error, RETRYABLE)), failures[0])

    async def _answer(
        self, asked: dict[asyncio.Task[bytearray], Attempt], failures: list[SidekeyError], *, last: bool
    ) -> bytearray | None:
        """The first data key of those asked; None where it is time to ask one more, or where all have failed."""
        while running := [task for task in asked if not task.done()]:
            done, waiting = await asyncio.wait(
                running, timeout=None if last else self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                for task in waiting:
                    asked[task].on_slow()
                return None
            data_key = _judged(done, failures)
            if data_key is not None or not last:
                return data_key
        return None

    def _give_up(self, task: asyncio.Task[bytearray], data_key: bytearray | None) -> None:
        if task.done():
            _overwrite_answer(task, data_key)
            return
        task.cancel()
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        task.add_done_callback(lambda late: _overwrite_answer(late, None))

    async def close(self) -> None:
        """Wait for those that were cancelled."""
        if self._late:
            await asyncio.wait(self._late)


def _judged(done: set[asyncio.Task[bytearray]], failures: list[SidekeyError]) -> bytearray | None:
    """The data key of one of them, if none of them refuses; failures that another may make good are noted."""
    data_key = None
    for task in done:
        try:
            data_key = task.result()
        except (*RETRYABLE, CorruptKeyError) as error:
            failures.append(error)
    return data_key


def _overwrite_answer(task: asyncio.Task[bytearray], kept: bytearray | None) -> None:
    # The exception is retrieved as well: nobody waits for it any more.
    if not task.cancelled() and task.exception() is None and (answer := task.result()) is not kept:
        key_schedule.overwrite(answer)
