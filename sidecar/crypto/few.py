"""Few values, one by one: OpenSSL's AES-SIV without a column around it, which only pays from some dozen values on.

Gives the same bytes as a column of the same values.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.format import HEADER_BYTES, MAX_VALUE_BYTES, RowFailure, Suite

_ZERO_KEY_ID = "00" * (HEADER_BYTES - 1)


class Header(NamedTuple):
    """What a ciphertext says of itself."""

    suite: Suite
    key_id: str


def read_header(ciphertext: bytes) -> Header | None:
    """The header of a ciphertext whose length is possible for its suite; None: malformed."""
    suite = Suite.of(ciphertext[0]) if len(ciphertext) >= HEADER_BYTES else None
    if suite is None or not suite.overhead_bytes <= len(ciphertext) <= MAX_VALUE_BYTES + suite.overhead_bytes:
        return None
    key_id = ciphertext[1:HEADER_BYTES].hex()
    return None if key_id == _ZERO_KEY_ID else Header(suite, key_id)


def decrypt(
    ciphertexts: Sequence[bytes],
    headers: Sequence[Header | None],
    keys: Mapping[str, DataKeyCipher | RowFailure],
    associated_data: bytes,
) -> list[bytes | RowFailure]:
    """Decrypt ciphertexts whose headers were read; in place of a value that fails stands why."""
    return [
        RowFailure.MALFORMED
        if header is None
        else _decrypt_one(ciphertext, header, keys[header.key_id], associated_data)
        for ciphertext, header in zip(ciphertexts, headers, strict=True)
    ]


def _decrypt_one(
    ciphertext: bytes, header: Header, key: DataKeyCipher | RowFailure, associated_data: bytes
) -> bytes | RowFailure:
    if isinstance(key, RowFailure):
        return key
    value = key.decrypt_value(ciphertext, header.suite, associated_data)
    return RowFailure.AUTHENTICATION_FAILED if value is None else value
