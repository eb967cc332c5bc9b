"""The listing of data keys, from a real keystore file."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.cli.listing import listing
from sidecar.keystore.factory import create
from sidecar.keystore.port import DataKeyRecord, KeyState
from tests.fakes.keystore import MemoryKeystore
from tests.keystore.records import record

NOW = datetime.now(UTC)
RECORDS = (
    record("default", 1, created_at=NOW - timedelta(days=366, hours=5, seconds=5)),
    record("default", 2, created_at=NOW - timedelta(hours=2, minutes=3, seconds=5)),
    record("default", 3, created_at=NOW - timedelta(minutes=1, seconds=5), state=KeyState.DISABLED),
    record("hr-pay", 1, created_at=NOW, values_encrypted=1234567),
)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SIDEKEY_CONFIG", raising=False)
    asyncio.run(_fill(f"sqlite:///{tmp_path}/keystore.db", RECORDS))
    return tmp_path


async def _fill(url: str, records: Sequence[DataKeyRecord]) -> None:
    keystore = create(url)
    await keystore.open()
    for each in records:
        assert await keystore.insert(each)
    await keystore.close()


def test_the_table_lists_every_data_key_and_marks_each_primary(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["keys", "--data-dir", str(data_dir)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    first, second, third, pay = (each.key_id for each in RECORDS)
    assert rows == [
        ["KEY", "ID", "KEYRING", "GENERATION", "STATE", "PRIMARY", "AGE", "VALUES", "ENCRYPTED"],
        [first, "default", "1", "enabled", "366d", "5h", "0"],
        [second, "default", "2", "enabled", "primary", "2h", "3m", "0"],
        [third, "default", "3", "disabled", *rows[3][4:6], "0"],
        [pay, "hr-pay", "1", "enabled", "primary", *rows[4][5:-1], "1,234,567"],
    ]
    assert rows[3][4] == "1m"


def test_json_holds_the_same_and_nothing_secret(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "--data-dir", str(data_dir), "--keyring", "hr-pay", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert 0 <= row.pop("ageSeconds") < 120
    assert datetime.fromisoformat(row.pop("createdAt")) == NOW
    assert row == {
        "keyId": RECORDS[3].key_id,
        "keyring": "hr-pay",
        "generation": 1,
        "state": "enabled",
        "primary": True,
        "valuesEncrypted": 1234567,
        "kekId": RECORDS[3].kek_id,
    }


def test_an_unknown_keyring_has_no_data_keys(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "--data-dir", str(data_dir), "--keyring", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_keystore_that_cannot_be_opened_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keystore.db").write_bytes(b"not a database" * 100)
    assert cli.main(["keys", "--data-dir", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sidekey: ")
    assert err.count("\n") == 1


async def test_more_keys_than_a_page_are_all_listed() -> None:
    keystore = MemoryKeystore()
    await keystore.open()
    for generation in range(1, 2502):
        assert await keystore.insert(record("default", generation))
    rows = json.loads(await listing(keystore, None, as_json=True))
    assert [row["generation"] for row in rows] == list(range(1, 2502))
    assert [row["generation"] for row in rows if row["primary"]] == [2501]
