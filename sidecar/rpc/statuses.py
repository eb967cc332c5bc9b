"""The one table from the taxonomy of errors to gRPC statuses, and the ErrorInfo that goes with each."""

from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from sidecar import errors

DOMAIN = "sidekey"
DETAILS_KEY = "grpc-status-details-bin"

STATUS_OF: dict[type[errors.SidekeyError], StatusCode] = {
    errors.InvalidRequestError: StatusCode.INVALID_ARGUMENT,
    errors.InvalidBatchError: StatusCode.INVALID_ARGUMENT,
    errors.ValueTooLargeError: StatusCode.INVALID_ARGUMENT,
    errors.UnknownModeError: StatusCode.INVALID_ARGUMENT,
    errors.ModeNotAllowedError: StatusCode.INVALID_ARGUMENT,
    errors.UnknownKeyringError: StatusCode.NOT_FOUND,
    errors.NoSuchKeyError: StatusCode.NOT_FOUND,
    errors.KeyDisabledError: StatusCode.FAILED_PRECONDITION,
    errors.KeyDestroyedError: StatusCode.FAILED_PRECONDITION,
    errors.KmsDisabledError: StatusCode.FAILED_PRECONDITION,
    errors.WrongKeyringError: StatusCode.FAILED_PRECONDITION,
    errors.StateTransitionError: StatusCode.FAILED_PRECONDITION,
    errors.KeyringExistsError: StatusCode.FAILED_PRECONDITION,
    errors.DecryptFailedError: StatusCode.DATA_LOSS,
    errors.UnknownKeyError: StatusCode.DATA_LOSS,
    errors.CorruptKeyError: StatusCode.DATA_LOSS,
    errors.KmsDeniedError: StatusCode.PERMISSION_DENIED,
    errors.ManagementOffError: StatusCode.PERMISSION_DENIED,
    errors.LimitExceededError: StatusCode.RESOURCE_EXHAUSTED,
    errors.KeyUnavailableError: StatusCode.UNAVAILABLE,
    errors.KmsThrottledError: StatusCode.UNAVAILABLE,
    errors.KmsUnavailableError: StatusCode.UNAVAILABLE,
    errors.KeystoreUnavailableError: StatusCode.UNAVAILABLE,
    errors.DrainingError: StatusCode.UNAVAILABLE,
    # These end a process before it serves; a call that meets one anyway learns nothing of it.
    errors.StartupError: StatusCode.INTERNAL,
    errors.SelfTestError: StatusCode.INTERNAL,
    errors.SidekeyError: StatusCode.INTERNAL,
}

INTERNAL_TEXT = "internal error"


def answer_to(error: Exception) -> tuple[StatusCode, str, bytes]:
    """Status code, text, and the value of ``grpc-status-details-bin`` for an error; the unmapped is INTERNAL."""
    code, text, reason = StatusCode.INTERNAL, INTERNAL_TEXT, errors.SidekeyError.reason
    if isinstance(error, errors.SidekeyError):
        mapped = STATUS_OF.get(type(error), StatusCode.INTERNAL)
        if mapped is not StatusCode.INTERNAL:
            code, text, reason = mapped, str(error), error.reason
    info = Any()
    info.Pack(ErrorInfo(reason=reason, domain=DOMAIN))
    number: int = code.value[0]
    return code, text, Status(code=number, message=text, details=[info]).SerializeToString()
