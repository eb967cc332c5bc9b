"""What tests of several wrapping keys share."""

import os
from collections.abc import Iterable

from sidecar.crypto import key_schedule
from sidecar.keys.data_key import DataKeys
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DataKeyRecord, Keystore
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms

ZEROS = bytes(key_schedule.DATA_KEY_BYTES)


def fakes(*names: str) -> dict[str, FakeKms]:
    """KMSs by name, each with a wrapping key of its own."""
    return {name: FakeKms(f"fake:{name}") for name in names}


def assert_overwritten(kmses: Iterable[FakeKms], *kept: bytearray) -> None:
    """Nobody but ``kept`` holds data key bytes."""
    for kms in kmses:
        for buffer in kms.key_buffers:
            assert any(buffer is each for each in kept) or bytes(buffer) == ZEROS


async def opened() -> MemoryKeystore:
    """A keystore that is open and empty."""
    store = MemoryKeystore()
    await store.open(upgrade=True)
    return store


async def stored(store: Keystore, keys: WrappingKeys, keyring: str = "default", count: int = 1) -> list[str]:
    """New data keys of a keyring, wrapped by ``keys``; their ids."""
    data_keys = DataKeys(store, keys, FakeClock(), os.urandom)
    ids = []
    for _ in range(count):
        made = await data_keys.make(keyring, await store.newest_generation(keyring) + 1)
        assert made is not None
        ids.append(made[0].key_id)
    return ids


def kek_ids(record: DataKeyRecord) -> list[str]:
    """The wrapping keys of a data key, in order."""
    return [copy.kek_id for copy in record.copies]
