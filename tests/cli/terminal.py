"""A command as a process on a terminal of its own."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from types import TracebackType

from tests.cli.keystores import Command

_PATIENCE_SECONDS = 30.0


def _at_a_terminal() -> None:
    hear_interrupts()
    # Only the terminal that a session leader opens is the one whose ^C reaches it.
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def hear_interrupts() -> None:
    """For a new process: whoever runs these tests in the background may have had SIGINT ignored, which is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class OnTerminal:
    """Runs a command on the data directory of a ``Command``; ended on leaving."""

    def __init__(self, command: Command, *arguments: str) -> None:
        self._leader, follower = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", *arguments, "--data-dir", str(command.data_dir)],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=_at_a_terminal,
        )
        os.close(follower)
        self._shown = ""

    def until(self, text: str) -> None:
        """Wait until the terminal shows this."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while text not in self._shown:
            assert select.select([self._leader], [], [], max(deadline - time.monotonic(), 0))[0], self._shown
            self._shown += os.read(self._leader, 4096).decode()

    def press(self, text: str) -> None:
        """Press keys."""
        os.write(self._leader, text.encode())

    def end(self, code: int) -> str:
        """Everything that was shown, once the command has ended with this exit code."""
        while True:
            try:
                chunk = os.read(self._leader, 4096)
            except OSError:  # Linux says so where nobody has the other side open any more.
                chunk = b""
            if not chunk:
                assert self._process.wait(_PATIENCE_SECONDS) == code, self._shown
                return self._shown
            self._shown += chunk.decode()

    def __enter__(self) -> "OnTerminal":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._leader)
