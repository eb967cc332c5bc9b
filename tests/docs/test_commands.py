"""The README's commands, run as a newcomer would."""

import re
import shutil
import signal
import subprocess
import sys
import uuid

import pytest

from tests.docs.processes import ROOT, serving


@pytest.mark.parametrize("kms", ["local", "aws"])
def test_the_demo_proves_its_table_and_asks_the_kms_four_times(kms: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--kms", kms], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "336,776 rows" in text
    assert "2 wraps and 2 unwraps" in text
    assert ("awsKms" in text) == (kms == "aws")
    assert "Every value and every NULL came back equal" in text


def test_make_run_serves_and_prints_how_to_call_it() -> None:
    directory = ROOT / f".run-{uuid.uuid4().hex[:8]}"
    try:
        with serving(["make", "--no-print-directory", "run", f"RUN_DIR={directory}"]) as (process, printed):
            code = [line.strip() for line in printed if line.startswith("  ")]
            assert len(code) == 2
            program = "\n".join([code[0], f"assert {code[1]} == [b'123-45-6789', None]"])
            subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
            assert re.search(r"\.venv/bin/python", "".join(printed))
            process.send_signal(signal.SIGTERM)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
