"""The frozen vectors of ``tests/vectors``, read."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent.parent / "vectors"


@dataclass(frozen=True)
class Valid:
    """A value and its ciphertext."""

    key_id: str
    suite: int
    nonce: bytes
    associated_data: bytes
    plaintext: bytes
    ciphertext: bytes


@dataclass(frozen=True)
class Invalid:
    """A ciphertext that must be refused, and the name of the row error."""

    rule: str
    error: str
    ciphertext: bytes
    associated_data: bytes


@cache
def load(name: str) -> Any:
    """A file of vectors."""
    return json.loads((DIRECTORY / name).read_text(encoding="utf-8"))


def data_keys(name: str = "ciphertexts.json") -> dict[str, bytes]:
    """All data keys that there are, by key id."""
    return {each["key_id"]: bytes.fromhex(each["data_key"]) for each in load(name)["keys"]}


def valid() -> list[Valid]:
    """Every valid ciphertext."""
    return [
        Valid(
            each["key_id"],
            int(each["suite"], 16),
            bytes.fromhex(each["nonce"]),
            bytes.fromhex(each["associated_data"]) * each["associated_data_times"],
            bytes.fromhex(each["plaintext"]),
            bytes.fromhex(each["ciphertext"]),
        )
        for each in load("ciphertexts.json")["valid"]
    ]


def invalid() -> list[Invalid]:
    """Every ciphertext that must be refused."""
    return [
        Invalid(each["rule"], each["error"], bytes.fromhex(each["ciphertext"]), bytes.fromhex(each["associated_data"]))
        for each in load("invalid.json")["invalid"]
    ]
