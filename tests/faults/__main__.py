"""``python -m tests.faults --write``: measures the matrix, and writes its page."""

import argparse
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.faults import page
from tests.faults.expected import Fault, Situation


def main() -> int:
    """Returns the exit code: the page is written only where every cell is as declared."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md with what was measured")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        code = int(pytest.main([str(Path(__file__).parent / "test_matrix.py"), f"--junitxml={report}"]))
        if code == 0 and write:
            page.PAGE.write_text(page.written(page.PAGE.read_text(), _times(report)))
    return code


def _times(report: Path) -> page.Times:
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 (pytest's own, of a moment ago)
        fault = Fault(case.attrib["name"].partition("[")[2].removesuffix("]"))
        for measured in case.iter("property"):
            found[Situation(measured.attrib["name"]), fault] = measured.attrib["value"]
    return found


if __name__ == "__main__":
    sys.exit(main())
