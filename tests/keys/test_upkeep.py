"""The rounds in the background: they go on through defects, and probe only while there is trouble."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

import pytest

from sidecar.errors import KmsUnavailableError
from sidecar.keys import upkeep
from sidecar.keys.readiness import Readiness, probe
from sidecar.keys.upkeep import Upkeep
from sidecar.keys.usage import UsageCounts
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.watched import WatchedKeystore
from sidecar.kms.guard import GuardedKms
from tests.keys.world import TTL, World

TURN = 0.002
Logs = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_FIRST_PROBE_SECONDS", TURN)
    monkeypatch.setattr(upkeep, "_LONGEST_PROBE_SECONDS", 16 * TURN)
    monkeypatch.setattr(upkeep, "_READINESS_SECONDS", TURN)


class Kept:
    """A sidecar with its upkeep, and what the upkeep told of readiness."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[bool] = []
        self.telling_fails = False
        self.readiness = Readiness(lambda: world.keyrings.cached_keys, lambda: world.keyrings.stale_keys)
        guarded = GuardedKms(world.kms, world.metrics, on_result=functools.partial(self.readiness.kms_result, "one"))
        self.wrapping_keys = WrappingKeys({"one": guarded})
        self.keystore = WatchedKeystore(world.store, self.readiness.keystore_result)
        self.usage = UsageCounts(self.keystore, world.clock)
        self.upkeep = Upkeep(
            self.readiness,
            [(TURN, self.sweep), (TURN, self.usage.flush)],
            probe=lambda: probe(self.wrapping_keys, self.keystore, "default"),
            on_ready=self.tell,
        )

    async def sweep(self) -> None:
        """A job."""
        self.world.keyrings.sweep()

    async def tell(self, ready: bool) -> None:
        """Called by the upkeep."""
        if self.telling_fails:
            raise RuntimeError("hunter2")
        self.told.append(ready)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While its rounds go on; that they end by cancellation alone is checked."""
        task = asyncio.create_task(self.upkeep.run())
        try:
            yield
            assert not task.done(), "the upkeep has ended"
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()


@pytest.fixture
async def kept() -> Kept:
    return Kept(await World().opened())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the rounds to bring something about."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(TURN)
    pytest.fail("the rounds did not bring it about")


async def test_a_sidecar_without_trouble_asks_the_kms_nothing(kept: Kept) -> None:
    for direction in ("wrap", "unwrap"):
        kept.readiness.kms_result("one", direction, "ok")
    async with kept.running():
        await asyncio.sleep(20 * TURN)
    assert (kept.world.kms.wraps, kept.world.kms.unwraps) == (0, 0)
    assert kept.told == []


async def test_trouble_is_probed_until_it_ends_and_then_no_more(kept: Kept, logs: Logs) -> None:
    kept.world.kms.fail_wrap_with = KmsUnavailableError("away")
    async with kept.running():
        await until(lambda: kept.world.kms.wraps >= 3)
        assert kept.told == []
        kept.world.kms.fail_wrap_with = None
        await until(lambda: kept.told == [True])
        wraps = kept.world.kms.wraps
        await asyncio.sleep(20 * TURN)
        assert kept.world.kms.wraps == wraps
    (line,) = [line for line in logs if line["event"] == "readiness"]
    assert (line["ready"], line["kms"], line["keystore"]) == (True, "ok", "ok")


async def test_probes_wait_ever_longer_up_to_a_bound_and_are_quick_again_after_the_trouble(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waits are read where they are asked for; time itself is skipped."""
    waits: list[float] = []
    really_sleep = asyncio.sleep

    async def skip(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 12:
            kept.world.kms.fail_wrap_with = None
        if len(waits) == 15:
            kept.readiness.kms_result("one", "wrap", "unavailable")
        if len(waits) == 18:
            raise asyncio.CancelledError
        await really_sleep(0)

    kept.world.kms.fail_wrap_with = KmsUnavailableError("away")
    monkeypatch.setattr(upkeep, "_FIRST_PROBE_SECONDS", 0.5)
    monkeypatch.setattr(upkeep, "_LONGEST_PROBE_SECONDS", 30.0)
    monkeypatch.setattr(asyncio, "sleep", skip)
    with pytest.raises(asyncio.CancelledError):
        await kept.upkeep._probe_while_in_trouble()
    # In trouble until the twelfth wait, whose probe succeeds; and once more for the one probe after the fifteenth.
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 0.5, 0.5, 1, 0.5, 0.5]


async def test_a_sidecar_with_cached_keys_stays_ready_through_an_outage_until_they_expire(kept: Kept) -> None:
    for direction in ("wrap", "unwrap"):
        kept.readiness.kms_result("one", direction, "ok")
    await kept.world.keyrings.primary("default")
    async with kept.running():
        kept.world.kms.fail_wrap_with = kept.world.kms.fail_unwrap_with = KmsUnavailableError("away")
        kept.readiness.kms_result("one", "unwrap", "unavailable")
        await asyncio.sleep(20 * TURN)
        assert kept.told == []
        kept.world.clock.advance(TTL)
        await until(lambda: kept.told == [False])
        kept.world.kms.fail_wrap_with = kept.world.kms.fail_unwrap_with = None
        await until(lambda: kept.told == [False, True])


async def test_rounds_sweep_the_caches_and_flush_the_counts(kept: Kept) -> None:
    key = await kept.world.keyrings.primary("default")
    kept.usage.encrypted(key.key_id, 7)
    async with kept.running():
        await until(lambda: kept.world.row().values_encrypted == 7)
        kept.world.clock.advance(TTL * 0.75)
        await until(lambda: kept.world.metric("sidekey_cache_refreshes_total", result="ok") == 1)


async def test_a_defect_in_any_round_ends_none_of_them(kept: Kept, logs: Logs) -> None:
    """A keystore that raises what no port allows breaks probes and flushes; telling of readiness breaks too."""
    key = await kept.world.keyrings.primary("default")
    kept.usage.encrypted(key.key_id, 7)
    kept.world.store.fail_with = RuntimeError("hunter2")
    kept.telling_fails = True

    def defects() -> int:
        return sum(line["event"] == "upkeep_defect" for line in logs)

    async with kept.running():
        await until(lambda: defects() >= 6)
        kept.world.clock.advance(TTL)  # no data key is left: not ready, and nobody can be told
        before = defects()
        await until(lambda: defects() >= before + 6)
        kept.world.store.fail_with = None
        kept.telling_fails = False
        await until(lambda: kept.world.row().values_encrypted == 7)
        await until(lambda: kept.readiness.ready)
