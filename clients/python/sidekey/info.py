"""What a sidecar says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from sidekey.v1 import info_pb2 as pb


@dataclass(frozen=True, slots=True)
class Suite:
    """One way of encrypting a value."""

    id: int
    """The first byte of its ciphertexts."""
    name: str
    overhead_bytes: int
    """How many bytes longer than the value a ciphertext is."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The sidecar's version, limits (bytes and rows), suites, and which KMS wraps its data keys."""

    version: str
    kms: str
    max_message_bytes: int
    max_rows: int
    max_value_bytes: int
    max_associated_data_bytes: int
    suites: tuple[Suite, ...]


def info_of(answer: pb.GetServerInfoResponse) -> ServerInfo:
    """The contract's message in plain values."""
    limits = answer.limits
    return ServerInfo(
        version=answer.version,
        kms=answer.kms,
        max_message_bytes=limits.max_message_bytes,
        max_rows=limits.max_rows,
        max_value_bytes=limits.max_value_bytes,
        max_associated_data_bytes=limits.max_associated_data_bytes,
        suites=tuple(Suite(suite.id, suite.name, suite.overhead_bytes) for suite in answer.suites),
    )
