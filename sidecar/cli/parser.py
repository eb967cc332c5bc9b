"""The arguments of every command. Imports nothing heavy: each command loads what it needs when it runs."""

import argparse
import math
from collections.abc import Callable

import sidecar
from sidecar.cli import commands

_DESCRIPTION = "Sidekey: an encryption sidecar. Encrypts and decrypts whole columns, with the KMS off the hot path."
_EPILOG = "exit codes: 0 done, 1 failed, 2 wrong usage or configuration"

_Arguments = Callable[[argparse.ArgumentParser], None]


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the ``run`` of its result is the command to call with that result."""
    root = argparse.ArgumentParser(prog="sidekey", description=_DESCRIPTION, epilog=_EPILOG, allow_abbrev=False)
    root.add_argument("--version", action="version", version=f"sidekey {sidecar.__version__}")
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], summary: str, *arguments: _Arguments) -> None:
        command = subparsers.add_parser(name, help=summary, description=summary, epilog=_EPILOG, allow_abbrev=False)
        command.set_defaults(run=run)
        for each in arguments:
            each(command)

    add("serve", commands.serve, "serve until SIGTERM, which drains; a second one exits", _file, _data_dir, _serving)
    add("check-config", commands.check_config, "check the configuration, and warn", _file, _data_dir, _serving)
    add("print-config", commands.print_config, "print the configuration, redacted", _file, _data_dir, _serving)
    add("healthcheck", commands.healthcheck, "ask a running sidecar whether it is healthy", _file, _data_dir, _health)
    add("keys", commands.keys, "list the data keys in the keystore", _file, _data_dir, _keys)
    return root


def _file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", metavar="FILE", help="the configuration file (default: $SIDEKEY_CONFIG, else none)"
    )


def _data_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-dir", metavar="DIR", help="where sockets, keystore and local wrapping key are kept")


def _serving(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--listen", metavar="ADDR", action="append", help="unix:///path or host:port on loopback; may be repeated"
    )
    command.add_argument("--http", metavar="ADDR", help="host:port for metrics and probes, or off (default)")
    command.add_argument("--log-level", metavar="LEVEL", help="debug, info (default), warning or error")
    command.add_argument(
        "--log-format", metavar="FORMAT", help="json, console, or auto: console on a terminal (default)"
    )


def _health(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--target", metavar="ADDR", help="the sidecar (default: $SIDEKEY_TARGET, else the first configured address)"
    )
    command.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=2.0, help="how long to wait for the answer (default: 2)"
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--service",
        metavar="NAME",
        default="sidekey.v1.EncryptionService",
        help="whose health (default: sidekey.v1.EncryptionService, which can encrypt and decrypt now)",
    )
    which.add_argument(
        "--live", dest="service", action="store_const", const="", help="only whether the process is alive"
    )


def _keys(command: argparse.ArgumentParser) -> None:
    command.add_argument("--keyring", metavar="NAME", help="only the data keys of this keyring")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError("must be more than 0")
    return seconds
