"""A keystore's file that is moved, removed or replaced while it is open: nothing is stored where nobody finds it."""

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore.factory import create
from tests.keystore.records import record

CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "replaced": lambda path, copy: copy.replace(path),
    "removed": lambda path, _copy: path.unlink(),
    "moved": lambda path, copy: path.rename(copy.with_suffix(".moved")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_file_that_is_not_in_its_place_takes_no_data_key_and_is_not_made_anew(
    tmp_path: Path, change: Callable[[Path, Path], object]
) -> None:
    path, copy = tmp_path / "keystore.db", tmp_path / "copy.db"
    keystore = create(f"sqlite:///{path}")
    await keystore.open(upgrade=True)
    stored = record()
    await keystore.insert(stored)
    await keystore.close()
    shutil.copy2(path, copy)
    keystore = create(f"sqlite:///{path}")
    await keystore.open()
    change(path, copy)
    was_there = path.exists()
    with capture_logs() as lines:
        for call in (keystore.get(stored.key_id), keystore.primary("default"), keystore.insert(record(generation=2))):
            with pytest.raises(KeystoreUnavailableError, match=r"moved, removed or replaced .* restart the sidecar"):
                await call
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["keystore_file_replaced"]
    # So many at once need connections of their own.
    many = [keystore.insert(record(generation=generation)) for generation in range(2, 12)]
    assert {type(answer) for answer in await asyncio.gather(*many, return_exceptions=True)} == {
        KeystoreUnavailableError
    }
    await keystore.close()
    assert path.exists() is was_there


async def test_a_filesystem_that_is_slow_to_say_what_is_in_the_place_does_not_stop_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, event_loop = tmp_path / "keystore.db", threading.get_ident()
    keystore = create(f"sqlite:///{path}")
    await keystore.open(upgrade=True)
    looked: list[int] = []
    stat = Path.stat

    def noted(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self == path:
            looked.append(threading.get_ident())
        return stat(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", noted)
    await asyncio.gather(*(keystore.primary("default") for _ in range(8)), keystore.insert(record()))
    assert len(looked) > 9
    assert event_loop not in looked
    await keystore.close()


async def test_a_file_that_is_back_in_its_place_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "keystore.db"
    keystore = create(f"sqlite:///{path}")
    await keystore.open(upgrade=True)
    path.rename(tmp_path / "away")
    with pytest.raises(KeystoreUnavailableError):
        await keystore.primary("default")
    (tmp_path / "away").rename(path)
    assert await keystore.insert(record()) is True
    await keystore.close()
