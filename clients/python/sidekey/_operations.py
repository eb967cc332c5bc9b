"""What both clients share: checked settings, and an exchange for each thing that a client can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from sidekey import _plan
from sidekey._channel import ChannelOptions, channel_options, resolve_target
from sidekey._exchange import Exchange
from sidekey._retry import Attempts
from sidekey._terms import Decryption, Encryption, Mode, OnError, Query, Reencryption
from sidekey._tokens import TokenExchange
from sidekey._values import TokenList, ValueList, Values
from sidekey.reports import ReencryptReport

if TYPE_CHECKING:
    import pyarrow as pa

    AnyArray = pa.Array[Any] | pa.ChunkedArray[Any]
    """An array or a chunked array; a chunked array's answer is chunked."""

R = TypeVar("R")


@dataclass(frozen=True)
class Settings:
    """What a client was made with, checked. Raises ValueError saying what would be right."""

    target: str
    timeout: float
    max_in_flight: int
    message_bytes: int
    credentials: grpc.ChannelCredentials | None = field(repr=False)
    options: ChannelOptions

    @classmethod
    def of(
        cls,
        target: str | None,
        timeout: float,
        max_in_flight: int,
        message_bytes: int,
        credentials: grpc.ChannelCredentials | None,
        options: Mapping[str, str | int] | None,
    ) -> Settings:
        if not timeout > 0:
            raise ValueError("timeout must be more than 0 seconds")
        if max_in_flight < 1:
            raise ValueError("max_in_flight must be 1 or more")
        if not 1 <= message_bytes <= _plan.MAX_MESSAGE_BYTES:
            raise ValueError(f"message_bytes must be from 1 to {_plan.MAX_MESSAGE_BYTES}")
        found = resolve_target(target)
        return cls(found, timeout, max_in_flight, message_bytes, credentials, channel_options(found, options))

    def attempts(self) -> Attempts:
        """The attempts at one message, from now."""
        return Attempts(self.target, self.timeout)


def encrypt_values(
    settings: Settings, values: Iterable[bytes | None], keyring: str, associated_data: bytes, mode: Mode
) -> Exchange[Values]:
    terms = Encryption(keyring, associated_data, mode)
    return Exchange(terms, ValueList(values, terms), settings.message_bytes)


def decrypt_values(
    settings: Settings,
    values: Iterable[bytes | None],
    associated_data: bytes,
    keyring: str | None,
    on_error: OnError,
) -> Exchange[Values]:
    terms = Decryption(associated_data, keyring, on_error)
    return Exchange(terms, ValueList(values, terms), settings.message_bytes)


def encrypt_array(
    settings: Settings, array: AnyArray, keyring: str, associated_data: bytes, mode: Mode
) -> Exchange[Any]:
    terms = Encryption(keyring, associated_data, mode)
    return Exchange(terms, _arrow().encryption(array, terms), settings.message_bytes)


def decrypt_array(
    settings: Settings,
    array: AnyArray,
    type_: pa.DataType | None,
    associated_data: bytes,
    keyring: str | None,
    on_error: OnError,
) -> Exchange[Any]:
    terms = Decryption(associated_data, keyring, on_error)
    return Exchange(terms, _arrow().decryption(array, type_, terms), settings.message_bytes)


def reencrypt_values(settings: Settings, values: Iterable[bytes | None], terms: Reencryption) -> Exchange[Values]:
    return Exchange(terms, ValueList(values, terms), settings.message_bytes)


def reencrypt_array(settings: Settings, array: AnyArray, terms: Reencryption) -> Exchange[Any]:
    return Exchange(terms, _arrow().reencryption(array, terms), settings.message_bytes)


def report(done: Exchange[R]) -> ReencryptReport[R]:
    """What became of a reencrypt."""
    return ReencryptReport(done.result(), done.unchanged, tuple(done.row_errors()))


def query_values(
    settings: Settings, values: Iterable[bytes | None], keyring: str, associated_data: bytes
) -> TokenExchange:
    terms = Query(keyring, associated_data)
    return TokenExchange(terms, TokenList(values, terms), settings.message_bytes)


def query_array(settings: Settings, array: AnyArray, keyring: str, associated_data: bytes) -> TokenExchange:
    terms = Query(keyring, associated_data)
    return TokenExchange(terms, _arrow().query(array, terms), settings.message_bytes)


def _arrow() -> ModuleType:
    try:
        from sidekey import _arrow
    except ModuleNotFoundError as error:
        if error.name not in ("pyarrow", "numpy"):
            raise
        raise ImportError("arrays need pyarrow and numpy: pip install 'sidekey[arrow]'") from None
    return _arrow
