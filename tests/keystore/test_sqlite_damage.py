"""What SQLite's rows may come to hold, by damage or by hand, and what must not stay in its file."""

import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from sidecar.errors import CorruptKeyError
from sidecar.keystore.port import DamagedRow, KeyringRecord, KeyState, WrappedCopy
from sidecar.keystore.sql import SqlKeystore
from sidecar.keystore.sqlite import Sqlite
from tests.keystore.records import CREATED_AT, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keystore.db"


@pytest.fixture
async def keystore(path: Path) -> AsyncIterator[SqlKeystore]:
    made = SqlKeystore(Sqlite(path))
    await made.open(upgrade=True)
    yield made
    await made.close()


def change(path: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, parameters)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key_id", "ABCDEF01234567"),
        ("state", "sleeping"),
        ("generation", "many"),
        ("generation", -3),
        ("created_at", "yesterday"),
        ("created_at", 5),
        ("wrapped_key", "text"),
        ("wrapped_key", b""),
        ("state", "destroyed"),
        ("further_copies", ""),
        ("further_copies", "[ ]"),
        ("further_copies", '[["local:0011223344556677","AA=="]]'),
        ("further_copies", '[["other",""]]'),
        ("further_copies", b"[]"),
        ("state_changed_at", "yesterday"),
        ("values_decrypted", -1),
        ("first_used_at", 0.5),
        ("last_used_at", "2026-13-01 00:00:00.000000"),
        ("commitment", b"short"),
        ("values_encrypted", 0.5),
        ("keyring", ""),
    ],
)
async def test_a_row_that_does_not_parse_is_a_corrupt_key(
    path: Path, keystore: SqlKeystore, column: str, value: object
) -> None:
    stored = record()
    await keystore.insert(stored)
    change(path, f"UPDATE data_keys SET {column} = ?", value)  # noqa: S608
    if column in ("keyring", "generation"):
        with pytest.raises(CorruptKeyError, match=f"column {column}") as caught:
            await keystore.list_keys()
        assert caught.value.__cause__ is None
        damage = str(caught.value)
    else:
        (row,) = await keystore.list_keys()
        assert isinstance(row, DamagedRow)
        known = None if column == "key_id" else stored.key_id
        assert (row.key_id, row.keyring, row.generation) == (known, "default", 1)
        damage = row.damage
    assert str(value) not in damage.replace(stored.key_id, "") or value == ""


@pytest.mark.parametrize(
    "column", ["key_id", "keyring", "state", "created_at", "kek_id", "further_copies", "state_changed_at"]
)
async def test_text_that_is_no_utf_8_is_a_corrupt_key_and_no_outage(
    path: Path, keystore: SqlKeystore, column: str
) -> None:
    stored = record()
    await keystore.insert(stored)
    change(path, f"UPDATE data_keys SET {column} = CAST(x'ff616263' AS TEXT)")  # noqa: S608
    # It is that row's damage alone.
    other = record("other")
    assert await keystore.insert(other) is True
    assert await keystore.primary("other") == other
    if column == "keyring":
        with pytest.raises(CorruptKeyError) as caught:
            await keystore.list_keys()
        assert caught.value.__cause__ is None
    else:
        damaged, after = await keystore.list_keys()
        assert isinstance(damaged, DamagedRow)
        assert f"column {column}" in damaged.damage
        assert after == other


@pytest.mark.parametrize(
    ("column", "value"),
    [("default_mode", "sometimes"), ("roll_over_days", "x"), ("roll_over_days", -1.0), ("created_at", "yesterday")],
)
async def test_a_keyrings_row_that_does_not_parse_is_corrupt(
    path: Path, keystore: SqlKeystore, column: str, value: object
) -> None:
    await keystore.save_keyring(KeyringRecord("payments", CREATED_AT))
    change(path, f"UPDATE keyrings SET {column} = ?", value)  # noqa: S608
    with pytest.raises(CorruptKeyError):
        await keystore.keyring("payments")


async def test_a_keyrings_name_that_is_no_utf_8_is_corrupt(path: Path, keystore: SqlKeystore) -> None:
    await keystore.save_keyring(KeyringRecord("payments", CREATED_AT))
    change(path, "UPDATE keyrings SET name = CAST(x'ff616263' AS TEXT)")
    with pytest.raises(CorruptKeyError):
        await keystore.list_keyrings()


async def test_of_a_destroyed_data_key_the_files_keep_no_wrapped_copy(path: Path, keystore: SqlKeystore) -> None:
    marks = (b"the first wrapped copy " * 30, b"the second wrapped copy " * 300)
    stored = record(state=KeyState.DISABLED, wrapped_key=marks[0], further_copies=(WrappedCopy("second", marks[1]),))
    await keystore.insert(stored)
    needles = (marks[0][:20], base64.b64encode(marks[1])[:20])
    written = path.with_name("keystore.db-wal").read_bytes()
    assert all(needle in written for needle in needles)
    assert await keystore.set_state(stored.key_id, KeyState.DESTROYED, at=CREATED_AT) is True
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    files = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert stored.key_id.encode() in files
    assert not any(needle in files for needle in needles)


async def test_a_generation_that_is_no_number_does_not_pass_for_the_newest(path: Path, keystore: SqlKeystore) -> None:
    await keystore.insert(record())
    change(path, "UPDATE data_keys SET generation = 'many'")
    with pytest.raises(CorruptKeyError):
        await keystore.newest_generation("default")
