"""How commands write what they list: tables and JSON arrays that grow page by page, and times in few letters."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple


class Column(NamedTuple):
    """A column of a table."""

    title: str
    is_number: bool = False


class Table:
    """Writes rows in columns to stdout; each page as wide as it must be, and no narrower than the one before it."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._widths = [len(column.title) for column in columns]
        self._is_begun = False

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Write rows, and the titles before the first."""
        if not rows:
            return
        rows = [[printable(cell) for cell in row] for row in rows]
        self._widths = [
            max(width, *map(len, cells)) for width, cells in zip(self._widths, zip(*rows, strict=True), strict=True)
        ]
        if not self._is_begun:
            self._is_begun = True
            self._write([column.title for column in self._columns])
        for row in rows:
            self._write(row)

    def end(self) -> None:
        """Nothing stands below a table."""

    def _write(self, row: Sequence[str]) -> None:
        cells = (
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(row, self._widths, self._columns, strict=True)
        )
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


class JsonArray:
    """Writes a JSON array to stdout, one element a line; it is whole after ``end``."""

    def __init__(self) -> None:
        self._before = "[\n"

    def add(self, elements: Sequence[Mapping[str, Any]]) -> None:
        """Write elements."""
        for element in elements:
            sys.stdout.write(f"{self._before}  {json.dumps(element)}")
            self._before = ",\n"

    def end(self) -> None:
        """Close it."""
        sys.stdout.write("[]\n" if self._before == "[\n" else "\n]\n")


def write_json(value: Mapping[str, Any]) -> None:
    """One JSON object to stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def say(text: str) -> None:
    """A line to stdout: what a command did."""
    sys.stdout.write(f"{printable(text)}\n")


def hint(text: str) -> None:
    """A line to stderr: what a reader of the output should know besides."""
    sys.stderr.write(f"sidekey: {printable(text)}\n")


def printable(text: str) -> str:
    """Text from a keystore without what would steer a terminal."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def age(span: timedelta) -> str:
    """The two largest units, for example ``3d 4h``."""
    seconds = max(int(span.total_seconds()), 0)
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {seconds % 60}s" if minutes else f"{seconds}s"


def iso(time: datetime | None) -> str | None:
    """A time as JSON holds it."""
    return None if time is None else time.isoformat()
