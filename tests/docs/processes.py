"""A sidecar process, or a command that becomes one, stopped again whatever happens."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_READY_SECONDS = 60
_STOP_SECONDS = 20


@contextlib.contextmanager
def serving(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a command until its log says that it serves; yields the process and what it has printed on stdout by then."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(_READY_SECONDS, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            with contextlib.suppress(json.JSONDecodeError):
                if json.loads(line).get("event") == "serving":
                    break
        else:
            raise AssertionError("the command ended before it served")
        watchdog.cancel()
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        printed: list[str] = []
        reader = threading.Thread(target=lambda: printed.extend(process.stdout or ()), daemon=True)
        reader.start()
        reader.join(1)
        yield process, printed
    finally:
        watchdog.cancel()
        process.terminate()
        process.wait(_STOP_SECONDS)
        for thread in (drain, reader):
            thread.join(_STOP_SECONDS)
        process.stdout.close()  # type: ignore[union-attr]
        process.stderr.close()  # type: ignore[union-attr]
