"""The listings of keyrings and data keys, from a real keystore file."""

import json
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.cli.listing import list_keyrings, list_keys
from sidecar.keys.inventory import Inventory
from sidecar.keys.rollover import RolloverSchedule
from sidecar.keys.terms import KeyringTerms
from sidecar.keystore.port import KeyState, Usage, WrappedCopy
from tests.cli.keystores import Command, fill
from tests.fakes.keystore import MemoryKeystore
from tests.keystore.records import record

NOW = datetime.now(UTC)
RECORDS = (
    record("default", 1, created_at=NOW - timedelta(days=366, hours=5, seconds=5)),
    record("default", 2, created_at=NOW - timedelta(hours=2, minutes=3, seconds=5)),
    record("default", 3, created_at=NOW - timedelta(minutes=1, seconds=5), state=KeyState.DISABLED),
    record(
        "hr-pay",
        1,
        created_at=NOW - timedelta(days=40),
        further_copies=(WrappedCopy("arn:aws:kms:eu-west-1:1:key/b", b"w" * 60),),
    ),
)
FIRST, SECOND, THIRD, PAY = (each.key_id for each in RECORDS)
USAGE = {PAY: Usage(1234567, 89, NOW - timedelta(days=39), NOW - timedelta(days=3, hours=4, seconds=5))}
LOCAL = RECORDS[0].kek_id


@pytest.fixture
def filled(command: Command) -> Command:
    command.data_dir.mkdir()
    fill(command.data_dir, RECORDS, USAGE)
    return command


def test_the_table_lists_every_data_key_and_marks_each_primary(filled: Command) -> None:
    lines = filled.done("keys").splitlines()
    titles = "KEY ID  KEYRING  GENERATION  STATE  PRIMARY  AGE  VALUES ENCRYPTED  VALUES DECRYPTED  LAST USED"
    assert [title.strip() for title in lines[0].split("  ") if title.strip()] == [*titles.split("  "), "WRAPPED UNDER"]
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:]]
    assert rows == [
        [FIRST, "default", "1", "enabled", "366d 5h", "0", "0", "never", LOCAL],
        [SECOND, "default", "2", "enabled", "primary", "2h 3m", "0", "0", "never", LOCAL],
        [THIRD, "default", "3", "disabled", rows[2][4], "0", "0", "never", LOCAL],
        [
            *(PAY, "hr-pay", "1", "enabled", "primary", "40d 0h", "1,234,567", "89", "3d 4h ago"),
            f"{LOCAL}, arn:aws:kms:eu-west-1:1:key/b",
        ],
    ]
    assert rows[2][4].startswith("1m ")


def test_json_holds_the_same_and_nothing_secret(filled: Command) -> None:
    (row,) = filled.json("keys", "--keyring", "hr-pay")
    assert 0 <= row.pop("ageSeconds") - 40 * 86400 < 120
    assert row == {
        "keyId": PAY,
        "keyring": "hr-pay",
        "generation": 1,
        "state": "enabled",
        "primary": True,
        "createdAt": RECORDS[3].created_at.isoformat(),
        "stateChangedAt": None,
        "kekIds": [LOCAL, "arn:aws:kms:eu-west-1:1:key/b"],
        "valuesEncrypted": 1234567,
        "valuesDecrypted": 89,
        "firstUsedAt": USAGE[PAY].first_at.isoformat(),
        "lastUsedAt": USAGE[PAY].last_at.isoformat(),
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [FIRST, SECOND, THIRD, PAY]),
        (["--keyring", "default"], [FIRST, SECOND, THIRD]),
        (["--state", "disabled"], [THIRD]),
        (["--state", "disabled", "--state", "enabled"], [FIRST, SECOND, THIRD, PAY]),
        (["--state", "destroyed"], []),
        (["--unused-since", "1d"], [FIRST, PAY]),
        (["--unused-since", "30d"], [FIRST]),
        (["--unused-since", "100h"], [FIRST]),
        (["--unused-since", "90m"], [FIRST, SECOND, PAY]),
        (["--unused-since", "2000-01-01"], []),
        (["--unused-since", "2000-01-01T00:00+02:00"], []),
        (["--limit", "2"], [FIRST, SECOND]),
        (["--after", "default/2"], [THIRD, PAY]),
        (["--after", "default/2", "--limit", "1", "--state", "enabled"], [PAY]),
        (["--after", "zzz/1"], []),
    ],
)
def test_filters_and_places_choose_what_is_listed(filled: Command, arguments: list[str], expected: list[str]) -> None:
    assert [row["keyId"] for row in filled.json("keys", *arguments)] == expected
    table = filled.done("keys", *arguments)
    assert [line.split()[0] for line in table.splitlines()[1:]] == expected


def test_a_listing_that_a_limit_cut_says_how_to_go_on(filled: Command) -> None:
    assert filled("keys", "--limit", "2")[2] == "sidekey: there may be more: --after default/2\n"
    assert filled("keys", "--limit", "4")[2] == ""
    assert filled("keys", "--limit", "9")[2] == ""


@pytest.mark.parametrize("command_name", ["keys", "keyrings"])
def test_an_empty_listing_says_so_beside_the_output(command: Command, command_name: str) -> None:
    command.data_dir.mkdir()
    fill(command.data_dir, [])
    code, out, err = command(command_name)
    assert (code, out) == (0, "")
    assert "there are no" in err
    assert "when it first encrypts, or by 'sidekey keyrings create'" in err
    code, out, err = command(command_name, "--json")
    assert (code, json.loads(out)) == (0, [])
    assert err.count("\n") == 1


def test_data_keys_that_do_not_fit_are_no_empty_keystore(filled: Command) -> None:
    assert filled("keys", "--state", "destroyed") == (0, "", "sidekey: no data key fits\n")


def test_an_unknown_keyring_is_an_error(filled: Command) -> None:
    assert "no keyring 'none'" in filled.refused("keys", "--keyring", "none")


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys"],
        ["keyrings"],
        ["keyrings", "create", "a"],
        ["rotate", "a"],
        ["rewrap"],
        ["set-state", "0a1b2c3d4e5f60", "disabled"],
    ],
)
@pytest.mark.parametrize("made", [False, True])
def test_a_keystore_that_is_not_there_is_an_error_and_is_not_made(
    command: Command, arguments: list[str], *, made: bool
) -> None:
    if made:
        command.data_dir.mkdir()
    assert "sidekey keystore upgrade" in command.refused(*arguments)
    assert [*command.data_dir.parent.rglob("*")] == ([command.data_dir] if made else [])


def test_a_keystore_that_cannot_be_opened_is_one_message(command: Command) -> None:
    command.data_dir.mkdir()
    (command.data_dir / "keystore.db").write_bytes(b"not a database" * 100)
    command.refused("keys")


async def test_a_listing_longer_than_a_page_is_written_page_by_page(capsys: pytest.CaptureFixture[str]) -> None:
    keystore = MemoryKeystore()
    await keystore.open(upgrade=True)
    for generation in range(1, 2502):
        assert await keystore.insert(record("default", generation))
    inventory = Inventory(keystore, lambda _name: KeyringTerms(RolloverSchedule(None)))
    assert await list_keys(inventory, as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["generation"] for row in rows] == list(range(1, 2502))
    assert [row["generation"] for row in rows if row["primary"]] == [2501]
    assert keystore.calls["list_keys"] == 3
    assert await list_keys(inventory, after=("default", 400), limit=1500, as_json=False) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in table[1:]] == [str(generation) for generation in range(401, 1901)]


async def test_what_would_steer_a_terminal_is_not_written_to_one(capsys: pytest.CaptureFixture[str]) -> None:
    keystore = MemoryKeystore()
    await keystore.open(upgrade=True)
    assert await keystore.insert(record("default", 1, kek_id="local:\x1b[2J\n\x07"))
    inventory = Inventory(keystore, lambda _name: KeyringTerms(RolloverSchedule(None)))
    await list_keys(inventory, as_json=False)
    assert "local:?[2J??" in capsys.readouterr().out


@pytest.mark.parametrize("listing", [list_keys, list_keyrings])
async def test_on_a_terminal_a_hint_stands_below_the_json_and_not_in_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, listing: Callable[..., Awaitable[int]]
) -> None:
    keystore = MemoryKeystore()
    await keystore.open(upgrade=True)
    for name in ("a", "b"):
        assert await keystore.insert(record(name))
    inventory = Inventory(keystore, lambda _name: KeyringTerms(RolloverSchedule(None)))
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    assert await listing(inventory, limit=1, as_json=True) == 0
    array, hint = capsys.readouterr().out.split("\n]\n")
    assert len(json.loads(f"{array}]")) == 1
    assert "--after a" in hint


async def test_hints_show_no_name_that_would_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    keystore = MemoryKeystore()
    await keystore.open(upgrade=True)
    for name in ("a\x1b[2J", "b\x1b[2J"):
        assert await keystore.insert(record(name))
    inventory = Inventory(keystore, lambda _name: KeyringTerms(RolloverSchedule(None)))
    await list_keys(inventory, limit=1, as_json=False)
    await list_keyrings(inventory, limit=1, as_json=False)
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert err.count("a?[2J") == 2


@pytest.mark.parametrize("arguments", [[], ["--state", "destroyed"], ["--keyring", "default"], ["--limit", "2"]])
def test_a_damaged_row_is_listed_as_one_hides_no_other_and_is_a_failure(filled: Command, arguments: list[str]) -> None:
    whole = [row["keyId"] for row in filled.json("keys", *arguments)]
    with closing(sqlite3.connect(filled.data_dir / "keystore.db", isolation_level=None)) as connection:
        connection.execute("UPDATE data_keys SET commitment = x'00' WHERE key_id = ?", (SECOND,))
    code, out, err = filled("keys", *arguments, "--json")
    rows = {row["keyId"]: row for row in json.loads(out)}
    assert (code, [*rows]) == (1, whole or [SECOND])
    damaged = rows[SECOND]
    assert (damaged["keyring"], damaged["generation"], damaged["state"]) == ("default", 2, "damaged")
    assert damaged["damage"] == f"the keystore's row of data key {SECOND} is damaged: column commitment"
    assert damaged.keys() > {key for row in rows.values() for key in row} - {"damage"}
    # The damaged row is the newest enabled one, so that nothing encrypts.
    assert [row["primary"] for row in rows.values() if row["keyring"] == "default"] == [False] * (len(whole[:3]) or 1)
    line = f"sidekey: damaged rows: 1; restore them from a backup; the first: {damaged['damage']}\n"
    assert err.endswith(line)
    code, out, err = filled("keys", *arguments)
    assert (code, [line.split()[0] for line in out.splitlines()[1:]]) == (1, [*rows])
    assert [SECOND, "default", "2", "damaged"] in [line.split() for line in out.splitlines()]
    assert err.endswith(line)


def test_keyrings_are_listed_with_their_primaries_and_what_holds_for_them(filled: Command) -> None:
    table = [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in filled.done("keyrings").splitlines()
    ]
    assert table == [
        ["KEYRING", "PRIMARY", "GENERATION", "AGE", "ROLLS OVER", "DEFAULT MODE", "DETERMINISTIC", "MADE BY"],
        ["default", SECOND, "2", "2h 3m", "after 365 days", "randomized", "allowed", "first use"],
        ["hr-pay", PAY, "1", "40d 0h", "after 365 days", "randomized", "allowed", "first use"],
    ]
    default, _pay = filled.json("keyrings")
    assert default["primary"]["keyId"] == SECOND
    assert (default["name"], default["createdAt"]) == ("default", None)
    assert default["settings"] == {
        "rollOverDays": 365.0,
        "defaultMode": "randomized",
        "allowDeterministic": True,
    }
    code, out, err = filled("keyrings", "--limit", "1", "--json")
    assert (code, len(json.loads(out)), err) == (0, 1, "sidekey: there are more: --after default\n")
    assert [each["name"] for each in filled.json("keyrings", "--after", "default")] == ["hr-pay"]


def test_the_configured_keystore_is_the_one_that_is_listed(filled: Command, tmp_path: Path) -> None:
    yaml = tmp_path / "sidekey.yaml"
    yaml.write_text(f"keystore: {{url: 'sqlite:///{filled.data_dir}/keystore.db'}}")
    assert cli.main(["keys", "--config", str(yaml), "--json"]) == 0
