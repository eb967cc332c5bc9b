"""The bytes of a ciphertext: ``suite (1) || key_id (7) || body``. Normative text: ``protos/FORMAT.md``."""

from dataclasses import dataclass
from enum import IntEnum

KEY_ID_BYTES = 7
HEADER_BYTES = 1 + KEY_ID_BYTES
SIV_BYTES = 16
NONCE_BYTES = 16
MAX_VALUE_BYTES = 8 * 1024 * 1024
MAX_ASSOCIATED_DATA_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Layout:
    name: str
    lead_bytes: int
    """What stands before the siv."""
    overhead_bytes: int
    """How much longer than its value a ciphertext is."""


class Suite(IntEnum):
    """The first byte of a ciphertext. 0xF8 … 0xFF never occur in UTF-8, so a ciphertext is never mistaken for text."""

    DETERMINISTIC = 0xF8
    RANDOMIZED = 0xF9

    @classmethod
    def of(cls, first_byte: int) -> "Suite | None":
        """The suite of a ciphertext that begins with this byte; None where it is no suite of this version."""
        return next((suite for suite in cls if suite == first_byte), None)

    @property
    def title(self) -> str:
        """The suite's name in the format document."""
        return _LAYOUTS[self].name

    @property
    def lead_bytes(self) -> int:
        """Bytes before the siv: the header, and the nonce where there is one."""
        return _LAYOUTS[self].lead_bytes

    @property
    def overhead_bytes(self) -> int:
        """Bytes by which a ciphertext is longer than its value."""
        return _LAYOUTS[self].overhead_bytes


_LAYOUTS = {
    Suite.DETERMINISTIC: _Layout("AES-256-SIV, deterministic", HEADER_BYTES, HEADER_BYTES + SIV_BYTES),
    Suite.RANDOMIZED: _Layout(
        "AES-256-SIV, randomized", HEADER_BYTES + NONCE_BYTES, HEADER_BYTES + NONCE_BYTES + SIV_BYTES
    ),
}


class RowFailure(IntEnum):
    """Why a row could not be decrypted; 1 … 8 are numbered as the contract's ``RowErrorCode``."""

    MALFORMED = 1
    UNKNOWN_KEY = 2
    KEY_DISABLED = 3
    KEY_DESTROYED = 4
    KEY_UNAVAILABLE = 5
    AUTHENTICATION_FAILED = 6
    PERMISSION_DENIED = 7
    WRONG_KEYRING = 8
    KEY_CORRUPT = 9
    """The contract has no code for it: it goes out as KEY_UNAVAILABLE that is not retryable."""

    @property
    def retryable(self) -> bool:
        """Whether the same row may decrypt later."""
        return self is RowFailure.KEY_UNAVAILABLE


def header(suite: Suite, key_id: str) -> bytes:
    """The 8 bytes that begin every ciphertext of a suite under a data key."""
    return bytes([suite]) + bytes.fromhex(key_id)


def key_id_from(random: bytes) -> str | None:
    """A new key id from 7 random bytes, as 14 lower-case hex digits; None for the one value that is no id: zero."""
    if len(random) != KEY_ID_BYTES:
        raise ValueError(f"a key id is made from {KEY_ID_BYTES} bytes")
    return random.hex() if any(random) else None
