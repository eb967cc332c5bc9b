"""One question for query tokens of any length, apart from I/O: an answer grows with the number of data keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from sidekey import _plan
from sidekey._exchange import Message, T, unfit
from sidekey._status import Failure
from sidekey._terms import Batch, Query
from sidekey.v1 import encryption_pb2 as pb

_FIRST_BYTES = 8 * 2**10
"""Tokens of the first message under one data key. Their number is not known yet; a keyring has at most 1,000 that are
live, under which these fit into a message."""


class TokenPayload(Protocol[T]):
    """The rows of one question, as ``Payload``, whose answer to a batch is a batch for each data key."""

    @property
    def rows(self) -> int: ...

    def cost(self, rows: int) -> int:
        """What the tokens of the first ``rows`` rows under one data key cost in a message, in bytes."""
        ...

    def batch(self, start: int, stop: int) -> Batch: ...

    def accept(self, start: int, stop: int, answer: pb.QueryTokensResponse) -> None:
        """Keep the answer to ``batch(start, stop)``. Raises SidekeyError where it does not fit the question."""
        ...

    def result(self) -> T: ...


class TokenExchange:
    """The messages of one question; the first one's answer says how long the others may be. As ``Exchange``."""

    head = 1

    def __init__(self, terms: Query, payload: TokenPayload[Any], message_bytes: int) -> None:
        self._terms = terms
        self._payload = payload
        self._message_bytes = message_bytes
        self._keys = 1

    def messages(self) -> Iterator[Message]:
        """The questions; the second may be asked for when the first is answered."""
        rows, cost = self._payload.rows, self._payload.cost
        first = next(_plan.split(rows, cost, min(_FIRST_BYTES, self._message_bytes)), None)
        if first is None:
            return
        yield self._message(*first)
        # One data key more than there were: a rollover on the way changes nothing.
        a_key = self._message_bytes // (self._keys + 1)
        for start, stop in _plan.split(rows, cost, a_key, start=first[1]):
            yield self._message(start, stop)

    def accept(self, message: Message, answer: Any) -> Failure | None:
        """Keep an answer; there is never a reason to send the message again."""
        if not isinstance(answer, pb.QueryTokensResponse):
            raise unfit("another message")
        self._keys = max(self._keys, len(answer.tokens))
        self._payload.accept(message.start, message.stop, answer)
        return None

    def result(self) -> Any:
        return self._payload.result()

    def _message(self, start: int, stop: int) -> Message:
        return Message(start, stop, self._terms.request(self._payload.batch(start, stop)))
