"""Makes the frozen vectors of the ciphertext format from ``protos/FORMAT.md``, by OpenSSL and hashlib alone.

Nothing of this project's code is used, so the vectors say what the format is and not what the code does. Every input is
derived from a label, so a second run gives the same files to the byte: ``python tests/vectors/make.py [DIRECTORY]``.
"""

import hashlib
import hmac
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

Vector = dict[str, Any]

DETERMINISTIC, RANDOMIZED = 0xF8, 0xF9
LENGTHS = (0, 1, 15, 16, 17, 31, 32, 33, 100, 1000)
KEY_IDS = ("6b1f00d2c9a4e7", "00000000000001", "ffffffffffffff")
UNKNOWN_KEY_ID = "6b1f00d2c9a4e8"
KEYRINGS = ("default", "payments-eu.2", 'naïve "ключ"\\')


def drawn(label: str, size: int) -> bytes:
    """``size`` bytes that belong to a label: SHAKE-256 of it."""
    return hashlib.shake_256(f"sidekey test vector: {label}".encode()).digest(size)


def data_key(key_id: str) -> bytes:
    return drawn(f"data key {key_id}", 32)


def hkdf_sha512(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 without a salt, up to one block of 64 bytes."""
    extracted = hmac.digest(bytes(64), key, "sha512")
    return hmac.digest(extracted, info + b"\1", "sha512")[:length]


def suite_key(key_id: str, suite: int) -> bytes:
    return hkdf_sha512(data_key(key_id), b"sidekey/v1 suite " + bytes([suite]), 64)


def encrypt(key_id: str, suite: int, nonce: bytes, associated_data: bytes, value: bytes) -> bytes:
    header = bytes([suite]) + bytes.fromhex(key_id)
    nonces = [nonce] if suite == RANDOMIZED else []
    sealed = AESSIV(suite_key(key_id, suite)).encrypt(value, [header + associated_data, *nonces])
    return b"".join([header, *nonces, sealed])


# --- ciphertexts.json


def keys() -> list[Vector]:
    return [
        {
            "key_id": key_id,
            "data_key": data_key(key_id).hex(),
            "suite_keys": {f"{suite:02x}": suite_key(key_id, suite).hex() for suite in (DETERMINISTIC, RANDOMIZED)},
            "commitment": hkdf_sha512(data_key(key_id), b"sidekey/v1 commitment", 32).hex(),
        }
        for key_id in KEY_IDS
    ]


def valid() -> Iterator[Vector]:
    number = 0
    for suite in (DETERMINISTIC, RANDOMIZED):
        for length in LENGTHS:
            for unit, times in ((b"", 1), (b"table=t;column=c", 1), (b"\x00\x01\xfe\xff", 16_384)):
                key_id = KEY_IDS[number % len(KEY_IDS)]
                nonce = drawn(f"nonce {number}", 16) if suite == RANDOMIZED else b""
                value = drawn(f"plaintext {length}", length)
                yield {
                    "suite": f"{suite:02x}",
                    "key_id": key_id,
                    "nonce": nonce.hex(),
                    "associated_data": unit.hex(),
                    "associated_data_times": times,
                    "plaintext": value.hex(),
                    "ciphertext": encrypt(key_id, suite, nonce, unit * times, value).hex(),
                }
                number += 1


# --- invalid.json

BOUND = b"table=t;column=c"
VALUE = drawn("plaintext of invalid.json", 33)
NONCE = drawn("nonce of invalid.json", 16)


def sealed(suite: int) -> bytes:
    return encrypt(KEY_IDS[0], suite, NONCE, BOUND, VALUE)


def invalid() -> Iterator[Vector]:
    for suite, lead in ((DETERMINISTIC, 8), (RANDOMIZED, 24)):
        name = f"suite {suite:02x}"
        good = sealed(suite)
        for rule, code, ciphertext in (
            *truncated(good, lead),
            *with_other_headers(good, suite),
            *flipped(good, lead),
            *wrongly_made(good, suite, lead),
        ):
            yield entry(f"{name}: {rule}", code, ciphertext, BOUND)
        for rule, other in other_associated_data(good):
            yield entry(f"{name}: {rule}", "AUTHENTICATION_FAILED", good, other)


def entry(rule: str, code: str, ciphertext: bytes, associated_data: bytes) -> Vector:
    return {"rule": rule, "error": code, "ciphertext": ciphertext.hex(), "associated_data": associated_data.hex()}


def truncated(good: bytes, lead: int) -> Iterator[tuple[str, str, bytes]]:
    shortest = lead + 16
    for size in sorted({0, 1, 7, 8, 9, 23, 24, 25, 39, 40, 41, len(good) - 1}):
        code = "MALFORMED" if size < shortest else "AUTHENTICATION_FAILED"
        yield f"cut to {size} bytes", code, good[:size]
    yield "a byte too many", "AUTHENTICATION_FAILED", good + b"\0"
    yield "siv and ct cut away, zeros in their place", "AUTHENTICATION_FAILED", good[:lead] + bytes(16)


def with_other_headers(good: bytes, suite: int) -> Iterator[tuple[str, str, bytes]]:
    for first in (0x00, 0x7F, 0xC3, 0xF7, 0xFA, 0xFB, 0xFF):
        yield f"unknown suite {first:02x}", "MALFORMED", bytes([first]) + good[1:]
    other = DETERMINISTIC + RANDOMIZED - suite
    yield f"relabelled as suite {other:02x}", "AUTHENTICATION_FAILED", bytes([other]) + good[1:]
    yield "key id of zero", "MALFORMED", good[:1] + bytes(7) + good[8:]
    yield (
        "under the key id of another data key",
        "AUTHENTICATION_FAILED",
        good[:1] + bytes.fromhex(KEY_IDS[1]) + good[8:],
    )
    yield "under an unknown key id", "UNKNOWN_KEY", good[:1] + bytes.fromhex(UNKNOWN_KEY_ID) + good[8:]


def flipped(good: bytes, lead: int) -> Iterator[tuple[str, str, bytes]]:
    spots = {"siv, first bit": 8 * lead, "siv, last bit": 8 * lead + 127}
    spots |= {"ct, first bit": 8 * lead + 128, "ct, last bit": 8 * len(good) - 1}
    # Bits 31 and 63 of the siv do not reach the counter (RFC 5297 section 2.6): only the comparison sees them.
    spots |= {"siv, bit 63": 8 * (lead + 8), "siv, bit 31": 8 * (lead + 12)}
    if lead == 24:
        spots |= {"nonce, first bit": 64, "nonce, last bit": 191}
    for name, bit in spots.items():
        damaged = bytearray(good)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        yield f"flipped: {name}", "AUTHENTICATION_FAILED", bytes(damaged)


def wrongly_made(good: bytes, suite: int, lead: int) -> Iterator[tuple[str, str, bytes]]:
    """Ciphertexts of programs that misread the format."""
    header, nonces = good[:8], [NONCE] if suite == RANDOMIZED else []
    right = suite_key(KEY_IDS[0], suite)
    other = DETERMINISTIC + RANDOMIZED - suite
    cases = {
        "halves of the suite key swapped": (right[32:] + right[:32], [header + BOUND, *nonces]),
        "key of the other suite": (suite_key(KEY_IDS[0], other), [header + BOUND, *nonces]),
        "header left out of the first component": (right, [BOUND, *nonces]),
        "header and associated data as two components": (right, [header, BOUND, *nonces]),
        "an empty component too many": (right, [header + BOUND, *nonces, b""]),
    }
    if nonces:
        cases["nonce first"] = (right, [NONCE, header + BOUND])
        cases["nonce within the first component"] = (right, [header + BOUND + NONCE])
        cases["nonce left out"] = (right, [header + BOUND])
    for name, (key, components) in cases.items():
        yield f"made wrongly: {name}", "AUTHENTICATION_FAILED", good[:lead] + AESSIV(key).encrypt(VALUE, components)


def other_associated_data(good: bytes) -> Iterator[tuple[str, bytes]]:
    yield "no associated data", b""
    yield "associated data with a byte too many", BOUND + b"\0"
    yield "associated data with a byte too few", BOUND[:-1]
    yield "associated data with a flipped bit", bytes([BOUND[0] ^ 1]) + BOUND[1:]
    yield "associated data with the header in front", good[:8] + BOUND


# --- wrapped_keys.json


def wrapped(wrapping_key: bytes) -> Iterator[Vector]:
    for number, (keyring, key_id) in enumerate(zip(KEYRINGS, KEY_IDS, strict=True)):
        context = {"sidekey:key-id": key_id, "sidekey:keyring": keyring}
        text = json.dumps(context, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        nonce = drawn(f"wrapping nonce {number}", 12)
        yield {
            "keyring": keyring,
            "key_id": key_id,
            "associated_data": text.encode().hex(),
            "nonce": nonce.hex(),
            "data_key": data_key(key_id).hex(),
            "wrapped_key": (nonce + AESGCM(wrapping_key).encrypt(nonce, data_key(key_id), text.encode())).hex(),
        }


def wrapped_wrongly(good: Vector) -> Iterator[Vector]:
    whole = bytes.fromhex(good["wrapped_key"])
    own = good["keyring"], good["key_id"]
    cases = [
        ("moved to another keyring", whole, ("payments", own[1])),
        ("moved to another key id", whole, (own[0], KEY_IDS[1])),
        ("keyring and key id swapped", whole, (own[1], own[0])),
        ("empty", b"", own),
        ("a byte too few", whole[:-1], own),
        ("a byte too many", whole + b"\0", own),
        ("flipped: first bit of the nonce", bytes([whole[0] ^ 0x80]) + whole[1:], own),
        ("flipped: first bit of ct", whole[:12] + bytes([whole[12] ^ 0x80]) + whole[13:], own),
        ("flipped: last bit of the tag", whole[:-1] + bytes([whole[-1] ^ 1]), own),
    ]
    for rule, ciphertext, (keyring, key_id) in cases:
        yield {
            "rule": rule,
            "error": "CORRUPT_KEY",
            "keyring": keyring,
            "key_id": key_id,
            "wrapped_key": ciphertext.hex(),
        }


def wrapping() -> Vector:
    key = drawn("local wrapping key", 32)
    good = [*wrapped(key)]
    label = hkdf_sha512(key, b"sidekey/v1 local wrapping key id", 8).hex()
    invalid_keys = [*wrapped_wrongly(good[0])]
    return {"wrapping_key": key.hex(), "kek_id": f"local:{label}", "valid": good, "invalid": invalid_keys}


def files() -> dict[str, str]:
    """The texts of the vector files, by name."""
    contents: dict[str, Vector] = {
        "ciphertexts.json": {"keys": keys(), "valid": [*valid()]},
        "invalid.json": {"keys": keys(), "invalid": [*invalid()]},
        "wrapped_keys.json": wrapping(),
    }
    return {name: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for name, value in contents.items()}


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, text in files().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
