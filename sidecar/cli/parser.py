"""The whole command line, and the arguments of what runs and probes a sidecar. Imports nothing heavy.

Each command loads what it needs when it runs.
"""

import argparse

import sidecar
from sidecar.cli import commands
from sidecar.cli.arguments import EPILOG, add_command, seconds, target
from sidecar.cli.key_parser import add_key_commands

_DESCRIPTION = "Sidekey: an encryption sidecar. Encrypts and decrypts whole columns, with the KMS off the hot path."


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the ``run`` of its result is the command to call with that result."""
    root = argparse.ArgumentParser(prog="sidekey", description=_DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    root.add_argument("--version", action="version", version=f"sidekey {sidecar.__version__}")
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_command(subparsers, "serve", commands.serve, "serve until SIGTERM, which drains; a second one exits", _serving)
    add_command(subparsers, "check-config", commands.check_config, "check the configuration, and warn", _serving)
    add_command(subparsers, "print-config", commands.print_config, "print the configuration, redacted", _serving)
    add_command(subparsers, "healthcheck", commands.healthcheck, "ask a running sidecar whether it is healthy", _health)
    add_key_commands(subparsers)
    return root


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
        "--target",
        metavar="ADDR",
        type=target,
        help="the sidecar, unix:///path or host:port (default: with neither --config nor --data-dir $SIDEKEY_TARGET; "
        "else the first configured address)",
    )
    command.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=2.0, help="how long to wait for the answer (default: 2)"
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
