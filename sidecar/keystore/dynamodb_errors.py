"""DynamoDB's error codes, sorted by what must happen next. A table and nothing else: it knows no vendor library.

No text of DynamoDB's is repeated, and a code only where the tables here hold it.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from sidecar import aws
from sidecar.errors import KeystoreUnavailableError


class Rejection(Enum):
    """An answer that says what holds in the table, and so is no failure by itself."""

    CONDITION = "a condition of the write does not hold"
    CONFLICT = "another write to the same items is under way"
    NO_TABLE = "there is no such table"
    TABLE_EXISTS = "there is such a table already"
    UNSUITABLE = "the call does not fit the table"


class RejectedError(Exception):
    """Nothing was written by the call that got this answer.

    ``repeated``: the call was sent before, and its outcome then is not known, so an earlier one of the same call may
    be what this answer met.
    """

    def __init__(self, rejection: Rejection, *, repeated: bool = False) -> None:
        super().__init__(rejection.value)
        self.rejection = rejection
        self.repeated = repeated


_REJECTIONS: Final = {
    "ConditionalCheckFailedException": Rejection.CONDITION,
    "ReplicatedWriteConflictException": Rejection.CONFLICT,
    "TransactionConflictException": Rejection.CONFLICT,
    "TransactionInProgressException": Rejection.CONFLICT,
    "ResourceNotFoundException": Rejection.NO_TABLE,
    "ResourceInUseException": Rejection.TABLE_EXISTS,
    "ValidationException": Rejection.UNSUITABLE,
}
_PASSING_REASONS: Final = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"})
_KEY_OF_TABLE: Final = frozenset(
    {
        "InaccessibleEncryptionCredentialsException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
    }
)
_THROTTLED: Final = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


def sort(response: Mapping[str, Any]) -> RejectedError | KeystoreUnavailableError:
    """The error for the answer of a call that failed, as the vendor's library parsed it."""
    code = response.get("Error", {}).get("Code")
    repeated = response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
    rejection = _of_transaction(response) if code == "TransactionCanceledException" else _REJECTIONS.get(code)
    if rejection is not None:
        return RejectedError(rejection, repeated=repeated)
    if code in aws.DENIED:
        return KeystoreUnavailableError(f"DynamoDB says that access to the keystore's table is denied ({code})")
    if code in _KEY_OF_TABLE:
        return KeystoreUnavailableError(
            f"DynamoDB may not use the key that the keystore's table is encrypted by ({code})"
        )
    if code in _THROTTLED:
        return KeystoreUnavailableError("DynamoDB asks for fewer calls")
    return KeystoreUnavailableError("DynamoDB failed to answer the call")


def unavailable(rejected: RejectedError) -> KeystoreUnavailableError:
    """The port's error for a rejection that no caller expects."""
    return KeystoreUnavailableError(f"DynamoDB refused a call: {rejected.rejection.value}")


def _of_transaction(response: Mapping[str, Any]) -> Rejection | None:
    """Why a transaction was canceled: there is one reason for each of its items, in no order of weight."""
    reasons = {reason.get("Code") for reason in response.get("CancellationReasons", ())} - {None, "None"}
    if "ConditionalCheckFailed" in reasons:
        return Rejection.CONDITION
    return Rejection.CONFLICT if reasons and reasons <= _PASSING_REASONS else None
