"""One encrypt, decrypt or reencrypt, apart from I/O: which messages to send and what becomes of the answers.

The sync and the async client both drive this; it neither sends, waits nor sleeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import grpc

from sidekey import _plan
from sidekey._status import Failure
from sidekey._terms import Batch, Request, Terms
from sidekey.errors import (
    DecryptionError,
    InvalidArgumentError,
    KeyStateError,
    PermissionDeniedError,
    RowError,
    SidekeyError,
)
from sidekey.v1 import encryption_pb2 as pb

Answer = pb.EncryptResponse | pb.DecryptResponse | pb.ReencryptResponse
T = TypeVar("T", covariant=True)

_MAX_ROW_ERRORS = 100
_MAX_ROWS_NAMED = 5

_ROW_ERROR_CLASSES: dict[str, type[SidekeyError]] = {
    "KEY_DISABLED": KeyStateError,
    "KEY_DESTROYED": KeyStateError,
    "KEY_UNAVAILABLE": KeyStateError,  # and no retry helps: the sidecar finds the data key corrupt
    "WRONG_KEYRING": KeyStateError,
    "PERMISSION_DENIED": PermissionDeniedError,
}
_STATUS_OF_CLASS = {
    KeyStateError: grpc.StatusCode.FAILED_PRECONDITION,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    DecryptionError: grpc.StatusCode.DATA_LOSS,
}
_KEY_UNAVAILABLE = Failure(
    grpc.StatusCode.UNAVAILABLE, "KEY_UNAVAILABLE", "the data key of some rows cannot be had now"
)


class Payload(Protocol[T]):
    """The rows of one operation, as the caller gave them and as they come back."""

    @property
    def rows(self) -> int: ...

    def cost(self, rows: int) -> int:
        """What the first ``rows`` rows cost in a message, question or answer, whichever is longer; in bytes."""
        ...

    def batch(self, start: int, stop: int) -> Batch:
        """Rows ``start`` to ``stop`` as the contract's batch."""
        ...

    def accept(self, start: int, stop: int, answer: Answer, failed: Sequence[int]) -> None:
        """Keep the answer to ``batch(start, stop)``; ``failed`` are its rows, from ``start``, that came back NULL.

        Raises SidekeyError where the answer does not fit the question.
        """
        ...

    def result(self) -> T:
        """All rows, in the caller's order."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One question: rows ``start`` to ``stop`` of the caller's."""

    start: int
    stop: int
    request: Request


class Conversation(Protocol[T]):
    """What the clients drive: ``Exchange``, or one whose messages depend on its first answer."""

    head: int
    """Where so many messages cannot be had, the first is to be answered before another is asked for."""

    def messages(self) -> Iterator[Message]: ...
    def accept(self, message: Message, answer: Any) -> Failure | None: ...
    def result(self) -> T: ...


class Exchange(Generic[T]):
    """The messages of one operation, and the place for their answers, which may come in any order."""

    head = 2

    def __init__(self, terms: Terms, payload: Payload[T], message_bytes: int) -> None:
        self._terms = terms
        self._payload = payload
        self._message_bytes = message_bytes
        self._row_errors: list[RowError] = []
        self.unchanged = 0
        """Rows that a reencrypt found as they should be."""

    def messages(self) -> Iterator[Message]:
        """The questions, each built when it is asked for, so that few are in memory at once."""
        for start, stop in _plan.split(self._payload.rows, self._payload.cost, self._message_bytes):
            yield Message(start, stop, self._terms.request(self._payload.batch(start, stop)))

    def accept(self, message: Message, answer: Answer) -> Failure | None:
        """Keep an answer; or say why the same message has to be sent again.

        A data key that cannot be had now is an outage and never a row's fault: it is not turned into a NULL.
        Raises SidekeyError where rows failed and the caller wants all or nothing.
        """
        found = _row_errors(message, answer)
        if any(error.code == "KEY_UNAVAILABLE" and error.retryable for error in found):
            return _KEY_UNAVAILABLE
        if found and not self._terms.nulls_bad_rows:
            raise error_of_rows(found)
        self._payload.accept(message.start, message.stop, answer, [error.row - message.start for error in found])
        self._row_errors += found
        if isinstance(answer, pb.ReencryptResponse):
            self.unchanged += answer.unchanged
        return None

    def result(self) -> T:
        return self._payload.result()

    def row_errors(self) -> list[RowError]:
        """The rows that came back NULL because they could not be decrypted, in rising order."""
        return sorted(self._row_errors, key=lambda error: error.row)


def _row_errors(message: Message, answer: Answer) -> list[RowError]:
    """The answer's row errors in the caller's row numbers."""
    if isinstance(answer, pb.EncryptResponse) or not answer.row_errors:
        return []
    if any(error.row >= message.stop - message.start for error in answer.row_errors):
        raise unfit("a row error names a row that was not sent")
    return [RowError(message.start + error.row, _code_name(error.code), error.retryable) for error in answer.row_errors]


def _code_name(code: int) -> str:
    try:
        return pb.RowErrorCode.Name(code).removeprefix("ROW_ERROR_CODE_")
    except ValueError:  # a newer sidecar's code
        return "UNSPECIFIED"


def error_of_rows(found: Sequence[RowError]) -> SidekeyError:
    """The typed error of rows that could not be decrypted; the first one's code decides the class."""
    kind = _ROW_ERROR_CLASSES.get(found[0].code, DecryptionError)
    named = ", ".join(f"row {error.row}: {error.code}" for error in found[:_MAX_ROWS_NAMED])
    more = f" and {len(found) - _MAX_ROWS_NAMED} more" if len(found) > _MAX_ROWS_NAMED else ""
    # What can be had later never gets here: see ``Exchange.accept``.
    corrupt = found[0].code == "KEY_UNAVAILABLE"
    return kind(
        f"rows could not be decrypted: {named}{more}",
        code=grpc.StatusCode.DATA_LOSS if corrupt else _STATUS_OF_CLASS[kind],
        reason="CORRUPT_KEY" if corrupt else found[0].code,
        retryable=found[0].retryable,
        rows=tuple(found[:_MAX_ROW_ERRORS]),
    )


def unfit(what: str) -> SidekeyError:
    """The error for an answer that does not fit its question."""
    return SidekeyError(f"the sidecar's answer does not fit the question: {what}", code=grpc.StatusCode.INTERNAL)


def too_large(row: int, length: int, limit: int) -> InvalidArgumentError:
    """The error for a row that no message may hold."""
    return InvalidArgumentError(
        f"row {row} has {length} bytes; a row may have {limit}",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="VALUE_TOO_LARGE",
    )
