"""Readiness: what calls say of the KMS and the keystore, and what a probe asks them."""

import asyncio
import functools
import itertools
from collections.abc import MutableMapping
from typing import Any

import pytest

from sidecar.errors import CorruptKeyError, KeystoreUnavailableError, KmsDeniedError, KmsUnavailableError
from sidecar.keys.readiness import Readiness, probe
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.watched import WatchedKeystore
from sidecar.kms.guard import GuardedKms
from sidecar.metrics import Metrics
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms

DIRECTIONS = ["wrap", "unwrap"]
TROUBLES = ["denied", "disabled", "throttled", "unavailable", "error"]
Logs = list[MutableMapping[str, Any]]


class Cached:
    """The number of data keys in the cache."""

    keys = 0

    def __call__(self) -> int:
        return self.keys


@pytest.fixture
def cached() -> Cached:
    return Cached()


@pytest.fixture
def readiness(cached: Cached) -> Readiness:
    return Readiness(cached, lambda: 0)


def state(readiness: Readiness) -> str:
    """In one word: ready, or "ready, in trouble" with the data keys of the cache, or not ready."""
    if readiness.ready:
        return "ready, in trouble" if readiness.in_trouble else "ready"
    assert readiness.in_trouble
    return "not ready"


def both(readiness: Readiness, result: str) -> None:
    """Both directions end alike."""
    for direction in DIRECTIONS:
        readiness.kms_result("one", direction, result)


def test_nothing_is_ready_before_the_kms_was_asked_in_both_directions(readiness: Readiness) -> None:
    for direction in DIRECTIONS:
        assert state(readiness) == "not ready"
        assert readiness.checks()["kms"] == "not asked yet"
        readiness.kms_result("one", direction, "ok")
    assert state(readiness) == "ready"


def test_of_several_kmses_one_that_does_both_is_enough_and_each_is_told_with_its_problem(readiness: Readiness) -> None:
    readiness.kms_result("near", "wrap", "ok")
    readiness.kms_result("far", "unwrap", "ok")
    assert state(readiness) == "not ready"  # one direction each is not enough
    readiness.kms_result("near", "unwrap", "unavailable", "the KMS did not answer the unwrap within 5 seconds")
    readiness.kms_result("far", "wrap", "ok")
    assert state(readiness) == "ready, in trouble"
    checks = readiness.checks()
    assert [checks[name] for name in ("kms", "kms.near", "kms.far")] == [
        "ok",
        "unwrap unavailable: the KMS did not answer the unwrap within 5 seconds",
        "ok",
    ]
    readiness.kms_result("far", "wrap", "denied", "no")
    assert state(readiness) == "not ready"
    assert readiness.checks()["kms"] == "unavailable"


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_kms_in_trouble_leaves_a_sidecar_ready_that_has_data_keys(
    readiness: Readiness, cached: Cached, trouble: str, direction: str
) -> None:
    both(readiness, "ok")
    readiness.kms_result("one", direction, trouble)
    assert state(readiness) == "not ready"
    cached.keys = 1
    assert state(readiness) == "ready, in trouble"
    assert readiness.checks() == {
        "kms": trouble,
        "kms.one": f"{direction} {trouble}",
        "keystore": "ok",
        "cachedKeys": "1",
        "staleKeys": "0",
    }
    cached.keys = 0
    readiness.kms_result("one", direction, "ok")
    assert state(readiness) == "ready"


def test_a_keystore_in_trouble_leaves_a_sidecar_ready_that_has_data_keys(readiness: Readiness, cached: Cached) -> None:
    both(readiness, "ok")
    readiness.keystore_result(False)
    assert state(readiness) == "not ready"
    cached.keys = 1
    assert state(readiness) == "ready, in trouble"
    readiness.keystore_result(True)
    cached.keys = 0
    assert state(readiness) == "ready"


@pytest.mark.parametrize(("before", "result"), list(itertools.product(["ok", "denied"], ["corrupt", "cancelled"])))
def test_a_corrupt_key_and_a_cancelled_call_say_nothing_of_the_kms(
    readiness: Readiness, before: str, result: str
) -> None:
    both(readiness, before)
    both(readiness, result)
    assert readiness.checks()["kms"] == before


def test_only_changes_are_logged(readiness: Readiness, logs: Logs) -> None:
    for result in ("ok", "ok", "denied", "denied", "ok"):
        readiness.kms_result("one", "unwrap", result, "" if result == "ok" else "the KMS says no")
    for reachable in (True, False, False, True):
        readiness.keystore_result(reachable)
    assert [(line["event"], line["log_level"], line["before"], line["result"]) for line in logs] == [
        ("kms_state", "debug", "not asked yet", "ok"),
        ("kms_state", "warning", "ok", "denied"),
        ("kms_state", "info", "denied", "ok"),
        ("keystore_reachability", "warning", "ok", "unavailable"),
        ("keystore_reachability", "info", "unavailable", "ok"),
    ]
    assert {(line["kms"], line["operation"]) for line in logs[:3]} == {("one", "unwrap")}
    assert [line["problem"] for line in logs[:3]] == ["", "the KMS says no", ""]


class Probed:
    """A KMS and a keystore whose results reach a ``Readiness``, as in the sidecar."""

    def __init__(self, readiness: Readiness) -> None:
        self.readiness = readiness
        self.fake = FakeKms()
        self.store = MemoryKeystore()
        guarded = GuardedKms(self.fake, Metrics(), on_result=functools.partial(readiness.kms_result, "one"))
        self.wrapping_keys = WrappingKeys({"one": guarded})
        self.keystore = WatchedKeystore(self.store, readiness.keystore_result)

    async def probe(self) -> None:
        """One probe."""
        await probe(self.wrapping_keys, self.keystore, "default")


@pytest.fixture
async def probed(readiness: Readiness) -> Probed:
    probed = Probed(readiness)
    probed.fake.delay_seconds = 0.001
    await probed.store.open(upgrade=True)
    return probed


async def test_a_probe_wraps_and_unwraps_and_leaves_nothing_behind(probed: Probed) -> None:
    await probed.probe()
    assert probed.readiness.ready
    assert (probed.fake.wraps, probed.fake.unwraps) == (1, 1)
    assert probed.store.rows == {}
    assert [bytes(buffer) for buffer in probed.fake.key_buffers] == [bytes(32)] * 2


@pytest.mark.parametrize("direction", ["wrap", "unwrap"])
async def test_a_kms_that_fails_in_one_direction_is_in_trouble(probed: Probed, direction: str) -> None:
    setattr(probed.fake, f"fail_{direction}_with", KmsDeniedError("no"))
    await probed.probe()
    assert probed.readiness.checks()["kms"] == "denied"
    assert not probed.readiness.ready
    assert {bytes(buffer) for buffer in probed.fake.key_buffers} == {bytes(32)}


async def test_a_keystore_that_is_away_is_seen_by_a_probe(probed: Probed) -> None:
    probed.store.fail_with = KeystoreUnavailableError("away")
    await probed.probe()
    assert probed.readiness.checks()["keystore"] == "unavailable"


async def test_a_probe_after_the_outage_ends_the_trouble(probed: Probed) -> None:
    probed.fake.fail_wrap_with = KmsUnavailableError("away")
    await probed.probe()
    assert probed.readiness.in_trouble
    probed.fake.fail_wrap_with = None
    await probed.probe()
    assert probed.readiness.ready


@pytest.mark.parametrize("error", [KmsDeniedError("no"), KmsUnavailableError("away"), CorruptKeyError("bad")], ids=repr)
async def test_a_kms_that_wraps_but_does_not_unwrap_never_looks_ready_while_it_is_probed(
    probed: Probed, error: Exception
) -> None:
    probed.fake.fail_unwrap_with = error
    seen: list[bool] = []
    for _ in range(3):
        probing = asyncio.create_task(probed.probe())
        while not probing.done():
            seen.append(probed.readiness.ready)
            await asyncio.sleep(0)
        await probing
    assert probed.fake.unwraps == 3
    assert not any(seen)
    assert not probed.readiness.ready
    probed.fake.fail_unwrap_with = None
    await probed.probe()
    assert probed.readiness.ready
