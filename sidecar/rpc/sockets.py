"""Unix sockets: the directory that guards one, the lock that keeps two servers apart, and the socket's own mode."""

import fcntl
import os
import stat
from pathlib import Path

from sidecar.errors import StartupError

_DIRECTORY_MODE = 0o750
_SOCKET_MODE = 0o660
_OTHERS = 0o007


class SocketLock:
    """The right to serve on one socket path, for as long as it is held (or the process lives).

    gRPC unlinks a socket that it finds and binds its own, so that a second server would silently take over a live one.
    The lock file stays when the lock is let go: removing it would let two processes hold "the" lock.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Check or make the directory, and take the lock.

        Raises:
            StartupError: others may reach into the directory, it cannot be used, or another process serves there.
        """
        directory = self._socket.parent
        try:
            # The parents keep the process's umask; the directory itself is what gates the socket.
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            mode = stat.S_IMODE(directory.stat().st_mode)
        except OSError as error:
            raise StartupError(
                f"the socket's directory {directory} cannot be used: {os.strerror(error.errno or 0)}"
            ) from None
        if mode & _OTHERS:
            raise StartupError(
                f"the socket's directory {directory} has mode {mode:04o}, so others on this machine could reach the "
                "socket; make it 0700 or 0750, or choose another directory"
            )
        self._lock()

    def _lock(self) -> None:
        path = self._socket.with_name(f"{self._socket.name}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StartupError(f"the lock file {path} cannot be opened: {os.strerror(error.errno or 0)}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise StartupError(f"another sidecar serves on {self._socket}; stop it, or listen elsewhere") from None
        self._descriptor = descriptor
        self._remove_stale()

    def _remove_stale(self) -> None:
        """Remove what a killed sidecar left; with the lock held, nobody serves on it. Anything but a socket stays."""
        try:
            if not stat.S_ISSOCK(self._socket.lstat().st_mode):
                self.release()
                raise StartupError(f"{self._socket} is there and is no socket; remove it, or listen elsewhere")
        except FileNotFoundError:
            return
        self._socket.unlink()

    def guard(self) -> None:
        """Give the bound socket its mode. Until now the directory alone has kept others out, which is enough."""
        self._socket.chmod(_SOCKET_MODE)

    def release(self) -> None:
        """Let the lock go; may be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
