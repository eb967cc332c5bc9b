"""The kinds of arguments that several commands take. Imports nothing heavy."""

import argparse
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sidecar.names import KEYRING_NAME, KEYRING_NAME_RULE

EPILOG = "exit codes: 0 done, 1 failed, 2 wrong usage or configuration"
TARGET_RULE = "must be unix:///absolute/path or host:port"
STATES = ("enabled", "disabled", "destroyed")

_SPAN = re.compile(r"([0-9]{1,6})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_PLACE = re.compile(rf"({KEYRING_NAME.pattern})/([0-9]{{1,18}})")
_TARGET = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|xds):\S+|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_KEY_ID = re.compile(r"[0-9a-f]{14}")
_MOST_ROWS = 1_000_000_000
MOST_DAYS = 36_500
"""The same as in ``sidecar.keys.administration``, which is too heavy to import here."""

Run = Callable[[argparse.Namespace], int]
Arguments = Callable[[argparse.ArgumentParser], None]


def add_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Run,
    summary: str,
    *arguments: Arguments,
    nested: bool = False,
) -> argparse.ArgumentParser:
    """Add a command that knows which function it runs; every command takes ``--config`` and ``--data-dir``.

    ``nested``: below a command that takes these too. What is not given again then stays as it was given above.
    """
    command = subparsers.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=EPILOG,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS if nested else None,
    )
    command.set_defaults(run=run)
    for each in (_file, _data_dir, *arguments):
        each(command)
    return command


def as_json(command: argparse.ArgumentParser) -> None:
    """``--json``."""
    command.add_argument("--json", action="store_true", help="print JSON instead of text")


def dry_run(command: argparse.ArgumentParser) -> None:
    """``--dry-run``."""
    command.add_argument(
        "--dry-run", action="store_true", default=False, help="change nothing, and say what would be done"
    )


def limit(command: argparse.ArgumentParser) -> None:
    """``--limit``."""
    command.add_argument("--limit", metavar="N", type=row_count, help="list at most so many (default: all)")


def _file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", metavar="FILE", type=path, help="the configuration file (default: $SIDEKEY_CONFIG, else none)"
    )


def _data_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-dir", metavar="DIR", type=path, help="where sockets, keystore and local wrapping key are kept"
    )


def path(text: str) -> str:
    """A path: an empty one is a variable that was not set in somebody's script, and stands for no default."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def target(text: str) -> str:
    """Where a sidecar is, as gRPC takes it: ``unix:///path``, ``host:port``, or with a scheme of gRPC's."""
    if _TARGET.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(TARGET_RULE)
    return text


def seconds(text: str) -> float:
    """A number of seconds, more than 0."""
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError("must be more than 0")
    return number


def row_count(text: str) -> int:
    """A number of rows, at least 1."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) <= _MOST_ROWS):
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)


def days_or_never(text: str) -> float:
    """Days, more than 0 and at most ``MOST_DAYS``; ``math.inf`` for ``never``."""
    if text == "never":
        return math.inf
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 < days <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"must be days, more than 0 and at most {MOST_DAYS}, or never")
    return days


def keyring(text: str) -> str:
    """A keyring's name."""
    if KEYRING_NAME.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"must be {KEYRING_NAME_RULE}")
    return text


def key_id(text: str) -> str:
    """A key id as listings show it."""
    if _KEY_ID.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("must be 14 of 0-9 and a-f, as 'sidekey keys' shows it")
    return text


def place(text: str) -> tuple[str, int]:
    """A place in a listing of data keys, as its end says it."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("must be KEYRING/GENERATION, for example default/3")
    return match[1], int(match[2])


def since(text: str) -> datetime:
    """A date or time (UTC where it says no zone), or a span before now: ``30d``, ``12h``, ``90m``."""
    now = datetime.now(UTC)
    try:
        if match := _SPAN.fullmatch(text):
            time = now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        else:
            given = datetime.fromisoformat(text)
            time = given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            "must be a date (2026-03-01), a time (2026-03-01T12:30+01:00) or a span until now (30d, 12h, 90m)"
        ) from None
    if time >= now:
        # Every data key was last used before that, which is no reason to give one up.
        raise argparse.ArgumentTypeError("must be in the past")
    return time
