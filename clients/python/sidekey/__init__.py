"""Sidekey's client: encrypt, decrypt, reencrypt and query whole columns through the sidecar.

``Client`` for threads, ``AsyncClient`` for asyncio; both raise the errors below, sorted by what their caller can do.
"""

from sidekey.aio import AsyncClient
from sidekey.client import Client
from sidekey.errors import (
    DeadlineExceededError,
    DecryptionError,
    InvalidArgumentError,
    KeyStateError,
    LimitError,
    NotFoundError,
    PermissionDeniedError,
    RowError,
    SidekeyError,
    UnavailableError,
)
from sidekey.info import ServerInfo, Suite
from sidekey.reports import ReencryptReport

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineExceededError",
    "DecryptionError",
    "InvalidArgumentError",
    "KeyStateError",
    "LimitError",
    "NotFoundError",
    "PermissionDeniedError",
    "ReencryptReport",
    "RowError",
    "ServerInfo",
    "SidekeyError",
    "Suite",
    "UnavailableError",
]
