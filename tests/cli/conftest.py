"""What the commands change in the process, put back after each test."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.cli.keystores import Command


@pytest.fixture(autouse=True)
def _logging_put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = threading.excepthook, sys.unraisablehook
    yield
    threading.excepthook, sys.unraisablehook = hooks
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Commands on an empty data directory, in a bare environment."""
    for name in [name for name in os.environ if name.startswith(("SIDEKEY_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Command(tmp_path / "data", capsys)


@pytest.fixture(autouse=True)
def _umask_put_back() -> Iterator[None]:
    umask = os.umask(0o077)
    os.umask(umask)
    yield
    os.umask(umask)
