"""The arguments of the commands for keyrings, data keys and the keystore.

They work on the configured keystore and KMS directly, with or without a sidecar that runs. Imports nothing heavy.
"""

import argparse

from sidecar.cli import key_commands as commands
from sidecar.cli.arguments import (
    STATES,
    add_command,
    as_json,
    days_or_never,
    dry_run,
    key_id,
    keyring,
    limit,
    place,
    since,
)

_Subparsers = argparse._SubParsersAction


def add_key_commands(subparsers: "_Subparsers[argparse.ArgumentParser]") -> None:
    """Add all of them."""
    _add_keyrings(subparsers)
    add_command(subparsers, "keys", commands.keys, "list the data keys", _keys, limit, as_json)
    add_command(
        subparsers,
        "set-state",
        commands.set_state,
        "disable a data key, enable it again, or destroy it for good",
        _new_state,
        dry_run,
        as_json,
    )
    add_command(
        subparsers,
        "rotate",
        commands.rotate,
        "make a new primary for a keyring now",
        _one_keyring,
        _abandon,
        dry_run,
        as_json,
    )
    add_command(
        subparsers,
        "rewrap",
        commands.rewrap,
        "wrap the data keys anew under the configured wrapping keys; values are not touched",
        _only_keyring,
        dry_run,
        as_json,
    )
    _add_keystore(subparsers)


def _add_keyrings(subparsers: "_Subparsers[argparse.ArgumentParser]") -> None:
    keyrings = add_command(
        subparsers, "keyrings", commands.keyrings, "list the keyrings, or create one", _after_name, limit, as_json
    )
    below = keyrings.add_subparsers(title="commands", metavar="COMMAND")
    add_command(
        below,
        "create",
        commands.create_keyring,
        "create a keyring and its first data key; one that is there with the same settings is fine",
        _one_keyring,
        _settings,
        dry_run,
        as_json,
        nested=True,
    )


def _add_keystore(subparsers: "_Subparsers[argparse.ArgumentParser]") -> None:
    summary = "show or upgrade the keystore's schema"
    keystore = subparsers.add_parser("keystore", help=summary, description=summary, allow_abbrev=False)
    below = keystore.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_command(below, "status", commands.keystore_status, "say whether the keystore can be served from", as_json)
    add_command(
        below, "upgrade", commands.keystore_upgrade, "create the keystore's schema or bring it up to date", dry_run
    )


def _one_keyring(command: argparse.ArgumentParser) -> None:
    command.add_argument("keyring", metavar="KEYRING", type=keyring, help="the keyring's name")


def _abandon(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--abandon",
        action="store_true",
        default=False,
        help="also replace a primary that no configured wrapping key may unwrap: values under the keyring's old data "
        "keys stay unreadable unless their wrapping key comes back",
    )


def _only_keyring(command: argparse.ArgumentParser) -> None:
    command.add_argument("--keyring", metavar="NAME", type=keyring, help="only the data keys of this keyring")


def _after_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("--after", metavar="NAME", type=keyring, help="begin after this keyring")


def _settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--roll-over-days",
        metavar="DAYS",
        type=days_or_never,
        default=None,
        help="make a new primary after so many days, or never (default: as each sidecar's configuration says)",
    )
    command.add_argument(
        "--default-mode",
        choices=("randomized", "deterministic"),
        default=None,
        help="the mode of callers that say none (default: as each sidecar's configuration says)",
    )
    which = command.add_mutually_exclusive_group()
    for flag, allowed, summary in (
        ("--deterministic", True, "allow the deterministic mode (default: as each sidecar's configuration says)"),
        ("--no-deterministic", False, "refuse the deterministic mode"),
    ):
        which.add_argument(
            flag, dest="allow_deterministic", action="store_const", const=allowed, default=None, help=summary
        )
    command.add_argument(
        "--replace",
        action="store_true",
        default=False,
        help="of a keyring that is there replace the settings that are named here; the others stay as they are stored",
    )


def _keys(command: argparse.ArgumentParser) -> None:
    _only_keyring(command)
    command.add_argument(
        "--state", choices=STATES, action="append", default=[], help="only data keys in this state; may be repeated"
    )
    command.add_argument(
        "--unused-since",
        metavar="WHEN",
        type=since,
        help="only data keys neither used nor made since then: a date (2026-03-01), a time (2026-03-01T12:30+01:00; "
        "UTC where it names no zone) or a span until now (30d, 12h, 90m)",
    )
    command.add_argument(
        "--after", metavar="PLACE", type=place, help="begin after this place, KEYRING/GENERATION (default/3)"
    )


def _new_state(command: argparse.ArgumentParser) -> None:
    command.add_argument("key_id", metavar="KEY_ID", type=key_id, help="the data key, as 'sidekey keys' shows it")
    command.add_argument("state", choices=STATES, help="the state that it is to have; destroyed is final")
    command.add_argument("--yes", action="store_true", help="destroy without asking")
    command.add_argument(
        "--force",
        action="store_true",
        help="destroy however lately it was disabled; sidecars that have not heard of it may still encrypt under it",
    )
