"""Starts processes in no time: a parent that has imported everything once, and forks a worker whenever it is asked to.

``Nursery`` is the test's end; ``python -m tests.fleet.nursery FD`` is the parent, which holds no thread, event loop or
connection when it forks. Each worker has a stream to the test of its own, whose end says that the worker has ended.
"""

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_MESSAGE_BYTES = 65_536
_PR_SET_PDEATHSIG = 1


class Nursery:
    """The parent process, and what it is asked for. Ending it ends its workers."""

    def __init__(self, log: Path) -> None:
        """``log``: where it and its workers write their standard error."""
        self.log = log
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        with log.open("wb") as err, theirs:
            self._process = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=err, stderr=err
            )

    def start(self, spec: dict[str, Any]) -> tuple[int, socket.socket]:
        """A new worker: its process id, and the stream to it."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._socket, [json.dumps(spec).encode()], [theirs.fileno()])
        return int(self._answer()), ours

    def kill(self, pid: int) -> None:
        """End one of its workers at once, with SIGKILL; it is gone when this returns. It may have ended before."""
        self._socket.send(json.dumps(pid).encode())
        self._answer()

    def close(self) -> None:
        """End it, and whatever it has started."""
        self._socket.close()
        self._process.wait(30)

    def _answer(self) -> bytes:
        answer = self._socket.recv(_MESSAGE_BYTES)
        assert answer, self.log.read_text()
        return answer


def _serve(requests: socket.socket) -> None:
    """Fork and kill as asked, until there is nobody who could ask."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES, 1)
        if not message:
            return
        request = json.loads(message)
        if isinstance(request, int):
            # Only here is a process id safe to use: it is this process's child, and not reaped before.
            os.kill(request, signal.SIGKILL)
            os.waitpid(request, 0)
            requests.send(b"gone")
            continue
        pid = os.fork()
        if pid == 0:
            requests.close()
            _live(socket.socket(fileno=descriptors[0]), request)
            return
        os.close(descriptors[0])
        requests.send(str(pid).encode())


def _live(stream: socket.socket, spec: dict[str, Any]) -> None:
    """A worker, from its birth to its end."""
    from tests.fleet.worker import run

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    run(stream, spec)


if __name__ == "__main__":
    from tests.fleet.preloading import preload

    preload()
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as requests_of_the_test:
        _serve(requests_of_the_test)
