"""The operator's page names every metric and every log event, and none that is not there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sidecar.metrics import Metrics
from tests.docs.processes import ROOT

_PAGE = (ROOT / "docs" / "operations.md").read_text()
_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "log", "warn"}
_EVENT = re.compile(r"[a-z]+(_[a-z]+)*")


def _first_cells(heading: str) -> set[str]:
    section = _PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}


def _events(path: Path) -> Iterator[str]:
    """What the calls to a logger in a file name as their event: the first literal text among the arguments."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in _LOG_METHODS:
            for argument in node.args[:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    if _EVENT.fullmatch(argument.value):
                        yield argument.value
                    break


def test_every_metric_is_on_the_page_and_no_other() -> None:
    names = {family.name for family in Metrics().registry.collect()}
    # Cells of the table of alerts are expressions and no names.
    assert {name for name in _first_cells("Metrics and alerts") if re.fullmatch(r"sidekey_[a-z_]+", name)} == names


def test_every_log_event_is_on_the_page_and_no_other() -> None:
    logged = {event for path in (ROOT / "sidecar").rglob("*.py") for event in _events(path)}
    assert len(logged) > 30
    assert _first_cells("Log events") == logged
