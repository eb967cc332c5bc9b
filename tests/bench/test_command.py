import json
import subprocess
import sys
from pathlib import Path

from bench.inprocess import PEERS
from bench.servers import ROOT


def _bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_ciphers_in_process_are_measured_printed_and_recorded(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    done = _bench("--peers", "--repeats", "1", "--only", "encrypt/deterministic/values/16B/1", "--json", str(path))
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert [rate["peer"] for rate in found["in_process"]] == list(PEERS)
    assert found["machine"]["packages"]["grpcio"]
    assert found["targets"] == found["measurements"] == []
    assert "In process" in done.stdout


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    done = _bench("--only", "nothing/like/it", "--json", str(tmp_path / "none.json"))
    assert done.returncode == 1
    assert "nothing/like/it" in done.stderr
    assert not list(tmp_path.iterdir())


def test_repeats_of_nothing_are_refused() -> None:
    done = _bench("--repeats", "0")
    assert done.returncode == 2
    assert "must be more than 0" in done.stderr
