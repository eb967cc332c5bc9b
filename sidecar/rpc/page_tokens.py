"""Page tokens: where a listing goes on, written so that any sidecar can read it.

A token is a position and no secret: whoever makes one up reads from a place of its choice what it may read anyway. It
is checked so that a caller that mixes up its listings is told, and so that nothing unbounded reaches the keystore.
"""

import base64
import hashlib
import json
from typing import Any, Final

from sidecar.errors import InvalidRequestError
from sidecar.keys.inventory import Position
from sidecar.keystore.rows import is_keyring

_VERSION: Final = 1
_MOST_CHARACTERS: Final = 2200
"""At 255 characters of a name, each of four bytes or escaped in six, there are 2,124."""
_MAX_GENERATION: Final = 2**63


class Listing:
    """The pages of one question: a method, and whatever else chooses what it lists."""

    def __init__(self, method: str, *chosen: Any) -> None:
        """``chosen``: plain values that JSON holds, the same ones for every page."""
        text = json.dumps([method, *chosen], sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest()[:16]

    def token(self, name: str, generation: int | None = None) -> str:
        """The token of a place in it: after a keyring, or after a generation of it."""
        text = json.dumps(
            {"v": _VERSION, "of": self._digest, "at": [name, generation]}, separators=(",", ":"), ensure_ascii=False
        )
        return base64.urlsafe_b64encode(text.encode()).decode()

    def name(self, token: str) -> str:
        """The keyring after which to go on; empty where there is no token. Raises ``InvalidRequestError``."""
        if not token:
            return ""
        name, generation = self._read(token)
        if generation is not None:
            raise _refused()
        return name

    def position(self, token: str) -> Position | None:
        """The place after which to go on; None where there is no token. Raises ``InvalidRequestError``."""
        if not token:
            return None
        name, generation = self._read(token)
        if generation is None:
            raise _refused()
        return name, generation

    def _read(self, token: str) -> tuple[str, int | None]:
        parsed = _parsed(token)
        if not isinstance(parsed, dict) or parsed.get("v") != _VERSION or parsed.keys() != {"v", "of", "at"}:
            raise _refused()
        if parsed["of"] != self._digest:
            raise InvalidRequestError("page_token is of another listing: its pages must be asked for in the same words")
        match parsed["at"]:
            # Whatever the keystore may hold: a name that no call can make is written there by others, and is listed.
            case [str(name), None] if is_keyring(name):
                return name, None
            case [str(name), int(generation)] if (
                is_keyring(name) and not isinstance(generation, bool) and 0 < generation < _MAX_GENERATION
            ):
                return name, generation
        raise _refused()


def _parsed(token: str) -> object:
    if len(token) > _MOST_CHARACTERS:
        raise _refused()
    try:
        return json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):  # RecursionError: brackets in brackets, as deep as the token is long
        raise _refused() from None


def _refused() -> InvalidRequestError:
    return InvalidRequestError("page_token is not one: it must be empty, or the next_page_token of the page before")
