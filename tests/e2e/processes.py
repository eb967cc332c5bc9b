"""``sidekey serve`` as a process of its own, with real signals; what it writes goes to files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_START_SECONDS = 30.0
_POLL_SECONDS = 0.005


class Served:
    """One process. ``environment`` is added to a bare one, in which no setting of this machine's is left."""

    def __init__(self, data_dir: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self.target = f"unix://{data_dir}/sidekey.sock"
        outputs = data_dir.parent / f"{data_dir.name}-{time.monotonic_ns()}"
        self._out, self._err = outputs.with_suffix(".out"), outputs.with_suffix(".err")
        bare = {"PATH": os.environ["PATH"], "HOME": str(data_dir.parent)}
        command = [sys.executable, "-m", "sidecar", "serve", "--data-dir", str(data_dir), "--log-format", "json"]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [*command, *arguments], stdout=out, stderr=err, env=bare | dict(environment or {})
            )

    @property
    def stdout(self) -> str:
        """Everything so far."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """Everything so far."""
        return self._err.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; every whole line must be JSON."""
        return [json.loads(line) for line in self.stderr.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first log line of this event."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if f'"event": "{event}"' in self.stderr:
                for line in self.lines():
                    if line["event"] == event:
                        return line
            assert self._process.poll() is None, self.stderr
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"no {event} in {self.stderr}")

    def serving(self) -> "Served":
        """This process, once it serves."""
        self.wait_for("serving")
        return self

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def exit_code(self, seconds: float = _START_SECONDS) -> int:
        """Wait for the end."""
        return self._process.wait(seconds)

    def stop(self) -> None:
        """End it in order; it must exit with 0."""
        self.send(signal.SIGTERM)
        assert self.exit_code() == 0, self.stderr

    def kill(self) -> None:
        """End it at once, if it has not ended; may be called twice."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
