"""AWS's error codes, sorted by who must act. A table and nothing else: it knows no vendor library.

An outage must never read as a corrupt key, nor a denial as an outage: what is not named here is "unavailable", which
changes nothing for good and is tried again.
"""

from typing import Final, Literal

from sidecar import aws
from sidecar.errors import (
    CorruptKeyError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
)

Operation = Literal["wrap", "unwrap"]

_DENIED: Final = aws.DENIED | {"InvalidGrantTokenException", "InvalidIdentityToken", "KMSInvalidSignatureException"}
_DISABLED: Final = frozenset(
    {"DisabledException", "InvalidArnException", "KMSInvalidStateException", "NotFoundException"}
)
_THROTTLED: Final = frozenset(
    {
        "LimitExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_CORRUPT: Final = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})
_UNUSABLE: Final = frozenset({"InvalidKeyUsageException"})

_TOO_MANY_REQUESTS: Final = 429


def sort(code: object, status: object, operation: Operation) -> SidekeyError:
    """The error of ours for AWS's error code and HTTP status.

    A text quotes the code only where the tables above hold it, so that nothing a server chose is repeated.
    """
    if not isinstance(code, str):
        code = ""
    if code in _DENIED or code.startswith("AccessDenied"):
        return KmsDeniedError(f"AWS KMS denies the use of the wrapping key{_quoted(code, _DENIED)}")
    if code in _DISABLED or (code in _UNUSABLE and operation == "wrap"):
        return KmsDisabledError(
            f"the wrapping key in AWS KMS is disabled, pending deletion, gone or of the wrong kind"
            f"{_quoted(code, _DISABLED | _UNUSABLE)}"
        )
    if code in _THROTTLED or code.startswith("Throttl") or status == _TOO_MANY_REQUESTS:
        return KmsThrottledError("AWS KMS asks for fewer calls")
    if operation == "unwrap" and code in _CORRUPT | _UNUSABLE:
        return CorruptKeyError(
            f"AWS KMS does not unwrap this data key{_quoted(code, _CORRUPT | _UNUSABLE)}: it was wrapped by another "
            "wrapping key, or the wrapped key was damaged or moved to another key id or keyring"
        )
    return KmsUnavailableError("AWS KMS failed to answer the call")


def _quoted(code: str, table: frozenset[str]) -> str:
    return f" ({code})" if code in table else ""
