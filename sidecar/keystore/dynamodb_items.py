"""Where things are in the table, and items to rows and back. Strict, and without a call.

An item names its columns as SQL does. Its place repeats keyring and generation, or the name, since the place is what is
unique and what is in order: an item that contradicts its place was moved or damaged.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sidecar.errors import CorruptKeyError
from sidecar.keystore.port import DataKeyRecord, KeyringRecord
from sidecar.keystore.rows import MOST, from_row, is_keyring, keyring_from_row, keyring_to_row, to_row

Item = Mapping[str, Mapping[str, Any]]
"""Attributes by name, each as ``{type: value}``; also a key."""

KEYRINGS: Final = "keyrings"
"""The ``pk`` of all keyrings; their ``sk`` is the name, so they are in the order of its UTF-8 bytes."""
SCHEMA: Final[Item] = {"pk": {"S": "schema"}, "sk": {"S": "-"}}
_UNREADABLE: Final = object()
"""In the place of what does not parse; no check of a row lets it through."""
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")


class Place(NamedTuple):
    """Of one data key."""

    keyring: str
    generation: int


def data_keys_of(keyring: str) -> str:
    """The ``pk`` of all data keys of a keyring."""
    return f"keyring#{keyring}"


def generation_key(generation: int) -> str:
    """The ``sk`` of a data key; in the order of numbers."""
    return f"generation#{generation:020d}"


def data_key(place: Place) -> Item:
    """The key of a data key's item."""
    return _key(data_keys_of(place.keyring), generation_key(place.generation))


def key_of(record: DataKeyRecord) -> Item:
    """The key of the item of a data key."""
    return data_key(Place(record.keyring, record.generation))


def pointer(key_id: str) -> Item:
    """The key of the item that says where the data key of this id is."""
    return _key(f"key#{key_id}", "-")


def keyring(name: str) -> Item:
    """The key of a keyring's item."""
    return _key(KEYRINGS, name)


def data_key_item(record: DataKeyRecord) -> Item:
    """A data key's item; raises ``ValueError`` for what could not be read back."""
    return {**attributes(to_row(record)), **key_of(record)}


def pointer_item(record: DataKeyRecord) -> Item:
    """The item that points to a data key."""
    return {**pointer(record.key_id), **attributes({"keyring": record.keyring, "generation": record.generation})}


def read_data_key(item: Item) -> DataKeyRecord:
    """The record in an item; raises ``CorruptKeyError`` that names the column."""
    row = {column: _read(item, column, kind) for column, kind in _DATA_KEY.items()}
    record = from_row(row)
    key = key_of(record)
    for column, attribute in (("keyring", "pk"), ("generation", "sk")):
        if item.get(attribute) != key[attribute]:
            raise CorruptKeyError(f"the keystore's row of data key {record.key_id} is damaged: column {column}")
    return record


def read_pointer(key_id: str, item: Item) -> Place:
    """Where a data key is; raises ``CorruptKeyError`` that names the column."""
    name, generation = _read(item, "keyring", _TEXT), _read(item, "generation", _COUNT)
    for column, holds in (("keyring", is_keyring(name)), ("generation", _is_generation(generation))):
        if not holds:
            raise CorruptKeyError(f"the keystore's pointer to data key {key_id} is damaged: column {column}")
    return Place(name, generation)


def read_generation(item: Item) -> int:
    """The generation of a data key's item; raises ``CorruptKeyError`` where it contradicts its place."""
    generation = _read(item, "generation", _COUNT)
    if not _is_generation(generation) or item.get("sk") != {"S": generation_key(generation)}:
        raise CorruptKeyError("a row of the keystore's data keys is damaged: column generation")
    return int(generation)


def read_keyring(item: Item) -> KeyringRecord | None:
    """The keyring in an item; None where it was not created by call. Raises ``CorruptKeyError``."""
    if "created_at" not in item:
        return None
    row = {column: _read(item, column, kind) for column, kind in _KEYRING.items()}
    return keyring_from_row({**row, "name": read_name(item)})


def read_name(item: Item) -> str:
    """The name in the place of a keyring's item; raises ``CorruptKeyError``."""
    name = _read(item, "sk", _TEXT)
    if not is_keyring(name):
        raise CorruptKeyError("a row of the keystore's keyrings is damaged: column name")
    return str(name)


def keyring_columns(record: KeyringRecord) -> dict[str, Any]:
    """The columns of a keyring beside its name; raises ``ValueError`` for what could not be read back."""
    row = keyring_to_row(record)
    del row["name"]
    # DynamoDB has no number for "never".
    return {**row, "roll_over_days": None if row["roll_over_days"] is None else repr(float(row["roll_over_days"]))}


def attributes(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Columns as attributes; those that hold None are left out."""
    return {column: _attribute(value) for column, value in row.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of column: DynamoDB's type, and how its value is read; what does not parse raises ``ValueError``."""

    type: str
    read: Callable[[Any], Any]


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _attribute(value: Any) -> Mapping[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, bytes):
        return {"B": value}
    return {"S": _time_text(value) if isinstance(value, datetime) else value}


def _read(item: Item, column: str, kind: _Kind) -> Any:
    """The value of a column; None where there is none."""
    attribute = item.get(column)
    if attribute is None:
        return None
    if kind.type not in attribute:
        return _UNREADABLE
    try:
        return kind.read(attribute[kind.type])
    except ValueError:
        return _UNREADABLE


def _time_text(at: datetime) -> str:
    """Of one length, so that DynamoDB compares points in time by comparing texts."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _read_time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or _time_text(at) != text:
        raise ValueError("no point in time as this keystore writes it")
    return at


def _read_count(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError("no whole number")
    return int(text)


def _is_generation(value: object) -> bool:
    return isinstance(value, int) and 1 <= value <= MOST


_TEXT: Final = _Kind("S", str)
_COUNT: Final = _Kind("N", _read_count)
_BYTES: Final = _Kind("B", bytes)
_TIME: Final = _Kind("S", _read_time)
_DATA_KEY: Final = {
    "key_id": _TEXT,
    "keyring": _TEXT,
    "generation": _COUNT,
    "state": _TEXT,
    "created_at": _TIME,
    "kek_id": _TEXT,
    "wrapped_key": _BYTES,
    "commitment": _BYTES,
    "further_copies": _TEXT,
    "state_changed_at": _TIME,
    "values_encrypted": _COUNT,
    "values_decrypted": _COUNT,
    "first_used_at": _TIME,
    "last_used_at": _TIME,
}
_KEYRING: Final = {
    "created_at": _TIME,
    "roll_over_days": _Kind("S", float),
    "default_mode": _TEXT,
    "allow_deterministic": _Kind("BOOL", bool),
}
