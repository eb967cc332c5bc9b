"""Lists data keys, for people and for programs. Shows no wrapped key and no commitment."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sidecar.keystore.port import DataKeyRecord, KeyState, Keystore

_COLUMNS = ("KEY ID", "KEYRING", "GENERATION", "STATE", "PRIMARY", "AGE", "VALUES ENCRYPTED")
_NUMBERS = frozenset({"GENERATION", "AGE", "VALUES ENCRYPTED"})


async def listing(keystore: Keystore, keyring: str | None, *, as_json: bool) -> str:
    """The data keys of ``keyring`` (None: of all), as a table or as a JSON array; opens and closes ``keystore``."""
    await keystore.open()
    try:
        records = await _all(keystore, keyring)
    finally:
        await keystore.close()
    render = _json if as_json else _table
    return render(records, _primaries(records), datetime.now(UTC))


async def _all(keystore: Keystore, keyring: str | None) -> list[DataKeyRecord]:
    records: list[DataKeyRecord] = []
    after = None
    while page := await keystore.list_keys(keyring, after=after):
        records += page
        after = (page[-1].keyring, page[-1].generation)
    return records


def _primaries(records: Sequence[DataKeyRecord]) -> frozenset[str]:
    """The key ids of the primaries: in each keyring the enabled data key of the highest generation."""
    newest: dict[str, DataKeyRecord] = {}
    for record in records:
        best = newest.get(record.keyring)
        if record.state is KeyState.ENABLED and (best is None or record.generation > best.generation):
            newest[record.keyring] = record
    return frozenset(record.key_id for record in newest.values())


def _json(records: Sequence[DataKeyRecord], primaries: frozenset[str], now: datetime) -> str:
    rows: list[dict[str, Any]] = [
        {
            "keyId": record.key_id,
            "keyring": record.keyring,
            "generation": record.generation,
            "state": record.state.value,
            "primary": record.key_id in primaries,
            "createdAt": record.created_at.isoformat(),
            "ageSeconds": int((now - record.created_at).total_seconds()),
            "valuesEncrypted": record.values_encrypted,
            "kekId": record.kek_id,
        }
        for record in records
    ]
    return json.dumps(rows, indent=2) + "\n"


def _table(records: Sequence[DataKeyRecord], primaries: frozenset[str], now: datetime) -> str:
    rows = [
        (
            record.key_id,
            record.keyring,
            str(record.generation),
            record.state.value,
            "primary" if record.key_id in primaries else "",
            _age(now - record.created_at),
            f"{record.values_encrypted:,}",
        )
        for record in records
    ]
    table = [_COLUMNS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    return "".join(_line(row, widths) for row in table)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
        for cell, width, name in zip(row, widths, _COLUMNS, strict=True)
    )
    return "  ".join(cells).rstrip() + "\n"


def _age(age: timedelta) -> str:
    """The two largest units, for example ``3d 4h``."""
    seconds = max(int(age.total_seconds()), 0)
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {seconds % 60}s" if minutes else f"{seconds}s"
