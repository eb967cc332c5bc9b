"""An event loop that a test moves by hand: until nothing can go on, then by a span of its own time. Owns the time."""

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine, Generator
from typing import Any

OWNER: contextvars.ContextVar[object] = contextvars.ContextVar("owner", default=None)
"""Whose task it is; tasks inherit it from those that start them."""


class _Stepping(selectors.DefaultSelector):
    """Nobody sends anything: where the loop would wait, time moves on, but never beyond ``until``."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.until = 1_000.0
        self.stop: Callable[[], None] = lambda: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As ``selectors``, without waiting."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        wake_at = self.until if timeout is None else self.now + timeout
        if wake_at >= self.until and self.now >= self.until:
            self.stop()
        self.now = max(self.now, min(wake_at, self.until))
        return ready


class SteppingLoop(asyncio.SelectorEventLoop):
    """``advance(0)`` runs until everything waits; what would have been lost unseen is in ``defects``."""

    def __init__(self) -> None:
        self._stepping = _Stepping()
        super().__init__(self._stepping)
        self._stepping.stop = self.stop
        self.defects: list[str] = []
        self._owned: set[tuple[object, asyncio.Task[Any]]] = set()
        self.set_exception_handler(lambda _loop, context: self.defects.append(repr(context)))
        self.set_task_factory(self._owned_task)

    def time(self) -> float:
        """Seconds; they pass in ``advance`` alone."""
        return self._stepping.now

    def advance(self, seconds: float) -> None:
        """Let time pass: whatever comes due meanwhile happens at its own moment, and goes on until all wait."""
        self._stepping.until = self._stepping.now + seconds
        self.run_forever()

    def kill(self, owner: object) -> None:
        """Cancel all tasks of an owner, as often as they start others while they end."""
        while mine := [entry for entry in self._owned if entry[0] is owner]:
            for _, task in mine:
                task.cancel()
            self.advance(0)

    def _owned_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any]
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop)
        entry = (OWNER.get(), task)
        self._owned.add(entry)
        task.add_done_callback(lambda _done: self._owned.discard(entry))
        return task
