"""Commands that change keyrings, data keys and the keystore's schema, on the embedded default and its local KMS."""

import json
import re
import sqlite3
import stat

import pytest

from tests.cli.keystores import Command, fill
from tests.keystore.records import record


@pytest.fixture
def ready(command: Command) -> Command:
    """With an empty keystore."""
    command.done("keystore", "upgrade")
    return command


def test_a_keyring_is_created_once_and_with_its_first_data_key(ready: Command) -> None:
    out = ready.done("keyrings", "create", "pay", "--roll-over-days", "30", "--no-deterministic")
    assert re.fullmatch(
        r"keyring pay: data key [0-9a-f]{14} \(generation 1\) is the primary; it rolls over after 30 days, its default "
        r"mode is randomized, the deterministic mode is refused\n",
        out,
    )
    assert ready.done("keyrings", "create", "pay", "--roll-over-days", "30", "--no-deterministic") == out
    assert "is there with other settings" in ready.refused("keyrings", "create", "pay")
    answer = ready.json("keyrings", "create", "pay", "--roll-over-days", "never", "--replace")
    assert answer["settings"] == {"rollOverDays": "never", "defaultMode": "randomized", "allowDeterministic": False}
    assert answer["changes"] == {"rollOverDays": {"from": 30, "to": "never"}}
    assert answer["primary"]["generation"] == 1
    assert len(ready.json("keys")) == 1
    assert [each["settings"] for each in ready.json("keyrings")] == [answer["settings"]]


def test_replacing_changes_only_the_settings_that_are_named_and_says_which(ready: Command) -> None:
    ready.done("keyrings", "create", "pay", "--roll-over-days", "90", "--no-deterministic")
    dry = ready.done("keyrings", "create", "pay", "--replace", "--roll-over-days", "0.5", "--dry-run")
    assert dry == (
        "keyring pay: rollover: 90 days -> 0.5 days\nkeyring pay: its settings would change; it then rolls over after "
        "0.5 days, its default mode is randomized, the deterministic mode is refused\n"
    )
    assert ready.json("keyrings")[0]["settings"]["rollOverDays"] == 90
    out = ready.done("keyrings", "create", "pay", "--replace", "--roll-over-days", "30")
    assert out.startswith("keyring pay: rollover: 90 days -> 30 days\nkeyring pay: data key ")
    out = ready.done("keyrings", "create", "pay", "--replace", "--deterministic", "--default-mode", "deterministic")
    assert "keyring pay: default mode: as configured -> deterministic\n" in out
    assert "keyring pay: deterministic mode: refused -> allowed\n" in out
    assert ready.json("keyrings")[0]["settings"] == {
        "rollOverDays": 30,
        "defaultMode": "deterministic",
        "allowDeterministic": True,
    }
    assert "nothing would change" in ready.done("keyrings", "create", "pay", "--replace", "--dry-run")
    code, _, err = ready("keyrings", "create", "pay", "--replace", "--no-deterministic", "--dry-run")
    assert (code, "not allow it" in err) == (2, True)


def test_a_dry_run_of_a_creation_makes_nothing_and_is_refused_as_that_would_be(ready: Command) -> None:
    out = ready.done("keyrings", "create", "pay", "--roll-over-days", "never", "--dry-run")
    assert out.startswith("keyring pay: would be made with its first data key; it never rolls over, ")
    assert ready.json("keyrings") == []
    ready.done("keyrings", "create", "pay")
    text = ready.refused("keyrings", "create", "pay", "--roll-over-days", "never", "--dry-run")
    assert "is there with other settings" in text
    answer = ready.json("keyrings", "create", "pay", "--dry-run")
    assert (answer["dryRun"], answer["changes"], answer["primary"]["generation"]) == (True, {}, 1)


def test_settings_that_contradict_each_other_are_wrong_usage(ready: Command) -> None:
    code, out, err = ready("keyrings", "create", "pay", "--default-mode", "deterministic", "--no-deterministic")
    assert (code, out) == (2, "")
    assert "not allow it" in err
    assert ready.json("keyrings") == []


def test_flags_before_and_behind_create_mean_the_same(ready: Command, capsys: pytest.CaptureFixture[str]) -> None:
    from sidecar import cli

    assert cli.main(["keyrings", "--data-dir", str(ready.data_dir), "--json", "create", "pay"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "pay"
    assert [each["name"] for each in ready.json("keyrings")] == ["pay"]


def test_a_rotation_says_which_data_key_followed_which(ready: Command) -> None:
    first = ready.json("keyrings", "create", "pay")["primary"]["keyId"]
    dry = ready.done("rotate", "pay", "--dry-run")
    assert dry == f"keyring pay: a new primary would replace data key {first} (generation 1)\n"
    assert len(ready.json("keys")) == 1
    code, out, err = ready("rotate", "pay")
    assert code == 0
    assert re.fullmatch(
        rf"keyring pay: data key [0-9a-f]{{14}} \(generation 2\) is the primary; data key {first} \(generation 1\) "
        r"was, and goes on decrypting\n",
        out,
    )
    assert "cache.ttlSeconds" in err
    answer = ready.json("rotate", "pay")
    assert (answer["replaced"]["generation"], answer["primary"]["generation"]) == (2, 3)
    assert (answer["replaced"]["primary"], answer["primary"]["primary"]) == (False, True)
    assert ready.json("rotate", "pay", "--dry-run")["replaced"]["primary"] is True
    assert [row["primary"] for row in ready.json("keys")] == [False, False, True]
    assert "no keyring 'none'" in ready.refused("rotate", "none")


def test_a_primary_of_a_kms_that_is_not_configured_is_replaced_only_where_it_is_abandoned(ready: Command) -> None:
    ready.done("keyrings", "create", "pay")
    with sqlite3.connect(ready.data_dir / "keystore.db") as database:
        database.execute("UPDATE data_keys SET kek_id = 'arn:aws:kms:eu-west-1:111122223333:key/1'")
    database.close()
    code, out, err = ready("rotate", "pay")
    assert (code, out) == (1, "")
    assert (
        "is wrapped under arn:aws:kms:eu-west-1:111122223333:key/1, and the configured wrapping keys are local:" in err
    )
    assert [row["generation"] for row in ready.json("keys")] == [1]
    code, out, err = ready("rotate", "pay", "--abandon")
    assert (code, "(generation 2) is the primary" in out) == (0, True)
    assert "stays unreadable unless a wrapping key comes back that it is wrapped under" in err
    assert "goes on decrypting" not in out


def test_no_local_wrapping_key_is_made_beside_data_keys_of_a_kms_nor_by_a_dry_run(command: Command) -> None:
    command.done("keystore", "upgrade")
    assert "a dry run makes none" in command.refused("rewrap", "--dry-run")
    fill(command.data_dir, [record("pay", kek_id="arn:aws:kms:eu-west-1:111122223333:key/1")])
    commands = [["rotate", "pay"], ["rotate", "pay", "--abandon"], ["keyrings", "create", "b"], ["rewrap"]]
    for arguments in (*commands, ["rewrap", "--dry-run"]):
        assert "name the configuration file that has their KMS (--config FILE)" in command.refused(*arguments)
    assert [row["generation"] for row in command.json("keys")] == [1]
    assert not (command.data_dir / "kek").exists()


def test_a_rewrap_of_what_is_wrapped_as_configured_changes_nothing(ready: Command) -> None:
    ready.done("keyrings", "create", "a")
    ready.done("keyrings", "create", "b")
    assert ready.done("rewrap") == "rewrapped: 0; unchanged: 2; failed: 0\n"
    assert ready.done("rewrap", "--keyring", "a", "--dry-run") == "would be rewrapped: 0; unchanged: 1; failed: 0\n"
    assert ready.json("rewrap") == {"failures": [], "rewrapped": 0, "unchanged": 2, "failed": 0, "dryRun": False}
    assert "no keyring 'none'" in ready.refused("rewrap", "--keyring", "none")


def test_data_keys_that_cannot_be_rewrapped_are_listed_and_stay_as_they_are(ready: Command) -> None:
    for name in ("a", "b"):
        ready.done("keyrings", "create", name)
    database = sqlite3.connect(ready.data_dir / "keystore.db")
    with database:
        database.execute("UPDATE data_keys SET kek_id = 'local:0011223344556677' WHERE keyring = 'b'")
    before = database.execute("SELECT key_id, kek_id, wrapped_key FROM data_keys ORDER BY keyring").fetchall()
    key_id = before[1][0]
    code, out, err = ready("rewrap")
    assert (code, out) == (1, "rewrapped: 0; unchanged: 1; failed: 1\n")
    assert (
        f"sidekey: data key {key_id} of keyring b was not rewrapped: data key {key_id} is wrapped under local:" in err
    )
    assert "formerKms" in err
    assert "(KMS_ACCESS_DENIED)" in err
    assert "the same command again goes on" in err
    code, out, _ = ready("rewrap", "--json")
    answer = json.loads(out)
    assert (code, answer["failed"], len(answer["failures"])) == (1, 1, 1)
    assert answer["failures"][0].keys() == {"keyId", "keyring", "reason", "problem"}
    assert database.execute("SELECT key_id, kek_id, wrapped_key FROM data_keys ORDER BY keyring").fetchall() == before
    database.close()


def test_a_keystore_is_made_by_upgrading_and_its_status_says_so(command: Command) -> None:
    url = f"sqlite:///{command.data_dir}/keystore.db"
    code, out, err = command("keystore", "status")
    assert (code, out) == (1, f"keystore {url}: no schema; not ready\n")
    assert "or leave it to 'sidekey serve'" in err
    assert (
        command.done("keystore", "upgrade", "--dry-run")
        == "the keystore has no schema and would have schema version 2\n"
    )
    assert not command.data_dir.exists()
    assert command.done("keystore", "upgrade") == "the keystore had no schema and has schema version 2\n"
    assert command.done("keystore", "upgrade") == "the keystore has schema version 2 already\n"
    assert command.done("keystore", "status") == f"keystore {url}: schema version 2; ready\n"
    assert command.json("keystore", "status") == {
        "url": url,
        "schemaVersion": 2,
        "newestSchemaVersion": 2,
        "ready": True,
        "upgradesItself": True,
        "problem": None,
    }
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [command.data_dir, *command.data_dir.iterdir()]}
    assert modes == {"data": 0o700, "keystore.db": 0o600}


def test_a_keystore_that_was_never_made_is_named_and_is_left_to_serve_where_that_makes_it(command: Command) -> None:
    url = f"sqlite:///{command.data_dir}/keystore.db"
    assert command.refused("keys") == (
        f"sidekey: keystore {url}: the keystore has no schema yet: run 'sidekey keystore upgrade', which makes it; "
        "or leave it to 'sidekey serve', which does it by itself\n"
    )


def test_a_keystore_of_a_newer_version_is_left_alone(ready: Command) -> None:
    with sqlite3.connect(ready.data_dir / "keystore.db") as database:
        database.execute("UPDATE schema_version SET version = 99")
    database.close()
    for arguments in (["keystore", "upgrade"], ["keystore", "upgrade", "--dry-run"], ["keys"]):
        assert "schema version 99" in ready.refused(*arguments)
    code, out, err = ready("keystore", "status")
    assert (code, out.endswith("schema version 99; not ready\n")) == (1, True)
    assert "leave it to" not in err


def test_an_error_names_the_keystore_without_its_password(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDEKEY_KEYSTORE_URL", "postgresql://u:hunter2@127.0.0.1:1/d")
    for arguments in (["keystore", "upgrade"], ["keys"], ["rotate", "pay"]):
        code, out, err = command(*arguments)
        assert (code, out) == (1, "")
        # One line alone: that the call failed is not logged as well.
        assert err == (
            "sidekey: keystore postgresql://u:<redacted>@127.0.0.1:1/d: "
            "the keystore cannot be reached, or did not do its work in time\n"
        )
    monkeypatch.setenv("SIDEKEY_LOG_LEVEL", "info")
    assert "keystore_call_failed" in command("keys")[2]


def test_the_status_of_a_keystore_that_is_away_is_json_as_well(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDEKEY_KEYSTORE_URL", "postgresql://u:hunter2@127.0.0.1:1/d")
    code, out, err = command("keystore", "status", "--json")
    assert (code, err) == (1, "")
    assert json.loads(out) == {
        "url": "postgresql://u:<redacted>@127.0.0.1:1/d",
        "schemaVersion": None,
        "newestSchemaVersion": 2,
        "ready": False,
        "upgradesItself": False,
        "problem": "the keystore cannot be reached, or did not do its work in time",
    }
    code, out, err = command("keystore", "status")
    assert (code, out) == (1, "keystore postgresql://u:<redacted>@127.0.0.1:1/d: not ready\n")
    assert err == "sidekey: the keystore cannot be reached, or did not do its work in time\n"


def test_the_status_of_what_is_no_keystore_is_json_as_well(command: Command) -> None:
    command.data_dir.mkdir()
    (command.data_dir / "keystore.db").write_bytes(b"no database at all" * 100)
    code, out, err = command("keystore", "status", "--json")
    assert (code, err) == (1, "")
    answer = json.loads(out)
    assert (answer["ready"], answer["schemaVersion"]) == (False, None)
    assert "is not a keystore database" in answer["problem"]
