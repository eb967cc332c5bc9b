"""Keystores by their URL."""

from pathlib import Path
from typing import Final

from sidecar.keystore.port import Keystore
from sidecar.keystore.sql import SqlKeystore
from sidecar.keystore.sqlite import Sqlite

_SQLITE: Final = "sqlite:///"
_SUPPORTED: Final = "supported: sqlite:///path"


def create(url: str) -> Keystore:
    """The keystore of a URL, not yet open: ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.

    Raises ``ValueError`` that says what would be right. It does not repeat the URL, which may hold a password.
    """
    if url.startswith(_SQLITE):
        path = url.removeprefix(_SQLITE)
        if not path or path == ":memory:" or path.startswith("file:") or set(path) & set("?#\0"):
            raise ValueError(f"keystore URL: must name a plain file; {_SUPPORTED}")
        return SqlKeystore(Sqlite(Path(path)))
    if url.startswith(("postgresql:", "postgresql+", "dynamodb:")):
        scheme = "postgresql" if url.startswith("postgresql") else "dynamodb"
        raise ValueError(f"keystore URL: {scheme} is not in this version; {_SUPPORTED}")
    raise ValueError(f"keystore URL: unknown scheme; {_SUPPORTED}")
