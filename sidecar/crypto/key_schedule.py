"""From a data key to what uses it: a key for each suite, and the commitment. Normative text: ``protos/FORMAT.md``."""

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidecar.crypto.format import Suite

DATA_KEY_BYTES = 32
COMMITMENT_BYTES = 32
_SUITE_KEY_BYTES = 64


def suite_key(data_key: bytes | bytearray, suite: Suite) -> bytes:
    """The 64 bytes of AES-SIV key of a suite: the CMAC key, then the CTR key (RFC 5297 section 2.2)."""
    return _expand(data_key, b"sidekey/v1 suite " + bytes([suite]), _SUITE_KEY_BYTES)


def commitment(data_key: bytes | bytearray) -> bytes:
    """32 bytes that identify a data key and tell nothing of it; kept beside the wrapped key."""
    return _expand(data_key, b"sidekey/v1 commitment", COMMITMENT_BYTES)


def commits_to(expected: bytes, data_key: bytes | bytearray) -> bool:
    """Whether ``expected`` is the data key's commitment; in constant time."""
    return bytes_eq(expected, commitment(data_key))


def overwrite(key: bytearray) -> None:
    """Zero key bytes in place: the copies that OpenSSL's cipher contexts hold are the only ones that go on."""
    key[:] = bytes(len(key))


def _expand(data_key: bytes | bytearray, info: bytes, length: int) -> bytes:
    if len(data_key) != DATA_KEY_BYTES:
        raise ValueError(f"a data key has {DATA_KEY_BYTES} bytes")
    return HKDF(algorithm=SHA512(), length=length, salt=None, info=info).derive(data_key)
