"""SQLite as the database of a keystore: its file, its pragmas and its transactions. Holds no query."""

import asyncio
import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from sidecar.errors import KeystoreUnavailableError, StartupError

_CLOBBERED: Final = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})
_BUSY: Final = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})

log = structlog.get_logger(__name__)


class Sqlite:
    """A keystore's database in one file, safe against a second process and against a kill at any moment."""

    writes_at_once: Final = 1
    """There is one lock, and SQLite gives it to whoever happens to try when it is free: some would wait too long."""

    def __init__(self, path: Path, *, max_connections: int = 4, busy_seconds: float = 3.0) -> None:
        """``busy_seconds`` bounds each wait for a lock, and for a free connection."""
        self._path = path
        self._max_connections = max_connections
        self._busy_seconds = busy_seconds
        self._file: tuple[int, int] | None = None
        """Device and inode of what was prepared."""
        self._was_in_place = True

    def prepare(self, *, create: bool) -> bool:
        """Check the file, with ``create`` make it where there is none (mode 0600); blocks up to ``busy_seconds``.

        An empty file is no database. Sets what lasts in one. Raises ``StartupError`` where the path cannot be used,
        ``KeystoreUnavailableError`` where it is locked.
        """
        try:
            if self._is_empty(create) and not create:
                return False
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "input/output error"
            raise StartupError(f"the keystore {self._path} cannot be read and written: {reason}") from None
        try:
            self._make_wal()
        except sqlite3.Error as error:
            raise self._sorted(error) from None
        return True

    def engine(self) -> AsyncEngine:
        """A new engine; the caller disposes of it."""
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(self._path)),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._max_connections,
            max_overflow=0,
            pool_timeout=self._busy_seconds,
            hide_parameters=True,
            # No implicit transactions by the driver: ``_begin`` alone begins them, so that DDL is in them too.
            connect_args={"isolation_level": None, "timeout": self._busy_seconds},
        )
        event.listen(engine.sync_engine, "do_connect", self._before_connect)
        event.listen(engine.sync_engine, "connect", _on_connect)
        event.listen(engine.sync_engine, "begin", self._begin)
        return engine

    def begin_upgrade(self, connection: Connection) -> None:
        """Nothing is left to do: a transaction that writes has the only lock from its beginning."""

    def refusal(self, error: Exception) -> StartupError | None:  # noqa: ARG002 - ``prepare`` has tried all of it
        """None: whatever an operator must mend, ``prepare`` has found."""
        return None

    def _is_empty(self, create: bool) -> bool:
        """Whether the file is missing or empty; with ``create`` it is there after this."""
        # SQLite gives the files beside it (-wal, -shm) the mode of this one, and syncs the directory with the first
        # commit to the -wal file, so the name needs no sync of its own here.
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_CREAT if create else 0)
        try:
            opened = os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            if create:
                raise
            return True
        try:
            found = os.fstat(opened)
            self._file = found.st_dev, found.st_ino
            return found.st_size == 0
        finally:
            os.close(opened)

    def _before_connect(self, *_arguments: Any) -> None:
        await_only(self._check_place())

    def _begin(self, connection: Connection) -> None:
        await_only(self._check_place())
        # Writers take the lock at once: one that began as a reader would fail, instead of wait, when it comes to write.
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    async def _check_place(self) -> None:
        """Raise ``KeystoreUnavailableError`` where another file, or none, is in the place of the one that was prepared.

        Open connections would go on with what nobody finds any more, and store new data keys there: lost with the last
        connection, and with them whatever they had encrypted. A new connection would make an empty database, or take
        the old log for the new file's.
        """
        if self._file is None:
            return
        try:
            # In a thread: a filesystem that hangs must hold up no more than who waits for this keystore.
            found = await asyncio.to_thread(self._path.stat)
        except OSError:
            is_in_place = False
        else:
            is_in_place = self._file == (found.st_dev, found.st_ino)
        if not is_in_place and self._was_in_place:
            log.error(
                "keystore_file_replaced",
                path=str(self._path),
                hint="stop all sidecars, put the keystore in its place with no -wal and -shm beside it, and start them",
            )
        self._was_in_place = is_in_place
        if not is_in_place:
            raise KeystoreUnavailableError(
                f"the keystore {self._path} was moved, removed or replaced while it is open; restart the sidecar"
            )

    def _make_wal(self) -> None:
        connection = sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)
        try:
            _switch_to_wal(connection, time.monotonic() + self._busy_seconds)
            # Proves that the database, its directory and the files beside it can be written.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def _sorted(self, error: sqlite3.Error) -> StartupError | KeystoreUnavailableError:
        # Extended codes (SQLITE_READONLY_DIRECTORY, …) begin with the name of the code that they refine.
        name = "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])
        if name in _CLOBBERED:
            return StartupError(f"{self._path} is not a keystore database, or is damaged; restore it from a backup")
        if name in _BUSY:
            return KeystoreUnavailableError(f"the keystore {self._path} is locked by another process")
        return StartupError(f"the keystore {self._path} and its directory cannot be read and written")


def _switch_to_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to WAL, which lasts in the file. SQLite does not wait for a lock here, so this does."""
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
            continue
        if mode != "wal":
            raise sqlite3.OperationalError("no WAL on this filesystem")
        return


def _on_connect(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # FULL: a commit is on the disk when it returns, which is what makes an acknowledged data key survive a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    # A schema that somebody else wrote into the file must not run functions of its choice.
    cursor.execute("PRAGMA trusted_schema=OFF")
    # What is erased is overwritten: the wrapped copies of a destroyed data key do not linger in free pages.
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()
    # Text that is no UTF-8 is damage to one row: it comes through as text that no check lets pass, where the driver's
    # own error could not be told from an outage.
    connection.driver_connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
