"""Keystores by their URL. Imports a database's driver only for a URL that names it."""

import re
from pathlib import Path
from typing import Final

from sidecar.keystore.port import VersionedKeystore

_SQLITE: Final = "sqlite:///"
_POSTGRESQL: Final = "postgresql://"
_DYNAMODB: Final = "dynamodb://"
_SQLITE_FORM: Final = "sqlite:///relative/path or sqlite:////absolute/path"
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,30}")
_SUPPORTED: Final = "supported: sqlite:///path, postgresql://user@host/database, dynamodb://table?region=…"
_BUSY_FRACTION: Final = 0.6
"""Of a call's time, what may go into waiting for SQLite's lock."""


def create(url: str, *, max_connections: int = 4, timeout_seconds: float = 5.0) -> VersionedKeystore:
    """The keystore of a URL, not yet open: SQLite, PostgreSQL (see ``postgresql.from_url``) or DynamoDB.

    SQLite: ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.

    Args:
        max_connections: to a database that has connections; made when needed, and kept.
        timeout_seconds: bounds each call.

    Raises ``ValueError`` that says what would be right. It does not repeat the URL, which may hold a password.
    """
    if url.startswith(_SQLITE):
        return _sqlite(url.removeprefix(_SQLITE), max_connections, timeout_seconds)
    if url.startswith(_POSTGRESQL):
        from sidecar.keystore import postgresql

        return postgresql.from_url(url, max_connections=max_connections, timeout_seconds=timeout_seconds)
    if url.startswith(_DYNAMODB):
        from sidecar.keystore import dynamodb

        return dynamodb.from_url(url, timeout_seconds=timeout_seconds)
    raise ValueError(_wrong_scheme(url))


def upgrades_itself(url: str) -> bool:
    """Whether a sidecar may create and upgrade this keystore unasked: it has it to itself, as with SQLite's file."""
    return url.startswith(_SQLITE)


def _wrong_scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return f"it must be a URL; {_SUPPORTED}"
    if scheme == "sqlite":
        return "sqlite takes three slashes and then the path, so four in all where that is absolute: " + _SQLITE_FORM
    if scheme.startswith("postgres"):
        return f"unknown scheme '{scheme}'; did you mean 'postgresql'?"
    return f"unknown scheme '{scheme}'; {_SUPPORTED}"


def _sqlite(path: str, max_connections: int, timeout_seconds: float) -> VersionedKeystore:
    from sidecar.keystore.sql import SqlKeystore
    from sidecar.keystore.sqlite import Sqlite

    if not path or path == ":memory:" or path.startswith("file:") or set(path) & set("?#\0"):
        raise ValueError(f"it must name a plain file: {_SQLITE_FORM}")
    database = Sqlite(Path(path), max_connections=max_connections, busy_seconds=_BUSY_FRACTION * timeout_seconds)
    return SqlKeystore(database, timeout_seconds=timeout_seconds)
