"""Keyrings and data keys as rows of a table and as JSON. Shows no wrapped key and no commitment."""

from datetime import datetime, timedelta
from typing import Any, Final

from sidecar.cli.output import Column, age, iso
from sidecar.crypto.format import Suite
from sidecar.keys.inventory import DescribedKey, DescribedKeyring
from sidecar.keystore.port import DamagedRow

KEY_COLUMNS: Final = (
    Column("KEY ID"),
    Column("KEYRING"),
    Column("GENERATION", is_number=True),
    Column("STATE"),
    Column("PRIMARY"),
    Column("AGE", is_number=True),
    Column("VALUES ENCRYPTED", is_number=True),
    Column("VALUES DECRYPTED", is_number=True),
    Column("LAST USED", is_number=True),
    Column("WRAPPED UNDER"),
)
KEYRING_COLUMNS: Final = (
    Column("KEYRING"),
    Column("PRIMARY"),
    Column("GENERATION", is_number=True),
    Column("AGE", is_number=True),
    Column("ROLLS OVER"),
    Column("DEFAULT MODE"),
    Column("DETERMINISTIC"),
    Column("MADE BY"),
)


def key_row(key: DescribedKey, now: datetime) -> list[str]:
    """In the order of ``KEY_COLUMNS``."""
    record = key.record
    return [
        record.key_id,
        record.keyring,
        str(record.generation),
        record.state.value,
        "primary" if key.is_primary else "",
        age(now - record.created_at),
        f"{record.values_encrypted:,}",
        f"{record.values_decrypted:,}",
        "never" if record.last_used_at is None else f"{age(now - record.last_used_at)} ago",
        ", ".join(copy.kek_id for copy in record.copies),
    ]


def key_json(key: DescribedKey, now: datetime) -> dict[str, Any]:
    """A data key; times as ISO 8601, null where there is none."""
    record = key.record
    return {
        "keyId": record.key_id,
        "keyring": record.keyring,
        "generation": record.generation,
        "state": record.state.value,
        "primary": key.is_primary,
        "createdAt": iso(record.created_at),
        "ageSeconds": int((now - record.created_at).total_seconds()),
        "stateChangedAt": iso(record.state_changed_at),
        "kekIds": [copy.kek_id for copy in record.copies],
        "valuesEncrypted": record.values_encrypted,
        "valuesDecrypted": record.values_decrypted,
        "firstUsedAt": iso(record.first_used_at),
        "lastUsedAt": iso(record.last_used_at),
    }


def damaged_row(row: DamagedRow) -> list[str]:
    """In the order of ``KEY_COLUMNS``: what can be known of a row that does not parse."""
    known = [row.key_id or "unreadable", row.keyring, str(row.generation), "damaged"]
    return known + [""] * (len(KEY_COLUMNS) - len(known))


def damaged_json(row: DamagedRow) -> dict[str, Any]:
    """The members of ``key_json``, null where nothing is known, and what is damaged."""
    return {
        "keyId": row.key_id,
        "keyring": row.keyring,
        "generation": row.generation,
        "state": "damaged",
        "primary": False,
        "createdAt": None,
        "ageSeconds": None,
        "stateChangedAt": None,
        "kekIds": None,
        "valuesEncrypted": None,
        "valuesDecrypted": None,
        "firstUsedAt": None,
        "lastUsedAt": None,
        "damage": row.damage,
    }


def keyring_row(keyring: DescribedKeyring, now: datetime) -> list[str]:
    """In the order of ``KEYRING_COLUMNS``."""
    primary, days = keyring.primary, _days(keyring)
    return [
        keyring.name,
        primary.key_id if primary else "none",
        str(primary.generation) if primary else "",
        age(now - primary.created_at) if primary else "",
        "never" if days is None else f"after {days:g} days",
        _mode(keyring),
        "allowed" if keyring.terms.allow_deterministic else "refused",
        "first use" if keyring.created_at is None else "call",
    ]


def keyring_json(keyring: DescribedKeyring, now: datetime) -> dict[str, Any]:
    """A keyring with the settings that hold by this configuration."""
    days = _days(keyring)
    primary = keyring.primary
    return {
        "name": keyring.name,
        "createdAt": iso(keyring.created_at),
        "settings": {
            "rollOverDays": "never" if days is None else days,
            "defaultMode": _mode(keyring),
            "allowDeterministic": keyring.terms.allow_deterministic,
        },
        "primary": None if primary is None else key_json(DescribedKey(primary, primary.key_id), now),
    }


def _days(keyring: DescribedKeyring) -> float | None:
    """Days to a rollover; None for never."""
    period = keyring.terms.schedule.period
    return None if period is None else period / timedelta(days=1)


def _mode(keyring: DescribedKeyring) -> str:
    return "deterministic" if keyring.terms.default_suite is Suite.DETERMINISTIC else "randomized"
