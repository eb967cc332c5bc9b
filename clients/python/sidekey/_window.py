"""Messages over a blocking channel: one directly, many several at once. Owns the waiting and the cancelling."""

from __future__ import annotations

import heapq
import itertools
import queue
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import grpc

from sidekey._exchange import Conversation, Message
from sidekey._retry import Attempts
from sidekey._status import FailedCall, Failure, failure_of

A = TypeVar("A")

_CANCELLED = Failure(grpc.StatusCode.CANCELLED, "", "")


def call(send: Callable[[float], A], accept: Callable[[A], Failure | None], attempts: Attempts) -> None:
    """Send one message until ``accept`` is content with the answer; ``send`` takes its timeout in seconds.

    Raises SidekeyError.
    """
    while True:
        try:
            answer = send(attempts.begin())
        except grpc.RpcError as error:
            failure: Failure | None = failure_of(cast("FailedCall", error))
        else:
            failure = accept(answer)
        if failure is None:
            return
        time.sleep(attempts.pause(failure))


@dataclass(eq=False, slots=True)
class _Flight:
    message: Message
    attempts: Attempts
    call: Any = field(default=None, repr=False)


class Window:
    """Several messages at once, at most ``size``; what is in flight is cancelled when one fails."""

    def __init__(
        self,
        exchange: Conversation[Any],
        send: Callable[[Message, float], Any],
        attempts: Callable[[], Attempts],
        size: int,
    ) -> None:
        """``send`` starts a call and returns its future."""
        self._exchange = exchange
        self._send = send
        self._attempts = attempts
        self._size = size
        self._flying: set[_Flight] = set()
        self._landed: queue.SimpleQueue[_Flight] = queue.SimpleQueue()
        self._paused: list[tuple[float, int, _Flight]] = []
        self._serial = itertools.count()

    def run(self, messages: Iterable[Message]) -> None:
        """Send all messages and accept all answers. Raises SidekeyError."""
        try:
            for message in messages:
                self._launch(_Flight(message, self._attempts()))
                while len(self._flying) + len(self._paused) >= self._size:
                    self._step()
            while self._flying or self._paused:
                self._step()
        finally:
            for flight in self._flying:
                flight.call.cancel()

    def _launch(self, flight: _Flight) -> None:
        flight.call = self._send(flight.message, flight.attempts.begin())
        self._flying.add(flight)
        flight.call.add_done_callback(lambda _: self._landed.put(flight))

    def _step(self) -> None:
        """Wait for an answer, or for the end of a pause, and act on it."""
        wait = max(self._paused[0][0] - time.monotonic(), 0.0) if self._paused else None
        try:
            flight = self._landed.get(timeout=wait)
        except queue.Empty:
            self._launch(heapq.heappop(self._paused)[-1])
            return
        self._flying.discard(flight)
        failure = self._outcome(flight)
        if failure is not None:
            due = time.monotonic() + flight.attempts.pause(failure)
            heapq.heappush(self._paused, (due, next(self._serial), flight))

    def _outcome(self, flight: _Flight) -> Failure | None:
        try:
            answer = flight.call.result()
        except grpc.RpcError as error:
            return failure_of(cast("FailedCall", error))
        except grpc.FutureCancelledError:  # the client was closed meanwhile
            return _CANCELLED
        return self._exchange.accept(flight.message, answer)
