"""Why rows cannot be decrypted, by the error that met their data key."""

from typing import Final

from sidecar.crypto.format import RowFailure
from sidecar.errors import (
    RETRYABLE,
    CorruptKeyError,
    KeyDestroyedError,
    KeyDisabledError,
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
    UnknownKeyError,
)

ROW_FAILURES: Final[dict[type[SidekeyError], RowFailure]] = {
    UnknownKeyError: RowFailure.UNKNOWN_KEY,
    KeyDisabledError: RowFailure.KEY_DISABLED,
    KmsDisabledError: RowFailure.KEY_DISABLED,
    KeyDestroyedError: RowFailure.KEY_DESTROYED,
    KmsDeniedError: RowFailure.PERMISSION_DENIED,
    CorruptKeyError: RowFailure.KEY_CORRUPT,
    KmsThrottledError: RowFailure.KEY_UNAVAILABLE,
    KmsUnavailableError: RowFailure.KEY_UNAVAILABLE,
    KeystoreUnavailableError: RowFailure.KEY_UNAVAILABLE,
}

PERMANENT: Final = tuple(set(ROW_FAILURES).difference(RETRYABLE))
"""Errors of data keys that asking again does not mend."""
