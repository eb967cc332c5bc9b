"""Records of data keys for tests of keystores."""

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sidecar.keystore.port import DataKeyRecord, KeyState

CREATED_AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


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
