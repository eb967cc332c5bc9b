"""The file of the local wrapping key: 32 raw bytes, mode 0600, made once and never overwritten.

Owns how the file comes to be and what is refused; what the key is used for is ``sidecar.kms.local``'s. Synchronous:
callers run it in a thread, and decide whether a key may be made.
"""

import errno
import os
import secrets
import stat
from pathlib import Path

from sidecar.errors import StartupError

KEY_BYTES = 32


def load(path: Path) -> bytearray | None:
    """Read the wrapping key at ``path``, 32 bytes; None where nothing is there.

    Raises ``StartupError`` where the file is no private, regular file of exactly 32 bytes, or cannot be read.
    """
    try:
        key = _read(path)
        if key is not None:
            # Whoever made the file, its name must be durable before this process wraps anything under it.
            _sync_directory(path.parent)
    except OSError as error:
        raise _unusable(path, error) from None
    return key


def load_or_create(path: Path) -> bytearray:
    """As ``load``, making a wrapping key first where there is none; raises ``StartupError`` also where it cannot."""
    try:
        if (key := load(path)) is None:
            _create(path)
            key = load(path)
    except OSError as error:
        raise _unusable(path, error) from None
    if key is None:
        raise StartupError(f"the wrapping key {path} vanished while it was being opened")
    return key


def _unusable(path: Path, error: OSError) -> StartupError:
    reason = os.strerror(error.errno) if error.errno else "input/output error"
    return StartupError(f"the wrapping key {path} cannot be read or made: {reason}")


def _read(path: Path) -> bytearray | None:
    """The key, or None where nothing is at ``path``."""
    # O_NONBLOCK: a FIFO at this path must be refused, not waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StartupError(
                f"the wrapping key {path} is a symbolic link; give the path of the file itself"
            ) from None
        raise
    try:
        _check(os.fstat(descriptor), path)
        key = bytearray(os.read(descriptor, KEY_BYTES + 1))
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise StartupError(f"the wrapping key {path} must be exactly {KEY_BYTES} raw bytes; restore it from a backup")
    if not any(key):
        raise StartupError(f"the wrapping key {path} holds zeros alone; restore it from a backup")
    return key


def _check(status: os.stat_result, path: Path) -> None:
    """Refuse what anybody but this process's user could have read or written."""
    if not stat.S_ISREG(status.st_mode):
        raise StartupError(f"the wrapping key {path} is not a regular file")
    if status.st_uid != os.geteuid():
        raise StartupError(
            f"the wrapping key {path} belongs to another user (uid {status.st_uid}); chown it to this one"
        )
    if mode := stat.S_IMODE(status.st_mode) & 0o077:
        raise StartupError(
            f"the wrapping key {path} is open to group or others (mode {stat.S_IMODE(status.st_mode):04o}, "
            f"{mode:04o} too much); `chmod 600` it, and replace it if somebody may have read it"
        )


def _create(path: Path) -> None:
    """Put a new key at ``path``, whole and durable, unless another process was first: then its key stands."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)
            _write(descriptor, secrets.token_bytes(KEY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A hard link, unlike a rename, never replaces what is there: of two processes exactly one makes the key.
        os.link(draft, path, follow_symlinks=False)
    except FileExistsError:
        return
    finally:
        os.unlink(draft)


def _write(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # A filesystem that cannot sync a directory (read-only, for one) holds no link that it could still lose.
        if error.errno not in (errno.EINVAL, errno.EROFS):
            raise
    finally:
        os.close(descriptor)
