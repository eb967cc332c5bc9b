"""What requests say beside their batch, checked: keyring names, modes, associated data, what to do with bad rows."""

from typing import Final

from sidekey.v1 import encryption_pb2 as pb

from sidecar.crypto.format import MAX_ASSOCIATED_DATA_BYTES, Suite
from sidecar.errors import UnknownModeError, ValueTooLargeError
from sidecar.keys.inventory import check_name

DEFAULT_KEYRING: Final = "default"

_SUITES: dict[int, Suite | None] = {
    pb.MODE_UNSPECIFIED: None,
    pb.MODE_RANDOMIZED: Suite.RANDOMIZED,
    pb.MODE_DETERMINISTIC: Suite.DETERMINISTIC,
}


def suite_of(mode: int) -> Suite | None:
    """The suite of a mode; None for MODE_UNSPECIFIED. Raises UnknownModeError."""
    try:
        return _SUITES[mode]
    except KeyError:
        raise UnknownModeError(f"mode {mode} is unknown; use MODE_RANDOMIZED or MODE_DETERMINISTIC") from None


def keyring_name(name: str) -> str:
    """The name, if it is one. Raises InvalidRequestError."""
    check_name(name)
    return name


def associated_data_of(data: bytes) -> bytes:
    """The associated data, if it is not too long. Raises ValueTooLargeError."""
    if len(data) > MAX_ASSOCIATED_DATA_BYTES:
        raise ValueTooLargeError(
            f"associated_data has {len(data)} bytes; it may have at most {MAX_ASSOCIATED_DATA_BYTES}"
        )
    return data


def check_on_error(on_error: int) -> None:
    """Raise UnknownModeError for a way to treat bad rows that this version does not know."""
    if on_error not in (pb.ON_ERROR_UNSPECIFIED, pb.ON_ERROR_REPORT):
        raise UnknownModeError(f"on_error {on_error} is unknown; use ON_ERROR_REPORT or leave it out")
