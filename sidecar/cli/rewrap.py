"""Wraps all data keys anew, page by page, and says how far it has come.

It can be stopped and begun again at any time: a data key that is done is found done.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sidecar.cli.opening import opened
from sidecar.cli.output import hint, printable, say
from sidecar.config import Config
from sidecar.errors import SidekeyError
from sidecar.keys.inventory import Inventory
from sidecar.keys.rewrapping import RewrapPage

_PAGE: Final = 100
_COUNTING_PAGE: Final = 1000
_SECONDS_BETWEEN_LINES: Final = 10.0

OnPage = Callable[["Totals"], None]


@dataclass(slots=True)
class Totals:
    """What came of all data keys so far."""

    rewrapped: int = 0
    unchanged: int = 0
    failed: int = 0

    @property
    def seen(self) -> int:
        """All of them."""
        return self.rewrapped + self.unchanged + self.failed

    def add(self, page: RewrapPage) -> None:
        """Count a page."""
        self.rewrapped += page.rewrapped
        self.unchanged += page.unchanged
        self.failed += len(page.failures)


async def rewrap(config: Config, keyring: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Returns the exit code: 1 where a data key could not be rewrapped. Raises as ``Administration.rewrap``."""
    totals = Totals()
    report = _JsonReport(dry_run=dry_run) if as_json else _TextReport(dry_run=dry_run)
    async with opened(config, kms=True, dry_run=dry_run) as (inventory, administration):
        total = await _count(inventory, keyring) if sys.stderr.isatty() else None
        with _progress(total) as on_page:
            after = None
            try:
                while True:
                    page = await administration.rewrap(keyring, after=after, limit=_PAGE, dry_run=dry_run)
                    totals.add(page)
                    report.failed(page)
                    on_page(totals)
                    if (after := page.next) is None:
                        break
            except SidekeyError:
                if totals.seen:
                    hint(f"stopped after {totals.seen:,} data keys; the same command again goes on")
                raise
    report.end(totals)
    if totals.failed and not dry_run:
        hint(f"{totals.failed:,} data keys are as they were; once the cause is mended, the same command again goes on")
    return 1 if totals.failed else 0


class _TextReport:
    def __init__(self, *, dry_run: bool) -> None:
        self._would = "would be " if dry_run else ""
        self._not = "could not be" if dry_run else "was not"

    def failed(self, page: RewrapPage) -> None:
        for failure in page.failures:
            name = f"data key {failure.key_id or 'of unreadable id'} of keyring {printable(failure.keyring)}"
            hint(f"{name} {self._not} rewrapped: {failure.problem} ({failure.reason})")

    def end(self, totals: Totals) -> None:
        say(f"{self._would}rewrapped: {totals.rewrapped:,}; unchanged: {totals.unchanged:,}; failed: {totals.failed:,}")


class _JsonReport:
    """One object, whose failures are written as they come: there may be as many as there are data keys."""

    def __init__(self, *, dry_run: bool) -> None:
        self._dry_run = dry_run
        self._before = '{"failures": [\n'

    def failed(self, page: RewrapPage) -> None:
        for key_id, keyring, reason, problem in page.failures:
            failure = {"keyId": key_id, "keyring": keyring, "reason": reason, "problem": problem}
            sys.stdout.write(f"{self._before}  {json.dumps(failure)}")
            self._before = ",\n"

    def end(self, totals: Totals) -> None:
        counts = {
            "rewrapped": totals.rewrapped,
            "unchanged": totals.unchanged,
            "failed": totals.failed,
            "dryRun": self._dry_run,
        }
        begun = "\n]" if totals.failed else '{"failures": []'
        sys.stdout.write(f"{begun}, {json.dumps(counts)[1:]}\n")


async def _count(inventory: Inventory, keyring: str | None) -> int:
    """How many data keys there are."""
    count, after = 0, None
    while True:
        page = await inventory.keys(keyring, after=after, limit=_COUNTING_PAGE)
        count += len(page.keys)
        if (after := page.next) is None:
            return count


def _progress(total: int | None) -> AbstractContextManager[OnPage]:
    return _lines() if total is None else _bar(total)


@contextmanager
def _bar(total: int) -> Iterator[OnPage]:
    """A progress bar on stderr."""
    columns = (
        TextColumn("rewrapping"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("rewrap", total=total)
        yield lambda totals: progress.update(task, completed=totals.seen)


@contextmanager
def _lines() -> Iterator[OnPage]:
    """A line on stderr every few seconds."""
    last = begun = time.monotonic()

    def on_page(totals: Totals) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            hint(f"{totals.seen:,} data keys seen, {totals.seen / (now - begun):,.0f} a second")

    yield on_page


class _Rate(ProgressColumn):
    """Data keys a second."""

    def render(self, task: Task) -> Text:
        """As the columns of ``rich`` do."""
        return Text(f"{task.speed or 0:,.0f}/s")
