"""The client with the oldest versions that it declares, against a server with the newest (those of this suite)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from fcntl import LOCK_EX, flock
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest

from tests.client.reference import Reference, serve

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements/client-oldest.txt"

# The oldest grpcio has wheels up to this Python; building it from source takes a quarter of an hour.
LAST_PYTHON = (3, 12)

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.version_info[:2] > LAST_PYTHON, reason="the oldest grpcio has no wheel for this Python"),
]


def _run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def oldest() -> Path:
    """An interpreter with the oldest versions, made once for each list of them and each Python."""
    made_of = f"{sys.version_info[:2]}".encode() + REQUIREMENTS.read_bytes()
    homes = ROOT / ".venv-compat"
    homes.mkdir(exist_ok=True)
    home = homes / hashlib.sha256(made_of).hexdigest()[:12]
    python = home / "bin/python"
    with (homes / "lock").open("w") as lock:
        flock(lock, LOCK_EX)  # several workers may come here at once
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=True)
            quiet = ("-q", "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes")
            _run(python, "-m", "pip", "install", *quiet, "-r", REQUIREMENTS)
            (home / "complete").touch()
    return python


@pytest.fixture
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A reference server, and one at which every call fails."""
    with ExitStack() as stack:
        found = []
        for knobs in (Reference(), Reference(abort=(grpc.StatusCode.NOT_FOUND, "UNKNOWN_KEYRING", "no such keyring"))):
            found.append(f"unix://{tmp_path_factory.mktemp('s') / 's'}")
            server = serve(found[-1], knobs)
            stack.callback(lambda server: server.stop(None).wait(), server)
        yield found[0], found[1]


def test_the_oldest_declared_versions_speak_with_the_newest_server(oldest: Path, targets: tuple[str, str]) -> None:
    script = Path(__file__).with_name("old_client.py")
    said = _run(oldest, "-W", "error", script, *targets, PYTHONPATH=str(ROOT / "clients/python"))
    found = dict(pair.split("=") for pair in said.split())
    assert found["grpcio"].startswith("1.62.")
    assert found["protobuf"].startswith("4.25.")
    assert found["grpcio"] != version("grpcio")
