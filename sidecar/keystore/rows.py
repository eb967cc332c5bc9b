"""Rows to records and back, strictly: what does not parse is a corrupt key and never half a record."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sidecar.errors import CorruptKeyError
from sidecar.keystore import copies as further
from sidecar.keystore.port import (
    MOST_IDS,
    DamagedRow,
    DataKeyRecord,
    KeyringRecord,
    KeyringSettings,
    KeyState,
    Usage,
    WrappedCopy,
)

_KEY_ID: Final = re.compile(r"[0-9a-f]{14}")
_ZERO_KEY_ID: Final = "0" * 14
_COMMITMENT_BYTES: Final = 32
_MAX_WRAPPED_BYTES: Final = 64 * 1024
_MAX_COPIES: Final = 16
_MAX_KEYRING: Final = 255
_MAX_KEK_ID: Final = 2048
_MODES: Final = (None, "randomized", "deterministic")

MOST: Final = 2**63 - 1
"""The highest count that is stored; counts stay there."""

_Checks = Mapping[str, Callable[[Any], bool]]


def from_row(row: Mapping[str, Any]) -> DataKeyRecord:
    """The record in a row; raises ``CorruptKeyError`` that names the column, and the key id where that can be shown."""
    column = _first_wrong(row, _DATA_KEY) or _wrong_copies(row)
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
        further_copies=further.from_text(row["further_copies"]),
        state_changed_at=_utc(row["state_changed_at"]),
        values_encrypted=row["values_encrypted"],
        values_decrypted=row["values_decrypted"],
        first_used_at=_utc(row["first_used_at"]),
        last_used_at=_utc(row["last_used_at"]),
    )


def from_listed_row(row: Mapping[str, Any]) -> DataKeyRecord | DamagedRow:
    """As ``from_row``, but only a row whose place does not parse either raises."""
    try:
        return from_row(row)
    except CorruptKeyError as error:
        return damaged_row(error, row["key_id"], row["keyring"], row["generation"])


def damaged_row(error: CorruptKeyError, key_id: object, keyring: object, generation: object) -> DamagedRow:
    """What stands for a row that fails with ``error``; raises that where no listing could go on after its place."""
    if not (isinstance(keyring, str) and is_keyring(keyring)):
        raise error
    if not (isinstance(generation, int) and _is_count(generation, at_least=1)):
        raise error
    known = key_id if isinstance(key_id, str) and is_key_id(key_id) else None
    return DamagedRow(known, keyring, generation, str(error))


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
        "further_copies": further.to_text(record.further_copies),
        "state_changed_at": record.state_changed_at,
        "values_encrypted": record.values_encrypted,
        "values_decrypted": record.values_decrypted,
        "first_used_at": record.first_used_at,
        "last_used_at": record.last_used_at,
    }
    column = _first_wrong(row, _DATA_KEY) or _wrong_copies(row)
    if column is not None:
        raise ValueError(f"no record of a data key: {column}")
    return row


def copies_to_row(copies: Sequence[WrappedCopy]) -> dict[str, Any]:
    """The columns that hold the wrapped copies; raises ``ValueError`` for what ``from_row`` would not read back."""
    if not copies:
        raise ValueError("there is at least one wrapped copy")
    first, *others = copies
    row = {
        "state": str(KeyState.ENABLED),
        "kek_id": first.kek_id,
        "wrapped_key": bytes(first.wrapped_key),
        "further_copies": further.to_text(others),
    }
    column = _first_wrong(row, {name: _DATA_KEY[name] for name in row}) or _wrong_copies(row)
    if column is not None:
        raise ValueError(f"no wrapped copies of a data key: {column}")
    del row["state"]
    return row


def keyring_from_row(row: Mapping[str, Any]) -> KeyringRecord:
    """The keyring in a row; raises ``CorruptKeyError`` that names the column."""
    column = _first_wrong(row, _KEYRING)
    if column is not None:
        raise CorruptKeyError(f"a row of the keystore's keyrings is damaged: column {column}")
    settings = KeyringSettings(row["roll_over_days"], row["default_mode"], row["allow_deterministic"])
    return KeyringRecord(row["name"], row["created_at"].astimezone(UTC), settings)


def keyring_to_row(record: KeyringRecord) -> dict[str, Any]:
    """The row of a keyring; raises ``ValueError`` for what ``keyring_from_row`` would not read back."""
    row = {
        "name": record.name,
        "created_at": record.created_at,
        "roll_over_days": record.settings.roll_over_days,
        "default_mode": record.settings.default_mode,
        "allow_deterministic": record.settings.allow_deterministic,
    }
    column = _first_wrong(row, _KEYRING)
    if column is not None:
        raise ValueError(f"no record of a keyring: {column}")
    return row


def check_usage(used: Usage) -> None:
    """Raise ``ValueError`` for counts or times that could not be stored."""
    if not all(_is_count(count, at_least=0) for count in (used.values_encrypted, used.values_decrypted)):
        raise ValueError("a count of values is a whole number, not negative")
    check_time(used.first_at)
    check_time(used.last_at)


def check_time(at: datetime) -> None:
    """Raise ``ValueError`` for a naive point in time."""
    if not _is_time(at):
        raise ValueError("a point in time needs a time zone")


def check_ids(key_ids: Iterable[str]) -> set[str]:
    """The ids, each once; raises ``ValueError`` where they are more than the port takes."""
    wanted = set(key_ids)
    if len(wanted) > MOST_IDS:
        raise ValueError(f"at most {MOST_IDS} data keys are read at once")
    return wanted


def check_page(limit: int) -> int:
    """The limit of a page; raises ``ValueError`` where nothing would fit."""
    if limit < 1:
        raise ValueError("a page holds at least one row")
    return limit


def check_name_after(name: str) -> None:
    """Raise ``ValueError`` for a name that no page can begin after; an empty one is before all others."""
    if name and not is_keyring(name):
        raise ValueError("no name of a keyring to begin after")


def is_key_id(value: object) -> bool:
    """Whether a data key may have this id; no database needs to be asked for any other."""
    return isinstance(value, str) and _KEY_ID.fullmatch(value) is not None and value != _ZERO_KEY_ID


def is_keyring(value: object) -> bool:
    """Whether a keyring may have this name; no database needs to be asked for any other."""
    return _is_text(value, _MAX_KEYRING)


def _first_wrong(row: Mapping[str, Any], checks: _Checks) -> str | None:
    """The first column that does not hold what it must; None where all do."""
    return next((column for column, holds in checks.items() if not holds(row.get(column))), None)


def _wrong_copies(row: Mapping[str, Any]) -> str | None:
    """The column that contradicts the others about the wrapped copies; None where they agree."""
    others = further.from_text(row["further_copies"])
    if row["state"] == KeyState.DESTROYED:
        if row["wrapped_key"]:
            return "wrapped_key"
        return "further_copies" if others else None
    if not row["wrapped_key"]:
        return "wrapped_key"
    kek_ids = [row["kek_id"], *(copy.kek_id for copy in others)]
    return "further_copies" if len(kek_ids) > _MAX_COPIES or len(set(kek_ids)) < len(kek_ids) else None


def _are_copies(value: object) -> bool:
    try:
        others = further.from_text(value)
    except ValueError:
        return False
    return all(_is_text(copy.kek_id, _MAX_KEK_ID) and _is_wrapped(copy.wrapped_key, 1) for copy in others)


def _is_text(value: object, longest: int) -> bool:
    # Neither PostgreSQL nor UTF-8 knows every string of Python's: no NUL there, and no lone surrogate here.
    return isinstance(value, str) and 0 < len(value) <= longest and "\0" not in value and _is_unicode(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_wrapped(value: object, at_least: int) -> bool:
    return isinstance(value, bytes) and at_least <= len(value) <= _MAX_WRAPPED_BYTES


def _is_count(value: object, *, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= MOST


def _is_time(value: object) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _is_time_or_none(value: object) -> bool:
    return value is None or _is_time(value)


def _is_period(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0)


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


_DATA_KEY: Final[_Checks] = {
    "key_id": is_key_id,
    "keyring": is_keyring,
    "generation": lambda value: _is_count(value, at_least=1),
    "state": lambda value: isinstance(value, str) and value in set(KeyState),
    "created_at": _is_time,
    "kek_id": lambda value: _is_text(value, _MAX_KEK_ID),
    # How long it must be depends on the state: see ``_wrong_copies``.
    "wrapped_key": lambda value: _is_wrapped(value, 0),
    "commitment": lambda value: isinstance(value, bytes) and len(value) == _COMMITMENT_BYTES,
    "further_copies": _are_copies,
    "state_changed_at": _is_time_or_none,
    "values_encrypted": lambda value: _is_count(value, at_least=0),
    "values_decrypted": lambda value: _is_count(value, at_least=0),
    "first_used_at": _is_time_or_none,
    "last_used_at": _is_time_or_none,
}

_KEYRING: Final[_Checks] = {
    "name": is_keyring,
    "created_at": _is_time,
    "roll_over_days": _is_period,
    "default_mode": lambda value: value in _MODES,
    "allow_deterministic": lambda value: value is None or isinstance(value, bool),
}
