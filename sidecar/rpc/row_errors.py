"""Rows that could not be decrypted: as the contract's list, or as the one error of an all-or-nothing call."""

from collections.abc import Iterator, Sequence

from sidekey.v1 import encryption_pb2 as pb

from sidecar import errors
from sidecar.crypto.format import RowFailure

_FIRST_ROWS = 10

_CONTRACT_CODES: dict[RowFailure, pb.RowErrorCode] = {
    RowFailure.MALFORMED: pb.ROW_ERROR_CODE_MALFORMED,
    RowFailure.UNKNOWN_KEY: pb.ROW_ERROR_CODE_UNKNOWN_KEY,
    RowFailure.KEY_DISABLED: pb.ROW_ERROR_CODE_KEY_DISABLED,
    RowFailure.KEY_DESTROYED: pb.ROW_ERROR_CODE_KEY_DESTROYED,
    RowFailure.KEY_UNAVAILABLE: pb.ROW_ERROR_CODE_KEY_UNAVAILABLE,
    RowFailure.AUTHENTICATION_FAILED: pb.ROW_ERROR_CODE_AUTHENTICATION_FAILED,
    RowFailure.PERMISSION_DENIED: pb.ROW_ERROR_CODE_PERMISSION_DENIED,
    RowFailure.WRONG_KEYRING: pb.ROW_ERROR_CODE_WRONG_KEYRING,
    # The contract has no code for a corrupt key: it is unavailable, and no retry helps.
    RowFailure.KEY_CORRUPT: pb.ROW_ERROR_CODE_KEY_UNAVAILABLE,
}

# When a call is all or nothing, its error is the worst of its rows': first what no retry and no operator can mend.
_CALL_ERRORS: tuple[tuple[type[errors.SidekeyError], frozenset[RowFailure]], ...] = (
    (errors.CorruptKeyError, frozenset({RowFailure.KEY_CORRUPT})),
    (
        errors.DecryptFailedError,
        frozenset({RowFailure.MALFORMED, RowFailure.UNKNOWN_KEY, RowFailure.AUTHENTICATION_FAILED}),
    ),
    (errors.WrongKeyringError, frozenset({RowFailure.WRONG_KEYRING})),
    (errors.KeyDestroyedError, frozenset({RowFailure.KEY_DESTROYED})),
    (errors.KeyDisabledError, frozenset({RowFailure.KEY_DISABLED})),
    (errors.KmsDeniedError, frozenset({RowFailure.PERMISSION_DENIED})),
    (errors.KeyUnavailableError, frozenset({RowFailure.KEY_UNAVAILABLE})),
)


def row_errors(rows: Sequence[int], failures: Sequence[RowFailure]) -> Iterator[pb.RowError]:
    """The contract's list; ``rows`` and ``failures`` go together."""
    for row, failure in zip(rows, failures, strict=True):
        yield pb.RowError(row=row, code=_CONTRACT_CODES[failure], retryable=failure.retryable)


def settle(rows: Sequence[int], failures: Sequence[RowFailure], on_error: pb.OnError) -> Iterator[pb.RowError]:
    """The contract's list where the caller asked for a report; raises the call's one error where it did not."""
    if on_error != pb.ON_ERROR_REPORT:
        raise call_error(rows, failures)
    return row_errors(rows, failures)


def call_error(rows: Sequence[int], failures: Sequence[RowFailure]) -> errors.SidekeyError:
    """The error of an all-or-nothing call; its text names the first rows."""
    present = set(failures)
    kind = next(kind for kind, of_kind in _CALL_ERRORS if present & of_kind)
    first = ", ".join(f"row {row}: {failure.name}" for row, failure in zip(rows[:_FIRST_ROWS], failures, strict=False))
    more = f", and {len(rows) - _FIRST_ROWS} more" if len(rows) > _FIRST_ROWS else ""
    return kind(f"{len(rows)} rows cannot be decrypted ({first}{more})")
