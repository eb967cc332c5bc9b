"""Server processes: started, waited for, and always stopped again. Knows nothing of what they are asked."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0


class ServerFailedError(Exception):
    """A server did not come up; the text holds the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    name: str
    target: str
    """Its gRPC address."""
    pid: int

    def resident_bytes(self) -> int:
        """How much memory it holds now."""
        return int(psutil.Process(self.pid).memory_info().rss)


@contextmanager
def sidecar(directory: Path) -> Iterator[Server]:
    """The real thing on its embedded default, its data and its socket in an empty directory."""
    data = directory / "data"
    data.mkdir(mode=0o700)
    command = [str(Path(sys.executable).with_name("sidekey")), "serve", "--data-dir", str(data)]
    with _running("sidecar", command, f"unix://{data / 'sidekey.sock'}", directory) as server:
        yield server


@contextmanager
def echo(directory: Path, *, loop: bool = False) -> Iterator[Server]:
    """The echo server, or with ``loop`` the naive sidecar (see ``bench.echo``)."""
    name = "loop" if loop else "echo"
    target = f"unix://{directory / name}.sock"
    command = [sys.executable, "-m", "bench.echo", target, *(["--loop"] if loop else [])]
    with _running(name, command, target, directory) as server:
        yield server


@contextmanager
def _running(name: str, command: Sequence[str], target: str, directory: Path) -> Iterator[Server]:
    log = directory / f"{name}.log"
    # Settings of whoever measures must not change what is measured.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SIDEKEY_")}
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, cwd=ROOT, env=environment)
    try:
        _wait_until_serving(name, process, log)
        yield Server(name, target, process.pid)
    finally:
        _stop(process)


def _wait_until_serving(name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not _says_serving(log):
        if process.poll() is not None:
            raise ServerFailedError(f"{name} ended with code {process.returncode}: {_tail(log)}")
        if time.monotonic() > deadline:
            raise ServerFailedError(f"{name} was not serving after {_READY_SECONDS:.0f} s: {_tail(log)}")
        time.sleep(0.02)


def _says_serving(log: Path) -> bool:
    return any(_event(line) == "serving" for line in log.read_text(errors="replace").splitlines())


def _event(line: str) -> object:
    try:
        entry = json.loads(line)
    except ValueError:  # Not a log line, or one that is only half written yet.
        return None
    return entry.get("event") if isinstance(entry, dict) else None


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-5:]) or "it wrote nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
