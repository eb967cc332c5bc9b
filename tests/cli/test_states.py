"""Disabling, enabling and destroying a data key; who destroys one on a terminal is asked."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from sidecar.keystore.port import KeyState, Usage
from tests.cli.keystores import Command, fill
from tests.cli.terminal import OnTerminal
from tests.keystore.records import record

NOW = datetime.now(UTC)
OLD = record("pay", 1, key_id="01010101010101", created_at=NOW - timedelta(days=400), state=KeyState.DISABLED)
ENABLED = record("pay", 2, key_id="02020202020202", created_at=NOW - timedelta(days=300))
PRIMARY = record("pay", 3, key_id="03030303030303", created_at=NOW - timedelta(days=200))
USAGE = {
    OLD.key_id: Usage(1234, 56789, NOW - timedelta(days=390), NOW - timedelta(days=3, hours=2, seconds=5)),
    ENABLED.key_id: Usage(1, 1, NOW - timedelta(days=290), NOW - timedelta(days=31)),
}
WARNING = "WARNING: it was used within the last 30 days"


@pytest.fixture
def filled(command: Command) -> Command:
    command.data_dir.mkdir()
    fill(command.data_dir, (OLD, ENABLED, PRIMARY), USAGE)
    return command


def _states(command: Command) -> dict[str, str]:
    return {row["keyId"]: row["state"] for row in command.json("keys")}


def test_a_data_key_is_disabled_and_enabled_again(filled: Command) -> None:
    named = f"data key {ENABLED.key_id} of keyring pay (generation 2)"
    code, out, err = filled("set-state", ENABLED.key_id, "disabled")
    assert (code, out) == (0, f"{named} was enabled and is disabled\n")
    assert "cache.ttlSeconds" in err
    assert _states(filled)[ENABLED.key_id] == "disabled"
    assert filled.done("set-state", ENABLED.key_id, "disabled") == f"{named} is disabled already\n"
    assert filled.done("set-state", ENABLED.key_id, "enabled") == f"{named} was disabled and is enabled\n"
    answer = filled.json("set-state", ENABLED.key_id, "disabled")
    assert (answer["changed"], answer["dryRun"], answer["key"]["state"]) == (True, False, "disabled")
    assert answer["key"]["stateChangedAt"] is not None


@pytest.mark.parametrize(
    ("key_id", "state", "text"),
    [
        (PRIMARY.key_id, "disabled", "is the primary of keyring 'pay': rotate the keyring first"),
        (PRIMARY.key_id, "destroyed", "rotate the keyring first, then disable the data key"),
        (ENABLED.key_id, "destroyed", "is enabled: disable it first, then destroy it"),
        ("0a1b2c3d4e5f60", "disabled", "the keystore has no data key 0a1b2c3d4e5f60"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--dry-run"], ["--yes"], ["--json"]])
def test_what_may_not_be_is_refused_and_nobody_is_asked(
    filled: Command, key_id: str, state: str, text: str, flags: list[str]
) -> None:
    before = _states(filled)
    assert text in filled.refused("set-state", key_id, state, *flags)
    assert _states(filled) == before


def test_a_dry_run_changes_nothing_and_says_what_would_be_lost(filled: Command) -> None:
    before = _states(filled)
    code, out, err = filled("set-state", OLD.key_id, "destroyed", "--dry-run")
    assert (code, out) == (
        0,
        f"data key {OLD.key_id} of keyring pay (generation 1) is disabled and would be destroyed\n",
    )
    for line in (
        f"data key {OLD.key_id} of keyring pay, generation 1\n",
        "encrypted  1,234 values\n",
        "decrypted  56,789 values\n",
        "last used  3d 2h ago\n",
        "Destroying it is final",
        WARNING,
    ):
        assert line in err
    assert _states(filled) == before
    answer = filled.json("set-state", OLD.key_id, "destroyed", "--dry-run")
    assert (answer["changed"], answer["dryRun"], answer["key"]["state"]) == (False, True, "disabled")


def test_who_is_sure_is_shown_what_is_lost_and_not_asked(filled: Command) -> None:
    filled.done("set-state", ENABLED.key_id, "disabled")
    code, out, err = filled("set-state", ENABLED.key_id, "destroyed", "--yes", "--force")
    assert (code, out[-13:]) == (0, "is destroyed\n")
    assert "encrypted  1 values" in err
    assert WARNING not in err
    assert f"WARNING: data key {ENABLED.key_id} was disabled at " in err
    assert _states(filled)[ENABLED.key_id] == "destroyed"
    assert filled.json("keys", "--state", "destroyed")[0]["kekIds"] == []
    assert "that is final" in filled.refused("set-state", ENABLED.key_id, "enabled")


@pytest.mark.parametrize("flags", [[], ["--dry-run"], ["--yes"], ["--yes", "--json"]])
def test_what_was_disabled_a_moment_ago_is_not_destroyed_but_by_force(filled: Command, flags: list[str]) -> None:
    filled.done("set-state", ENABLED.key_id, "disabled")
    refused = filled.refused("set-state", ENABLED.key_id, "destroyed", *flags)
    assert re.search(r"was disabled at \S+ \S+ UTC and may be destroyed from \S+ \S+ UTC on: until then", refused)
    assert _states(filled)[ENABLED.key_id] == "disabled"
    filled.done("set-state", ENABLED.key_id, "destroyed", "--yes", "--force")


def test_how_long_it_must_be_disabled_follows_from_the_configuration(
    filled: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.done("set-state", ENABLED.key_id, "disabled")
    monkeypatch.setenv("SIDEKEY_CACHE_TTL_SECONDS", "1e-6")
    monkeypatch.setenv("SIDEKEY_CACHE_STALE_ON_OUTAGE_SECONDS", "0")
    monkeypatch.setenv("SIDEKEY_USAGE_FLUSH_SECONDS", "1e-6")
    filled.done("set-state", ENABLED.key_id, "destroyed", "--yes")


def test_force_lifts_no_other_rule_and_asks_all_the_same(filled: Command) -> None:
    assert "disable it first" in filled.refused("set-state", ENABLED.key_id, "destroyed", "--force")
    filled.done("set-state", ENABLED.key_id, "disabled")
    code, _, err = filled("set-state", ENABLED.key_id, "destroyed", "--force")
    assert (code, _states(filled)[ENABLED.key_id]) == (2, "disabled")
    assert err.endswith("to destroy it give --yes; nothing was changed\n")


def test_where_nobody_can_be_asked_nothing_is_destroyed_unasked(filled: Command) -> None:
    before = _states(filled)
    code, out, err = filled("set-state", OLD.key_id, "destroyed")
    assert (code, out) == (2, "")
    assert err.endswith("to destroy it give --yes; nothing was changed\n")
    assert _states(filled) == before


@pytest.mark.parametrize(
    ("typed", "code", "state"),
    [
        (f"{OLD.key_id}\n", 0, "destroyed"),
        (f"{PRIMARY.key_id}\n", 1, "disabled"),
        ("yes\n", 1, "disabled"),
        ("\x04", 1, "disabled"),
        ("\x03", 130, "disabled"),
    ],
)
def test_on_a_terminal_the_key_id_must_be_typed(filled: Command, typed: str, code: int, state: str) -> None:
    with OnTerminal(filled, "set-state", OLD.key_id, "destroyed") as terminal:
        terminal.until("type its key id: ")
        terminal.press(typed)
        shown = terminal.end(code)
    assert WARNING in shown
    assert "Traceback" not in shown
    assert ("nothing was changed" in shown) == (code == 1)
    assert _states(filled)[OLD.key_id] == state
