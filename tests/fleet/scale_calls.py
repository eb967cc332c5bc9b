"""One call of each method of a keystore's port, about a keyring in the midst of many."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from sidecar.keystore.port import KeyState, Keystore, Usage, WrappedCopy
from tests.fleet.scale import Size
from tests.keystore.records import record

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
PAGE: Final = 4
"""Rows of each page, and data keys of each call that takes many."""
_EMPTY: Final = frozenset({"keyring", "add_usage"})
"""Calls without an answer: no keyring was created by call."""

Call = Callable[[Keystore, Size], Awaitable[object]]


def _middle(size: Size) -> int:
    return size.keyrings // 2


def _name(size: Size) -> str:
    return size.keyring(_middle(size))


def _place(size: Size) -> tuple[str, int]:
    return _name(size), size.generations // 2


def _oldest(size: Size) -> str:
    return size.key_id(_middle(size), 1)


def _some(size: Size) -> list[str]:
    return [size.key_id(_middle(size), generation) for generation in range(1, PAGE + 1)]


def _another(size: Size) -> tuple[WrappedCopy]:
    return (WrappedCopy(f"another-{size.keyrings}", bytes(60)),)


# In this order: each finds what those before it have left, however large the keystore is.
CALLS: Final[Mapping[str, Call]] = {
    "get": lambda keystore, size: keystore.get(_oldest(size)),
    "get_many": lambda keystore, size: keystore.get_many(_some(size)),
    "primary": lambda keystore, size: keystore.primary(_name(size)),
    "newest_generation": lambda keystore, size: keystore.newest_generation(_name(size)),
    "keyring": lambda keystore, size: keystore.keyring(_name(size)),
    "list_keyrings": lambda keystore, size: keystore.list_keyrings(after=_name(size), limit=PAGE),
    "list_keys": lambda keystore, size: keystore.list_keys(after=_place(size), limit=PAGE),
    "list_keys of one": lambda keystore, size: keystore.list_keys(_name(size), after=_place(size), limit=PAGE),
    "insert": lambda keystore, size: keystore.insert(record(_name(size), size.generations + 1)),
    "disable": lambda keystore, size: keystore.set_state(_oldest(size), KeyState.DISABLED, at=NOW),
    "enable": lambda keystore, size: keystore.set_state(_oldest(size), KeyState.ENABLED, at=NOW),
    "replace_copies": lambda keystore, size: keystore.replace_copies(_oldest(size), size.copies, _another(size)),
    "add_usage": lambda keystore, size: keystore.add_usage(dict.fromkeys(_some(size), Usage(1, 1, NOW, NOW))),
}


async def calling(keystore: Keystore, size: Size, what: str) -> None:
    """Make one of the calls; fails where it finds nothing, since that would prove nothing."""
    assert await CALLS[what](keystore, size) or what in _EMPTY, what
