"""The settings of the matrix: seconds in place of minutes, in the proportions of the defaults where these matter."""

from pathlib import Path
from typing import Any, Final

SHARED: Final = "shared"
"""Three data keys that the steady sidecar has in its cache, and the brief one has not."""
REFRESHED: Final = "refreshed"
ROLLING: Final = "rolling"
"""Both at the brief sidecar alone."""

ROLL_OVER_SECONDS: Final = 3.0
COMMON: Final[dict[str, Any]] = {
    # Longer than two attempts and the second that may lie between them: a throttled call is told as one.
    "kms.deadlineSeconds": 1.75,
    "keystore.timeoutSeconds": 1.5,
    "cache.unknownKeySeconds": 0.5,
}
SHORT: Final[dict[str, Any]] = {
    # A refresh that hangs must be known to hang before the entry ends, as by default, where 75 s are left for it.
    "cache.ttlSeconds": 5.0,
    "cache.refreshAfterFraction": 0.25,
    "cache.staleOnOutageSeconds": 8.0,
}
"""Of the brief sidecar; the steady one keeps its data keys as long as by default."""


def document(plugins: dict[str, Any], keystore_url: str, *, short: bool) -> dict[str, Any]:
    """A configuration file."""
    found: dict[str, Any] = {
        "plugins": plugins,
        "keyrings": {
            SHARED: {},
            REFRESHED: {},
            ROLLING: {"dataKeyRollOverLength": ROLL_OVER_SECONDS / 86_400},
        },
    }
    flat = {**COMMON, **(SHORT if short else {}), "keystore.url": keystore_url}
    flat |= {"server.http": "127.0.0.1:0", "server.manageKeys": True}
    for path, value in flat.items():
        section, name = path.split(".")
        found.setdefault(section, {})[name] = value
    return found


def sqlite_url(directory: Path) -> str:
    """The keystore of the KMS's faults."""
    return f"sqlite:///{directory}/keystore.db"
