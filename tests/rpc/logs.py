"""Log lines of a sidecar in this process, as they would be written, and the process's logging put back afterwards."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from sidecar import log


class LogLines:
    """What was logged so far."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        """All lines."""
        return self.stream.getvalue()

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event; every line must be JSON."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == event]


@contextmanager
def logged() -> Iterator[LogLines]:
    """Log everything, as JSON, to what is yielded."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    lines = LogLines()
    log.configure("debug", "json", lines.stream)
    try:
        yield lines
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
