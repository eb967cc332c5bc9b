"""The local wrapping key: how its file comes to be, what is refused, and what it wraps."""

import asyncio
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.errors import CorruptKeyError, StartupError
from sidecar.kms import keyfile
from sidecar.kms.context import encryption_context
from sidecar.kms.local import LocalKms, is_local

DATA_KEY = bytes(range(32))
CONTEXT = encryption_context("default", "0123456789abcd")

_RACER = """
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from sidecar.kms import keyfile
print("ready", flush=True)
sys.stdin.readline()
print(keyfile.load_or_create(Path(sys.argv[1])).hex())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kek"


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


async def _yes() -> bool:
    return True


async def _no() -> bool:
    return False


async def opened(path: Path) -> LocalKms:
    kms = LocalKms(path, may_create=_yes)
    await kms.open()
    return kms


def refused(path: Path) -> str:
    """The text that opening is refused with; nothing of the file's content is in it, and its path is."""
    with pytest.raises(StartupError) as caught:
        asyncio.run(opened(path))
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_the_first_start_makes_a_private_file_of_32_random_bytes(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        keys = [keyfile.load_or_create(tmp_path / name) for name in ("one", "two")]
    finally:
        os.umask(old)
    assert keys[0] != keys[1]
    for name, key in zip(("one", "two"), keys, strict=True):
        assert (tmp_path / name).read_bytes() == key
        assert len(key) == 32
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one", "two"]


def test_a_strict_umask_does_not_lock_the_owner_out(path: Path) -> None:
    old = os.umask(0o777)
    try:
        keyfile.load_or_create(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_later_start_uses_the_key_that_is_there(path: Path) -> None:
    first = await opened(path)
    wrapped_key = await first.wrap(bytearray(DATA_KEY), CONTEXT)
    second = await opened(path)
    assert second.kek_id == first.kek_id
    assert await second.unwrap(wrapped_key, CONTEXT) == DATA_KEY


@pytest.mark.parametrize("may_create", [None, _no], ids=["never", "not now"])
async def test_a_wrapping_key_that_is_lost_is_never_replaced_where_it_may_not_be(
    path: Path, may_create: Callable[[], Awaitable[bool]] | None
) -> None:
    with pytest.raises(StartupError, match=r"/kek is missing, .*: restore it from its backup"):
        await LocalKms(path, may_create=may_create).open()
    assert os.listdir(path.parent) == []


async def test_one_that_another_process_makes_meanwhile_is_taken(path: Path) -> None:
    async def made_elsewhere() -> bool:
        await opened(path)
        return False

    kms = LocalKms(path, may_create=made_elsewhere)
    await kms.open()
    assert kms.kek_id == (await opened(path)).kek_id


async def test_nobody_is_asked_where_there_is_a_wrapping_key(path: Path) -> None:
    await opened(path)

    async def asked() -> bool:
        raise AssertionError

    await LocalKms(path, may_create=asked).open()


async def test_its_ids_are_told_from_those_of_others(path: Path) -> None:
    assert is_local((await opened(path)).kek_id)
    assert not is_local("arn:aws:kms:eu-west-1:123456789012:key/local:")


def test_processes_that_start_at_once_end_with_one_key(path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(path)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    keys = {racer.communicate(timeout=30)[0].strip() for racer in racers}
    assert keys == {path.read_bytes().hex()}
    assert [file.name for file in path.parent.iterdir()] == ["kek"]


def test_a_process_that_comes_second_takes_the_firsts_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = os.urandom(32)
    link = os.link

    def link_too_late(*args: object, **options: object) -> None:
        write(path, theirs)
        link(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", link_too_late)
    assert keyfile.load_or_create(path) == theirs
    assert [file.name for file in path.parent.iterdir()] == ["kek"]


def test_a_key_is_on_the_disk_with_its_name_before_it_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync, link = os.fsync, os.link

    def note_fsync(descriptor: int) -> None:
        synced.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_link(*args: object, **options: object) -> None:
        synced.append("link")
        link(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "link", note_link)
    keyfile.load_or_create(path)
    assert synced == ["file", "link", "directory"]


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o666, 0o610])
def test_a_file_open_to_group_or_others_is_refused(path: Path, mode: int) -> None:
    write(path, os.urandom(32), mode)
    said = refused(path)
    assert f"{mode:04o}" in said
    assert "chmod 600" in said


def test_a_read_only_file_is_taken(path: Path) -> None:
    key = os.urandom(32)
    write(path, key, 0o400)
    assert keyfile.load_or_create(path) == key


@pytest.mark.parametrize("size", [0, 16, 31, 33, 65, 1 << 20])
def test_a_file_of_another_length_is_refused_and_left_alone(path: Path, size: int) -> None:
    write(path, b"k" * size)
    assert "exactly 32 raw bytes" in refused(path)
    assert path.stat().st_size == size


def test_a_file_of_zeros_is_refused(path: Path) -> None:
    write(path, bytes(32))
    assert "zeros" in refused(path)


def test_a_symbolic_link_is_refused(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "target", os.urandom(32))
    path.symlink_to(tmp_path / "target")
    assert "symbolic link" in refused(path)


def test_a_dangling_symbolic_link_is_refused_and_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "target")
    assert "symbolic link" in refused(path)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket"])
def test_what_is_no_regular_file_is_refused_without_waiting(path: Path, kind: str, tmp_path: Path) -> None:
    if kind == "directory":
        path.mkdir(mode=0o700)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        # A socket's path is short; bind it by a relative name.
        here = os.open(tmp_path, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{here}/kek")
        os.close(here)
    refused(path)


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, os.urandom(32))
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert f"another user (uid {owner})" in refused(path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    assert "No such file or directory" in refused(tmp_path / "missing" / "kek")


async def test_a_wrapped_key_is_nonce_ciphertext_and_tag_as_the_format_says(path: Path) -> None:
    key = os.urandom(32)
    write(path, key)
    kms = await opened(path)
    wrapped_key = await kms.wrap(DATA_KEY, CONTEXT)
    assert len(wrapped_key) == 60
    associated_data = b'{"sidekey:key-id":"0123456789abcd","sidekey:keyring":"default"}'
    assert AESGCM(key).decrypt(wrapped_key[:12], wrapped_key[12:], associated_data) == DATA_KEY


async def test_no_two_wraps_are_equal(path: Path) -> None:
    kms = await opened(path)
    assert len({await kms.wrap(DATA_KEY, CONTEXT) for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "context",
    [encryption_context("other", "0123456789abcd"), encryption_context("default", "0123456789abce"), {}],
    ids=["another keyring", "another key id", "no context"],
)
async def test_a_wrapped_key_that_was_moved_is_corrupt(path: Path, context: dict[str, str]) -> None:
    kms = await opened(path)
    wrapped_key = await kms.wrap(DATA_KEY, CONTEXT)
    with pytest.raises(CorruptKeyError, match="moved to another key id or keyring") as caught:
        await kms.unwrap(wrapped_key, context)
    assert caught.value.__suppress_context__


async def test_any_flipped_bit_of_a_wrapped_key_is_corrupt(path: Path) -> None:
    kms = await opened(path)
    wrapped_key = await kms.wrap(DATA_KEY, CONTEXT)
    for bit in range(len(wrapped_key) * 8):
        damaged = bytearray(wrapped_key)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptKeyError):
            await kms.unwrap(bytes(damaged), CONTEXT)


@pytest.mark.parametrize("size", [0, 11, 12, 28, 59, 61, 10_000])
async def test_a_wrapped_key_of_another_length_is_corrupt(path: Path, size: int) -> None:
    kms = await opened(path)
    with pytest.raises(CorruptKeyError, match="60 bytes"):
        await kms.unwrap(bytes(size), CONTEXT)


async def test_a_foreign_wrapping_key_is_named_as_a_cause(tmp_path: Path) -> None:
    ours, theirs = await opened(tmp_path / "ours"), await opened(tmp_path / "theirs")
    assert ours.kek_id != theirs.kek_id
    with pytest.raises(CorruptKeyError, match="wrapped by another wrapping key") as caught:
        await ours.unwrap(await theirs.wrap(DATA_KEY, CONTEXT), CONTEXT)
    assert ours.kek_id in str(caught.value)


async def test_the_wrapping_keys_name_and_repr_give_nothing_of_it_away(path: Path) -> None:
    key = os.urandom(32)
    write(path, key)
    kms = await opened(path)
    assert re.fullmatch(r"local:[0-9a-f]{16}", kms.kek_id)
    for shown in (repr(kms), repr(vars(kms)), kms.kek_id):
        for start in range(0, 32, 4):
            assert key[start : start + 4].hex() not in shown
        assert repr(key)[2:-1] not in shown


def test_the_wrapping_keys_name_is_fixed_for_good(path: Path) -> None:
    write(path, bytes(range(32)))
    assert asyncio.run(opened(path)).kek_id == "local:676cc8bc775e6ec8"


async def test_a_data_key_of_another_length_is_a_defect(path: Path) -> None:
    kms = await opened(path)
    with pytest.raises(ValueError, match="32 bytes"):
        await kms.wrap(b"short", CONTEXT)


async def test_a_closed_provider_wraps_nothing(path: Path) -> None:
    kms = await opened(path)
    await kms.close()
    with pytest.raises(RuntimeError, match="not open"):
        await kms.wrap(DATA_KEY, CONTEXT)
