"""A start that cannot be: exit code 1 and one message that says what would be right, without a traceback."""

import json
import os
import re
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.processes import Served
from tests.rpc.batches import rows_of, values
from tests.rpc.running import connected

Prepare = Callable[[Path], None]


def _kek(data: bytes, mode: int = 0o600) -> Prepare:
    def prepare(data_dir: Path) -> None:
        data_dir.mkdir(mode=0o700)
        (data_dir / "kek").write_bytes(data)
        (data_dir / "kek").chmod(mode)

    return prepare


def _linked_kek(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    (data_dir / "other").write_bytes(os.urandom(32))
    (data_dir / "kek").symlink_to(data_dir / "other")


def _keystore(*statements: str) -> Prepare:
    def prepare(data_dir: Path) -> None:
        data_dir.mkdir(mode=0o700)
        with closing(sqlite3.connect(data_dir / "keystore.db")) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()

    return prepare


def _noise_for_a_keystore(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    (data_dir / "keystore.db").write_bytes(b"not a database, but long enough to look like one" * 30)


def _open_directory(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o755)


def _file_for_a_directory(data_dir: Path) -> None:
    data_dir.write_text("a file")


def _file_for_a_socket(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    (data_dir / "sidekey.sock").write_text("precious")


_VERSION = "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)"

REFUSED: dict[str, tuple[Prepare, str]] = {
    "a data directory that is a file": (_file_for_a_directory, r"the data directory \S+/data cannot be made: .*"),
    "a short wrapping key": (_kek(b"x" * 31), r"the wrapping key \S+/kek must be exactly 32 raw bytes; restore .*"),
    "a long wrapping key": (_kek(b"x" * 33), r"the wrapping key \S+/kek must be exactly 32 raw bytes; restore .*"),
    "a wrapping key of zeros": (_kek(bytes(32)), r"the wrapping key \S+/kek holds zeros alone; restore .*"),
    "a wrapping key for the group": (
        _kek(b"x" * 32, 0o640),
        r"the wrapping key \S+/kek is open to group or others \(mode 0640, 0040 too much\); `chmod 600` it, .*",
    ),
    "a linked wrapping key": (_linked_kek, r"the wrapping key \S+/kek is a symbolic link; give .*"),
    "a newer keystore": (
        _keystore(_VERSION, "INSERT INTO schema_version VALUES (99)"),
        r"the keystore has schema version 99, and this sidecar knows versions up to 2; upgrade the sidecar",
    ),
    "a keystore of another program": (
        _keystore("CREATE TABLE users (name TEXT)"),
        r"the database holds tables of another program; give the keystore one of its own",
    ),
    "noise for a keystore": (_noise_for_a_keystore, r"\S+/keystore.db is not a keystore database, or is damaged; .*"),
    "a directory open to others": (
        _open_directory,
        r"the socket's directory \S+/data has mode 0755, so others on this machine could reach the socket; .*",
    ),
    "a file at the socket's path": (
        _file_for_a_socket,
        r"\S+/sidekey.sock is there and is no socket; remove it, or listen elsewhere",
    ),
}


def _message(process: Served) -> str:
    """What a refused start says; everything else on stderr must be log lines."""
    assert process.exit_code() == 1
    assert process.stdout == ""
    *lines, message = process.stderr.splitlines()
    for line in lines:
        json.loads(line)
    assert "Traceback" not in process.stderr
    assert message.startswith("sidekey: ")
    return message.removeprefix("sidekey: ")


@pytest.mark.parametrize(("prepare", "message"), REFUSED.values(), ids=REFUSED)
def test_a_place_that_is_not_right_is_refused_with_what_would_be(
    tmp_path: Path, served: Serve, prepare: Prepare, message: str
) -> None:
    prepare(tmp_path / "data")
    assert re.fullmatch(message, _message(served(tmp_path / "data")))
    if prepare is _file_for_a_socket:
        assert (tmp_path / "data" / "sidekey.sock").read_text() == "precious"


def test_a_data_directory_that_nobody_can_write_is_refused(served: Serve, tmp_path: Path) -> None:
    listen = f"unix://{tmp_path}/s.sock"
    message = _message(_in_proc(served, tmp_path, "/proc/sidekey", listen))
    assert re.fullmatch(r"the data directory /proc/sidekey cannot be made: .*", message)
    message = _message(_in_proc(served, tmp_path, "/proc", listen))
    assert re.fullmatch(r"the keystore /proc/keystore.db cannot be read and written: .*", message)


def _in_proc(served: Serve, tmp_path: Path, data_dir: str, listen: str) -> Served:
    # The later --data-dir counts; the first one says where the test's outputs go.
    return served(tmp_path / "out", "--data-dir", data_dir, "--listen", listen)


@pytest.fixture
def taken() -> Iterator[int]:
    """A TCP port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_tcp_port_that_is_taken_is_refused_on_both_sides(tmp_path: Path, served: Serve, taken: int) -> None:
    address = f"127.0.0.1:{taken}"
    message = _message(served(tmp_path / "grpc", "--listen", address))
    assert message == f"cannot listen on {address}: it is in use or not allowed"
    message = _message(served(tmp_path / "http", "--http", address))
    assert message == f"cannot listen for HTTP on 127.0.0.1 port {taken}: Address already in use"


async def test_a_second_sidecar_is_refused_while_the_first_goes_on(tmp_path: Path, served: Serve) -> None:
    first = served(tmp_path / "data").serving()
    message = _message(served(tmp_path / "data"))
    assert message == f"another sidecar serves on {tmp_path}/data/sidekey.sock; stop it, or listen elsewhere"
    async with connected(first.target) as caller:
        await caller.still_serves()
    first.stop()


async def test_a_socket_that_a_killed_sidecar_left_is_no_obstacle(tmp_path: Path, served: Serve) -> None:
    first = served(tmp_path / "data").serving()
    async with connected(first.target) as caller:
        sealed = await caller.sealed(b"kept")
    first.kill()
    left = tmp_path / "data" / "sidekey.sock"
    assert stat.S_ISSOCK(left.stat().st_mode)
    second = served(tmp_path / "data").serving()
    async with connected(second.target) as caller:
        assert rows_of(await caller.decrypt(values(*sealed))) == [b"kept"]
    second.stop()
    assert not left.exists()
