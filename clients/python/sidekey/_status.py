"""From a failed call to a typed error: status, reason, and words that say who must act.

The reason travels as ``google.rpc.ErrorInfo`` in the trailing metadata. Its two messages are declared here, in a
descriptor pool of their own, so that the client neither needs googleapis-common-protos nor collides with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from sidekey import errors

_DETAILS_KEY = "grpc-status-details-bin"
_DOMAIN = "sidekey"
_MAX_TEXT = 500

_BY_CODE: dict[grpc.StatusCode, type[errors.SidekeyError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.PermissionDeniedError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.KeyStateError,
    grpc.StatusCode.DATA_LOSS: errors.DecryptionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
}

# Where the status alone would name the wrong one to act.
_BY_REASON: dict[str, type[errors.SidekeyError]] = {
    "CORRUPT_KEY": errors.KeyStateError,  # an operator: no other bytes and no other associated data would help
    "KEYRING_EXISTS": errors.InvalidArgumentError,  # the caller: with other settings, or by asking to replace them
}


class FailedCall(Protocol):
    """What grpc's and grpc.aio's errors have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt, in plain values."""

    code: grpc.StatusCode
    reason: str
    """"" where the sidecar said none: then the failure is the channel's, a proxy's or a foreign server's."""
    text: str


def _declare() -> tuple[type[message.Message], type[message.Message]]:
    """google.rpc.Status (``details`` as pairs of type URL and bytes) and google.rpc.ErrorInfo, in a private pool."""
    file = descriptor_pb2.FileDescriptorProto(name="sidekey_status.proto", package="sidekey.private", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    shapes = {
        "Any": [("type_url", 1, field.TYPE_STRING), ("value", 2, field.TYPE_BYTES)],
        "ErrorInfo": [("reason", 1, field.TYPE_STRING), ("domain", 2, field.TYPE_STRING)],
        "Status": [("details", 3, field.TYPE_MESSAGE)],
    }
    for name, fields in shapes.items():
        shape = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            added = shape.field.add(name=field_name, number=number, type=kind, label=field.LABEL_OPTIONAL)
            if kind == field.TYPE_MESSAGE:
                added.label, added.type_name = field.LABEL_REPEATED, ".sidekey.private.Any"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    status, info = (pool.FindMessageTypeByName(f"sidekey.private.{name}") for name in ("Status", "ErrorInfo"))
    return message_factory.GetMessageClass(status), message_factory.GetMessageClass(info)


_Status, _ErrorInfo = _declare()


def _parse(kind: type[message.Message], raw: bytes) -> Any:
    """The message in ``raw``, or an empty one: what is malformed says nothing, and must not hide the status."""
    try:
        return kind.FromString(raw)
    except (message.DecodeError, UnicodeDecodeError):
        return kind()


def reason_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The reason in the ErrorInfo of Sidekey's own domain; "" where there is none or it is malformed."""
    for key, raw in metadata or ():
        if key != _DETAILS_KEY or not isinstance(raw, bytes):
            continue
        for detail in _parse(_Status, raw).details:
            if detail.type_url.endswith("/google.rpc.ErrorInfo"):
                info = _parse(_ErrorInfo, detail.value)
                if info.domain == _DOMAIN:
                    return str(info.reason)
    return ""


def failure_of(call: FailedCall) -> Failure:
    """A failed attempt in plain values; nothing in it refers to the call, whose request holds values."""
    return Failure(call.code(), reason_of(call.trailing_metadata()), (call.details() or "")[:_MAX_TEXT])


def error_of(failure: Failure, *, target: str, seconds: float, attempts: int) -> errors.SidekeyError:
    """The typed error of a call that is given up.

    The sidecar's own texts are written for callers and are passed on. Without a reason the text is not the sidecar's;
    only the channel's account of why it cannot connect is passed on then, since nothing else helps to find the cause.
    """
    kind = _BY_REASON.get(failure.reason) or _BY_CODE.get(failure.code, errors.SidekeyError)
    if kind is errors.UnavailableError:
        return _unavailable(failure, target, seconds, attempts)
    text = failure.text if failure.reason else _words(failure.code, target, seconds)
    retryable = failure.code is grpc.StatusCode.DEADLINE_EXCEEDED or (
        failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED and bool(failure.reason)
    )
    return kind(text, code=failure.code, reason=failure.reason, retryable=retryable)


def _unavailable(failure: Failure, target: str, seconds: float, attempts: int) -> errors.UnavailableError:
    tried = f"{attempts} attempts over {seconds:.1f} s"
    if failure.reason:
        text = (
            f"the sidecar at {target} could not do it in {tried}: {failure.text}; "
            "check that it reaches its KMS and keystore (its log and /readyz say more)"
        )
    else:
        text = (
            f"no answer from {target} in {tried}: {failure.text or 'no connection'}; "
            "check that the sidecar runs and listens there (sidekey serve)"
        )
    error = errors.UnavailableError(
        text,
        code=failure.code,
        reason=failure.reason,
        retryable=True,
    )
    error.target, error.seconds, error.attempts = target, seconds, attempts
    return error


def _words(code: grpc.StatusCode, target: str, seconds: float) -> str:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {target} within {seconds:.1f} s; raise the client's timeout if the sidecar is only slow"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"the server at {target} does not know this call: not a Sidekey sidecar, or an older one"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return f"a message is too large for the sidecar at {target} or the way to it; lower the client's message_bytes"
    return f"the call to {target} failed with {code.name}"
