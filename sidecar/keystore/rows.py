"""Rows to records and back, strictly: what does not parse is a corrupt key and never half a record."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sidecar.errors import CorruptKeyError
from sidecar.keystore.port import DataKeyRecord, KeyState

_KEY_ID: Final = re.compile(r"[0-9a-f]{14}")
_ZERO_KEY_ID: Final = "0" * 14
_COMMITMENT_BYTES: Final = 32
_MAX_WRAPPED_BYTES: Final = 64 * 1024
_MAX_KEYRING: Final = 255
_MAX_KEK_ID: Final = 2048


def from_row(row: Mapping[str, Any]) -> DataKeyRecord:
    """The record in a row; raises ``CorruptKeyError`` that names the column, and the key id where that can be shown."""
    column = _first_wrong(row)
    if column is not None:
        key_id = row.get("key_id")
        shown = key_id if isinstance(key_id, str) and _KEY_ID.fullmatch(key_id) else "of unreadable id"
        raise CorruptKeyError(f"the keystore's row of data key {shown} is damaged: column {column}")
    return DataKeyRecord(
        key_id=row["key_id"],
        keyring=row["keyring"],
        generation=row["generation"],
        state=KeyState(row["state"]),
        created_at=row["created_at"].astimezone(UTC),
        kek_id=row["kek_id"],
        wrapped_key=row["wrapped_key"],
        commitment=row["commitment"],
        values_encrypted=row["values_encrypted"],
    )


def to_row(record: DataKeyRecord) -> dict[str, Any]:
    """The row of a record; raises ``ValueError`` for what ``from_row`` would not read back."""
    row = {
        "key_id": record.key_id,
        "keyring": record.keyring,
        "generation": record.generation,
        "state": str(record.state),
        "created_at": record.created_at,
        "kek_id": record.kek_id,
        "wrapped_key": bytes(record.wrapped_key),
        "commitment": bytes(record.commitment),
        "values_encrypted": record.values_encrypted,
    }
    column = _first_wrong(row)
    if column is not None:
        raise ValueError(f"no record of a data key: {column}")
    return row


def _first_wrong(row: Mapping[str, Any]) -> str | None:
    """The first column that does not hold what it must; None where all do."""
    checks: dict[str, Callable[[Any], bool]] = {
        "key_id": _is_key_id,
        "keyring": lambda value: _is_text(value, _MAX_KEYRING),
        "generation": lambda value: _is_count(value, at_least=1),
        "state": lambda value: value in set(KeyState),
        "created_at": lambda value: isinstance(value, datetime) and value.tzinfo is not None,
        "kek_id": lambda value: _is_text(value, _MAX_KEK_ID),
        "wrapped_key": lambda value: isinstance(value, bytes) and 0 < len(value) <= _MAX_WRAPPED_BYTES,
        "commitment": lambda value: isinstance(value, bytes) and len(value) == _COMMITMENT_BYTES,
        "values_encrypted": lambda value: _is_count(value, at_least=0),
    }
    return next((column for column, holds in checks.items() if not holds(row.get(column))), None)


def _is_key_id(value: object) -> bool:
    return isinstance(value, str) and _KEY_ID.fullmatch(value) is not None and value != _ZERO_KEY_ID


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _is_count(value: object, *, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and at_least <= value < 2**63
