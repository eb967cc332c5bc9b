"""What each operation says beside its batch, checked, and the messages that say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import grpc

from sidekey import _plan
from sidekey.errors import InvalidArgumentError
from sidekey.v1 import encryption_pb2 as pb

Mode = Literal["randomized", "deterministic", "default"]
FixedMode = Literal["randomized", "deterministic"]
OnError = Literal["raise", "null"]
Request = pb.EncryptRequest | pb.DecryptRequest | pb.ReencryptRequest | pb.QueryTokensRequest
Batch = pb.ValueBatch | pb.ColumnBatch

_MODES = {
    "randomized": pb.MODE_RANDOMIZED,
    "deterministic": pb.MODE_DETERMINISTIC,
    "default": pb.MODE_UNSPECIFIED,
}


@dataclass(frozen=True, slots=True)
class Encryption:
    """What an encrypt says."""

    keyring: str
    associated_data: bytes
    mode: Mode

    def __post_init__(self) -> None:
        _check_associated_data(self.associated_data)
        if self.mode not in _MODES:
            raise _unknown('mode must be "randomized", "deterministic" or "default"')

    @property
    def fixed_overhead(self) -> int | None:
        """How many bytes longer than its value a ciphertext is; None where the keyring's default mode decides."""
        if self.mode == "default":
            return None
        return _plan.DETERMINISTIC_OVERHEAD if self.mode == "deterministic" else _plan.RANDOMIZED_OVERHEAD

    @property
    def overhead(self) -> int:
        """How many bytes longer than its value a ciphertext is, at most."""
        return self.fixed_overhead or _plan.RANDOMIZED_OVERHEAD

    @property
    def max_value_bytes(self) -> int:
        """The longest row that may be sent."""
        return _plan.MAX_VALUE_BYTES

    @property
    def nulls_bad_rows(self) -> bool:
        """Whether rows that fail come back NULL."""
        return False

    def request(self, batch: Batch) -> pb.EncryptRequest:
        return pb.EncryptRequest(
            keyring=self.keyring, associated_data=self.associated_data, mode=_MODES[self.mode], **_field(batch)
        )


class _OfCiphertexts:
    """What operations on ciphertexts have in common."""

    __slots__ = ()
    on_error: OnError

    @property
    def max_value_bytes(self) -> int:
        """The longest row that may be sent."""
        return _plan.MAX_VALUE_BYTES + _plan.RANDOMIZED_OVERHEAD

    @property
    def nulls_bad_rows(self) -> bool:
        """Whether rows that fail come back NULL."""
        return self.on_error == "null"


@dataclass(frozen=True, slots=True)
class Decryption(_OfCiphertexts):
    """What a decrypt says."""

    associated_data: bytes
    keyring: str | None
    on_error: OnError

    def __post_init__(self) -> None:
        _check_associated_data(self.associated_data)
        _check_on_error(self.on_error)

    @property
    def overhead(self) -> int:
        """The question is the longer side of a decrypt; nothing is added to it."""
        return 0

    def request(self, batch: Batch) -> pb.DecryptRequest:
        """Always asks for a report: only then are row numbers there to be put in the caller's terms."""
        return pb.DecryptRequest(
            associated_data=self.associated_data,
            keyring=self.keyring or "",
            on_error=pb.ON_ERROR_REPORT,
            **_field(batch),
        )


@dataclass(frozen=True, slots=True)
class Reencryption(_OfCiphertexts):
    """What a reencrypt says; ``to_associated_data`` None: as it was; ``to_mode`` None: each row keeps its own."""

    associated_data: bytes
    keyring: str | None
    to_keyring: str | None
    to_associated_data: bytes | None
    to_mode: FixedMode | None
    on_error: OnError

    def __post_init__(self) -> None:
        _check_associated_data(self.associated_data)
        if self.to_associated_data is not None:
            _check_associated_data(self.to_associated_data)
        _check_on_error(self.on_error)
        if self.to_mode not in (None, "randomized", "deterministic"):
            raise _unknown('to_mode must be "randomized", "deterministic" or None')

    @property
    def overhead(self) -> int:
        """How many bytes longer than its question a row of the answer is, at most."""
        return _plan.RANDOMIZED_OVERHEAD - _plan.DETERMINISTIC_OVERHEAD if self.to_mode == "randomized" else 0

    def request(self, batch: Batch) -> pb.ReencryptRequest:
        """As ``Decryption.request``."""
        request = pb.ReencryptRequest(
            associated_data=self.associated_data,
            keyring=self.keyring or "",
            on_error=pb.ON_ERROR_REPORT,
            to_keyring=self.to_keyring or "",
            to_mode=_MODES[self.to_mode or "default"],
            **_field(batch),
        )
        if self.to_associated_data is not None:
            request.to_associated_data = self.to_associated_data
        return request


@dataclass(frozen=True, slots=True)
class Query:
    """What a question for query tokens says."""

    keyring: str
    associated_data: bytes

    def __post_init__(self) -> None:
        _check_associated_data(self.associated_data)

    @property
    def overhead(self) -> int:
        """How many bytes longer than its value a token is."""
        return _plan.DETERMINISTIC_OVERHEAD

    @property
    def max_value_bytes(self) -> int:
        """The longest row that may be sent."""
        return _plan.MAX_VALUE_BYTES

    def request(self, batch: Batch) -> pb.QueryTokensRequest:
        return pb.QueryTokensRequest(keyring=self.keyring, associated_data=self.associated_data, **_field(batch))


def method_name(request: Request) -> str:
    """The call that takes the request."""
    return type(request).__name__.removesuffix("Request")


Terms = Encryption | Decryption | Reencryption


def _field(batch: Batch) -> dict[str, Any]:
    return {"values" if isinstance(batch, pb.ValueBatch) else "column": batch}


def _unknown(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(what, code=grpc.StatusCode.INVALID_ARGUMENT, reason="UNKNOWN_MODE")


def _check_on_error(on_error: object) -> None:
    if on_error not in ("raise", "null"):
        raise InvalidArgumentError('on_error must be "raise" or "null"', code=grpc.StatusCode.INVALID_ARGUMENT)


def _check_associated_data(associated_data: object) -> None:
    if not isinstance(associated_data, bytes):
        raise TypeError(f"associated_data must be bytes, not {type(associated_data).__name__}")
    if len(associated_data) > _plan.MAX_ASSOCIATED_DATA_BYTES:
        raise InvalidArgumentError(
            f"associated_data has {len(associated_data)} bytes; it may have {_plan.MAX_ASSOCIATED_DATA_BYTES}",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="VALUE_TOO_LARGE",
        )
