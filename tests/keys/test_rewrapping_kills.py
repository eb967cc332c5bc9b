"""A rewrap that is killed at any moment: every data key unwraps afterwards, and the next rewrap finishes the work."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.keys.rewrapping import Rewrapping
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.factory import create
from sidecar.kms import keyfile
from sidecar.kms.local import LocalKms
from tests.keys.wrapping import kek_ids, stored
from tests.keystore.records import whole

DATA_KEYS = 60

_REWRAP = """
import asyncio, sys
from pathlib import Path
from tests.keys.test_rewrapping_kills import rewrap
asyncio.run(rewrap(Path(sys.argv[1])))
"""


def url(place: Path) -> str:
    return f"sqlite:///{place}/keystore.db"


async def keys_of(place: Path, *names: str) -> WrappingKeys:
    """Local wrapping keys: the first wraps, and all unwrap."""
    first, *former = [LocalKms(place / name) for name in names]
    keys = WrappingKeys({"first": first}, former={str(number): kms for number, kms in enumerate(former)})
    await keys.open()
    return keys


async def rewrap(place: Path) -> tuple[int, int]:
    """Rewrap from the old to the new wrapping key, a few at a time; says each time that it goes on."""
    store = create(url(place))
    await store.open()
    rewrapping = Rewrapping(store, await keys_of(place, "new", "old"), most_at_once=4)
    rewrapped = unchanged = 0
    after = None
    while True:
        page = await rewrapping.page(None, after, 5, dry_run=False)
        assert page.failures == ()
        rewrapped, unchanged, after = rewrapped + page.rewrapped, unchanged + page.unchanged, page.next
        sys.stdout.write("page\n")
        sys.stdout.flush()
        if after is None:
            await store.close()
            return rewrapped, unchanged


def rewrap_killed_after(pages: int, place: Path) -> None:
    """Rewrap in a process that is killed some time after it has done so many pages."""
    command = [sys.executable, "-c", _REWRAP, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        for _ in range(pages):
            while (line := process.stdout.readline()) != b"page\n":
                assert line
        process.kill()


@pytest.mark.parametrize("pages", [1, 4])
async def test_a_kill_leaves_every_data_key_with_a_copy_that_unwraps(tmp_path: Path, pages: int) -> None:
    for name in ("old", "new"):
        keyfile.load_or_create(tmp_path / name)
    store = create(url(tmp_path))
    await store.open(upgrade=True)
    old = await keys_of(tmp_path, "old")
    await stored(store, old, count=DATA_KEYS)

    await asyncio.to_thread(rewrap_killed_after, pages, tmp_path)
    new = await keys_of(tmp_path, "new", "old")
    rows = whole(await store.list_keys())
    assert len(rows) == DATA_KEYS
    (wrapping_key,) = new.kek_ids
    done = sum(kek_ids(row) == [wrapping_key] for row in rows)
    assert 5 * pages <= done <= DATA_KEYS
    for row in rows:
        assert any(await new.unwrap(row))
    assert await rewrap(tmp_path) == (DATA_KEYS - done, done)
    os.unlink(tmp_path / "old")
    alone = await keys_of(tmp_path, "new")
    for row in whole(await store.list_keys()):
        assert any(await alone.unwrap(row))
    await store.close()
