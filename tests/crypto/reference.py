"""The format once more, slow and row by row, straight from ``protos/FORMAT.md``: what the column code must equal.

Nothing of ``sidecar.crypto`` is used but the names of its outcomes.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.cmac import CMAC

from sidecar.crypto.format import RowFailure

DETERMINISTIC, RANDOMIZED = 0xF8, 0xF9
LEAD = {DETERMINISTIC: 8, RANDOMIZED: 24}
LONGEST_VALUE = 8 * 1024 * 1024

Outcome = bytes | RowFailure | None
"""A value, why there is none, or NULL."""


def hkdf_sha512(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 without a salt."""
    extracted = hmac.digest(bytes(hashlib.sha512().digest_size), key, "sha512")
    block, out = b"", b""
    while len(out) < length:
        block = hmac.digest(extracted, block + info + bytes([len(out) // 64 + 1]), "sha512")
        out += block
    return out[:length]


def suite_key(data_key: bytes, suite: int) -> bytes:
    """The AES-SIV key of a suite, 64 bytes."""
    return hkdf_sha512(data_key, b"sidekey/v1 suite " + bytes([suite]), 64)


def encrypt(data_key: bytes, key_id: str, suite: int, associated_data: bytes, value: bytes, nonce: bytes) -> bytes:
    """One value; the deterministic suite takes no notice of the nonce."""
    header = bytes([suite]) + bytes.fromhex(key_id)
    nonces = [nonce] if suite == RANDOMIZED else []
    sealed = AESSIV(suite_key(data_key, suite)).encrypt(value, [header + associated_data, *nonces])
    return b"".join([header, *nonces, sealed])


def suite_of(ciphertext: bytes) -> int | None:
    """The suite of a well-formed ciphertext; None where it is malformed."""
    lead = LEAD.get(ciphertext[0]) if ciphertext else None
    if lead is None or not lead + 16 <= len(ciphertext) <= LONGEST_VALUE + lead + 16 or not any(ciphertext[1:8]):
        return None
    return ciphertext[0]


def decrypt(keys: Mapping[str, bytes | RowFailure], ciphertext: bytes, associated_data: bytes) -> bytes | RowFailure:
    """One value, or why there is none; ``keys`` holds data keys by key id."""
    suite = suite_of(ciphertext)
    if suite is None:
        return RowFailure.MALFORMED
    data_key = keys.get(ciphertext[1:8].hex(), RowFailure.UNKNOWN_KEY)
    if isinstance(data_key, RowFailure):
        return data_key
    lead = LEAD[suite]
    nonces = [ciphertext[8:24]] if suite == RANDOMIZED else []
    try:
        return AESSIV(suite_key(data_key, suite)).decrypt(
            ciphertext[lead:], [ciphertext[:8] + associated_data, *nonces]
        )
    except InvalidTag:
        return RowFailure.AUTHENTICATION_FAILED


def fixed_suite(ciphertexts: Sequence[bytes | None]) -> int:
    """The suite that says how wide a fixed-width column's plaintexts are: that of most rows, deterministic in a tie."""
    suites = [suite_of(ciphertext) for ciphertext in ciphertexts if ciphertext is not None]
    return max(LEAD, key=suites.count)


def double(block: bytes) -> bytes:
    """RFC 5297 section 2.3, bit by bit."""
    bits = [byte >> (7 - i) & 1 for byte in block for i in range(8)]
    shifted = int("".join(map(str, [*bits[1:], 0])), 2).to_bytes(16)
    return shifted[:15] + bytes([shifted[15] ^ 0x87 * bits[0]])


def siv_encrypt(key: bytes, components: Sequence[bytes], value: bytes) -> bytes:
    """AES-SIV from CMAC and CTR, in the words of RFC 5297 sections 2.4 to 2.6: no library's AES-SIV is asked."""
    half = len(key) // 2
    d = _cmac(key[:half], bytes(16))
    for component in components:
        d = _xor(double(d), _cmac(key[:half], component))
    if len(value) >= 16:
        t = value[:-16] + _xor(value[-16:], d)
    else:
        t = _xor(double(d), (value + b"\x80").ljust(16, b"\0"))
    siv = _cmac(key[:half], t)
    q = bytearray(siv)
    q[8] &= 0x7F
    q[12] &= 0x7F
    return siv + Cipher(algorithms.AES(key[half:]), modes.CTR(bytes(q))).encryptor().update(value)


def _cmac(key: bytes, data: bytes) -> bytes:
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))
