"""Records of data keys for tests of keystores."""

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sidecar.keystore.port import DamagedRow, DataKeyRecord, KeyState, WrappedCopy

CREATED_AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
EVERY_FIELD: dict[str, Any] = {
    "state": KeyState.DISABLED,
    "further_copies": (WrappedCopy("arn:aws:kms:eu-west-1:1:key/ü", b"\x00\xff" * 40), WrappedCopy("third", b"3")),
    "state_changed_at": datetime(2026, 3, 2, tzinfo=UTC),
    "values_encrypted": 7,
    "values_decrypted": 2**63 - 1,
    "first_used_at": datetime(2026, 3, 1, 12, 31, tzinfo=UTC),
    "last_used_at": datetime(2026, 3, 1, 12, 31, 0, 1, tzinfo=UTC),
}
"""Of a record: every field that may be left away, with something else in it."""
UNORDERED_NAMES = ("b", "ß", "a-b", "中", "B", "a", "é", "a b", "\U0001f511", "\uffee", "aa", "Z")
"""Names whose order differs by alphabet, by case, by UTF-16 and by bytes."""


def record(keyring: str = "default", generation: int = 1, **changes: Any) -> DataKeyRecord:
    """A record that no other has the key id of; ``changes`` by the names of its fields."""
    made = DataKeyRecord(
        key_id=f"{secrets.randbits(56) | 1:014x}",
        keyring=keyring,
        generation=generation,
        state=KeyState.ENABLED,
        created_at=CREATED_AT,
        kek_id="local:0011223344556677",
        wrapped_key=secrets.token_bytes(60),
        commitment=secrets.token_bytes(32),
    )
    return replace(made, **changes)


def whole(rows: Iterable[DataKeyRecord | DamagedRow]) -> list[DataKeyRecord]:
    """The rows of a listing in which none is damaged."""
    records: list[DataKeyRecord] = []
    for row in rows:
        assert isinstance(row, DataKeyRecord), row
        records.append(row)
    return records
