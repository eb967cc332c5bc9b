"""A whole sidecar with a clock of its own: what its configuration says reaches the caches and the schedule."""

from pathlib import Path
from typing import Any

import pytest
from sidekey.v1 import encryption_pb2 as pb

from sidecar.composition import Sidecar
from sidecar.config import load
from sidecar.errors import KmsUnavailableError
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.rpc.batches import rows_of, values
from tests.rpc.running import connected, refusal

DAY = 86_400.0
SETTINGS: dict[str, Any] = {
    "cache.ttlSeconds": 100.0,
    "cache.jitterFraction": 0.0,
    "cache.staleOnOutageSeconds": 500.0,
    "schedule.dataKeyMaxValues": 1000,
    "usage.flushSeconds": 3600.0,
}


@pytest.mark.parametrize(("age", "served"), [(499.0, True), (500.0, False)])
async def test_the_configured_stale_limit_holds(tmp_path: Path, age: float, served: bool) -> None:
    clock, kms = FakeClock(), FakeKms()
    config = load(None, {}, {"dataDir": str(tmp_path), **SETTINGS})
    # In memory: a refresh that waited for a disk would see a quarter of a TTL of this clock go by.
    sidecar = Sidecar(config, kms=kms, keystore=MemoryKeystore(), clock=clock)
    try:
        (address,), _ = await sidecar.start()
        async with connected(address) as caller:
            began = clock.monotonic()
            sealed = await caller.encrypt(values(b"value"))
            kms.fail_wrap_with = kms.fail_unwrap_with = KmsUnavailableError("away")
            while clock.monotonic() < began + age:
                clock.advance(min(5.0, began + age - clock.monotonic()))
                if clock.monotonic() < began + age:
                    await caller.decrypt(sealed.values)
            if served:
                assert rows_of(await caller.decrypt(sealed.values)) == [b"value"]
            else:
                assert (await refusal(caller.decrypt(sealed.values))).reason == "KEY_UNAVAILABLE"
    finally:
        await sidecar.close()


async def test_values_are_counted_by_data_key_and_the_configured_budget_rolls_over(tmp_path: Path) -> None:
    clock, store = FakeClock(), MemoryKeystore()
    config = load(None, {}, {"dataDir": str(tmp_path), **SETTINGS})
    sidecar = Sidecar(config, kms=FakeKms(), keystore=store, clock=clock)
    try:
        (address,), _ = await sidecar.start()
        async with connected(address) as caller:
            first = await caller.encrypt(values(*[b"value"] * 900))
            await caller.decrypt(first.values)
            clock.advance(100.0)
            await caller.encrypt(values(b"value"), mode=pb.MODE_DETERMINISTIC)
    finally:
        await sidecar.close()
    rows = sorted(store.rows.values(), key=lambda row: row.generation)
    assert [(row.generation, row.values_encrypted, row.values_decrypted) for row in rows] == [(1, 900, 900), (2, 1, 0)]
    assert [row.last_used_at for row in rows] == [rows[0].created_at, clock.now()]


async def test_a_keyring_has_the_period_that_its_pattern_says(tmp_path: Path) -> None:
    file = tmp_path / "sidekey.yaml"
    short, kept = "dataKeyRollOverLength: 1", "dataKeyRollOverLength: never"
    file.write_text(f"keyrings: {{default: , 'short-*': {{{short}}}, kept: {{{kept}}}}}")
    clock, store = FakeClock(), MemoryKeystore()
    config = load(file, {}, {"dataDir": str(tmp_path)})
    sidecar = Sidecar(config, kms=FakeKms(), keystore=store, clock=clock)
    names = ("default", "short-lived", "kept")
    try:
        (address,), _ = await sidecar.start()
        async with connected(address) as caller:
            for days in (0, 1, 400):
                clock.advance(days * DAY)
                for name in names:
                    await caller.encrypt(values(b"value"), keyring=name)
    finally:
        await sidecar.close()
    made = {name: sum(row.keyring == name for row in store.rows.values()) for name in names}
    assert made == {"default": 2, "short-lived": 3, "kept": 1}
