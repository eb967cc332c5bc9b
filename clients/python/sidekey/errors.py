"""What the client raises: one class for each thing that its caller can do about it.

No error holds a value, a ciphertext or associated data. All of them pickle, so that they cross process boundaries whole
(a Spark task's failure, a process pool's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that could not be decrypted."""

    row: int
    """The row's number in what the caller passed, from 0."""
    code: str
    """A name of the contract's RowErrorCode without its prefix, for example ``AUTHENTICATION_FAILED``."""
    retryable: bool
    """Whether the same call may succeed later."""


class SidekeyError(Exception):
    """Root of what the client raises; raised itself only where no subclass fits (a defect, or a foreign server).

    Attributes:
        code: The call's status; for errors found before sending, the status that the sidecar would have given.
        reason: The stable, machine-readable cause, for example ``KMS_UNAVAILABLE``; "" where the sidecar gave none.
        retryable: Whether the same call may succeed later without anybody changing anything.
        rows: The first rows that failed, if the error is about rows (at most 100).
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        retryable: bool = False,
        rows: tuple[RowError, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retryable = retryable
        self.rows = rows

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[SidekeyError], args: tuple[Any, ...], state: dict[str, Any]) -> SidekeyError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InvalidArgumentError(SidekeyError, ValueError):
    """The arguments do not hold together; the text says where and what would be right."""


class NotFoundError(SidekeyError):
    """The keyring, or the data key that was named, does not exist."""


class PermissionDeniedError(SidekeyError):
    """The caller may not do this, or the KMS denies the sidecar the wrapping key: an operator must act."""


class KeyStateError(SidekeyError):
    """The data key is disabled, destroyed or corrupt, or belongs to another keyring: an operator must act."""


class DecryptionError(SidekeyError):
    """Rows are no ciphertexts of this sidecar, were changed, or were encrypted under other associated data."""


class LimitError(SidekeyError):
    """The sidecar has too much to do, or the message is too large for it: send less, or later."""


class UnavailableError(SidekeyError):
    """The sidecar, or the KMS or keystore behind it, stayed away for as long as the client's timeout allows.

    Attributes:
        target: Where the client looked for the sidecar.
        seconds: For how long it tried.
        attempts: How often it tried.
    """

    target: str = ""
    seconds: float = 0.0
    attempts: int = 0


class DeadlineExceededError(SidekeyError):
    """The sidecar did not answer within the client's timeout."""
