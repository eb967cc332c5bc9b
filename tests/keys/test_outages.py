"""Outages: what goes on through them and for how long, and how few calls they cost."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.format import RowFailure
from sidecar.errors import (
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
)
from sidecar.keys.outage import Outage, Pace, TokenBucket
from tests.fakes.clock import FakeClock
from tests.keys.bench import TICK, Bench
from tests.keys.settling import fetches_done, turns
from tests.keys.world import TTL, World

STALE = 4 * TTL
Logs = list[MutableMapping[str, Any]]
Trouble = Callable[[World, bool], None]


def _kms(error: SidekeyError) -> Trouble:
    def switch(world: World, on: bool) -> None:
        world.kms.fail_wrap_with = world.kms.fail_unwrap_with = error if on else None

    return switch


def _keystore(world: World, on: bool) -> None:
    world.store.fail_with = KeystoreUnavailableError("away") if on else None


OUTAGES = [
    pytest.param(_kms(KmsThrottledError("slow down")), id="throttled"),
    pytest.param(_kms(KmsUnavailableError("away")), id="unavailable"),
    pytest.param(_keystore, id="keystore"),
]


async def used_until(world: World, key_id: str, moment: float, *, sweep: bool) -> None:
    """Time passes up to a moment, with a primary and a data key asked for every ten seconds, whatever the answer."""
    while world.clock.monotonic() < moment:
        world.clock.advance(min(10.0, moment - world.clock.monotonic()))
        if world.clock.monotonic() < moment:
            with contextlib.suppress(SidekeyError):
                await world.keyrings.primary("default")
            await world.keyrings.for_decryption([key_id], None)
        if sweep:
            world.keyrings.sweep()
        await fetches_done()


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("sweep", [True, False], ids=["swept", "not swept"])
@pytest.mark.parametrize(
    ("stale", "age", "served"),
    [
        *((STALE, TTL - TICK, True), (STALE, TTL, True), (STALE, TTL + TICK, True)),
        *((STALE, STALE - TICK, True), (STALE, STALE, False), (STALE, STALE + TICK, False)),
        *((0.0, TTL - TICK, True), (0.0, TTL, False), (TTL / 2, TTL - TICK, True), (TTL / 2, TTL, False)),
    ],
)
async def test_what_is_in_use_goes_on_through_an_outage_until_the_stale_limit(
    outage: Trouble, sweep: bool, stale: float, age: float, served: bool
) -> None:
    world = await World(stale_on_outage_seconds=stale).opened()
    began = world.clock.monotonic()
    key_id = (await world.keyrings.primary("default")).key_id
    outage(world, True)
    await used_until(world, key_id, began + age, sweep=sweep)
    found = await world.keyrings.for_decryption([key_id], None)
    assert isinstance(found[key_id], DataKeyCipher) is served
    if not served:
        assert found[key_id] is RowFailure.KEY_UNAVAILABLE
        assert world.keyrings.cached_keys == 0
    world.keyrings.sweep()
    await fetches_done()
    assert world.keyrings.stale_keys == world.metric("sidekey_cache_stale") == (served and age >= TTL)
    outage(world, False)
    world.clock.advance(1.0)
    assert (await world.keyrings.primary("default")).key_id == key_id
    assert isinstance((await world.keyrings.for_decryption([key_id], None))[key_id], DataKeyCipher)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_encryption_goes_on_through_an_outage_as_long_as_decryption(outage: Trouble) -> None:
    world = await World(stale_on_outage_seconds=STALE).opened()
    began = world.clock.monotonic()
    key_id = (await world.keyrings.primary("default")).key_id
    outage(world, True)
    await used_until(world, key_id, began + STALE - TICK, sweep=True)
    assert (await world.keyrings.primary("default")).key_id == key_id
    world.clock.advance(TICK)
    with pytest.raises((KmsThrottledError, KmsUnavailableError, KeystoreUnavailableError)):
        await world.keyrings.primary("default")


@pytest.mark.parametrize("outage", OUTAGES)
async def test_what_nobody_uses_leaves_at_its_ttl_outage_or_not(outage: Trouble) -> None:
    world = await World(stale_on_outage_seconds=STALE).opened()
    made = [await world.data_keys.make("default", generation) for generation in (1, 2)]
    used, idle = [found[0].key_id for found in made if found is not None]
    await world.keyrings.for_decryption([used, idle], None)
    began = world.clock.monotonic()
    outage(world, True)
    for _ in range(int(TTL * 2 / 10)):
        world.clock.advance(10.0)
        await world.keyrings.for_decryption([used], None)
        world.keyrings.sweep()
        await fetches_done()
        if world.clock.monotonic() >= began + TTL:
            assert world.keyrings.cached_keys == 1
    found = await world.keyrings.for_decryption([used, idle], None)
    assert isinstance(found[used], DataKeyCipher)
    assert found[idle] is RowFailure.KEY_UNAVAILABLE


async def test_a_refusal_in_an_outage_ends_a_stale_key_at_once(logs: Logs) -> None:
    world = await World(stale_on_outage_seconds=STALE).opened()
    began = world.clock.monotonic()
    key_id = (await world.keyrings.primary("default")).key_id
    world.kms.fail_unwrap_with = KmsUnavailableError("away")
    await used_until(world, key_id, began + 2 * TTL, sweep=True)
    world.kms.fail_unwrap_with = KmsDeniedError("no")
    await used_until(world, key_id, began + 2 * TTL + 40.0, sweep=True)
    assert world.keyrings.cached_keys == 0
    (line,) = [line for line in logs if line["event"] == "cached_entry_refused"]
    assert (line["key_id"], line["keyring"], line["reason"]) == (key_id, "default", "KMS_ACCESS_DENIED")


async def test_an_outage_of_many_keys_is_a_line_now_and_then(logs: Logs) -> None:
    world = await World(stale_on_outage_seconds=STALE, pace=Pace(100.0, 1000.0)).opened()
    for generation in range(1, 51):
        assert await world.data_keys.make("default", generation)
    key_ids = list(world.store.rows)
    await world.keyrings.for_decryption(key_ids, None)
    world.kms.fail_unwrap_with = KmsUnavailableError("away")
    for _ in range(300):
        world.clock.advance(1.0)
        await world.keyrings.for_decryption(key_ids, None)
        world.keyrings.sweep()
        await fetches_done()
    lines = [line for line in logs if line["event"] == "refresh_failed"]
    assert 2 <= len(lines) <= 4  # 75 seconds of failures, a line every 30
    assert lines[0]["keyring"] == "default"
    assert lines[0]["key_id"] in key_ids
    assert sum(line["left_out"] for line in lines) > 50


class Fleet:
    """Ten thousand entries in use, in one cache; the calls for them are counted by the second."""

    TTL = 64.0
    STALE = 256.0
    KEYS = tuple(f"k{number}" for number in range(10_000))
    PACE = Pace(retries_per_second=10.0, refreshes_per_second=500.0)

    def __init__(self) -> None:
        self.bench = Bench(
            pace=self.PACE,
            ttl_seconds=self.TTL,
            stale_on_outage_seconds=self.STALE,
            jitter_fraction=0.0,
            max_entries=20_000,
            max_background_fetches=1000,
        )
        self.calls: Counter[int] = Counter()
        self.began = 0.0

    async def warm(self) -> "Fleet":
        """With all entries fetched."""
        for key in self.KEYS:
            await self.bench.cache.get(key)
        self.began = self.bench.clock.monotonic()
        return self

    async def live(self, seconds: int, *, misses: tuple[str, ...] = ()) -> None:
        """Seconds pass; each entry is used in each, and every key of ``misses`` is asked for too."""
        cache, clock, origin = self.bench.cache, self.bench.clock, self.bench.origin
        for _ in range(seconds):
            clock.advance(1.0)
            before = origin.fetches.total()
            cache.sweep()
            for key in self.KEYS:
                cache.peek(key)
            await asyncio.gather(*(cache.get(key) for key in misses), return_exceptions=True)
            await fetches_done()
            self.calls[int(clock.monotonic() - self.began)] = origin.fetches.total() - before


async def test_ten_thousand_keys_in_use_through_an_outage_and_back_cost_a_bounded_number_of_calls() -> None:
    fleet = await Fleet().warm()
    fleet.bench.origin.fails = KmsUnavailableError("away")
    await fleet.live(200)
    assert len(fleet.bench.cache) == len(fleet.KEYS)  # nobody's entry ended for want of a try
    # Due from the 48th second on: the first sweep does not know yet that there is an outage.
    assert max(fleet.calls[second] for second in range(48)) == 0
    assert max(fleet.calls[second] for second in range(49, 201)) <= 11
    assert 9 * 150 <= sum(fleet.calls[second] for second in range(49, 201)) <= 10 * 153
    fleet.bench.origin.fails = None
    fleet.calls.clear()
    await fleet.live(30)
    assert len(fleet.bench.cache) == len(fleet.KEYS)
    assert max(fleet.calls.values()) <= 500
    assert fleet.bench.recorded.stale_entries == 0
    assert sum(fleet.calls.values()) == len(fleet.KEYS)  # each was fetched once, none was left out


async def test_the_stale_limit_ends_all_of_ten_thousand_keys_and_not_a_moment_before() -> None:
    fleet = await Fleet().warm()
    fleet.bench.origin.fails = KmsUnavailableError("away")
    await fleet.live(int(fleet.STALE) - 1)
    assert len(fleet.bench.cache) == len(fleet.KEYS)
    fleet.bench.clock.advance(1.0)
    assert len(fleet.bench.cache) == 0


async def test_after_an_outage_the_most_urgent_come_first() -> None:
    bench = Bench(pace=Pace(1.0, 2.0), stale_on_outage_seconds=512.0, max_background_fetches=2)
    for key in "abcdef":
        await bench.cache.get(key)
        bench.clock.advance(1.0)
    bench.origin.fails = KmsUnavailableError("away")
    for _ in range(70):
        bench.clock.advance(1.0)
        for key in reversed("abcdef"):
            assert bench.cache.peek(key)
        bench.cache.sweep()
        await fetches_done()
    bench.origin.fails = None
    bench.clock.advance(60.0)
    order: list[str] = []
    while len(order) < 6:
        before = Counter(bench.origin.fetches)
        for key in reversed("abcdef"):
            assert bench.cache.glance(key)
        bench.cache.sweep()
        await fetches_done()
        order += sorted((bench.origin.fetches - before).elements())
        bench.clock.advance(1.0)
    assert order == list("abcdef")


COLD = 500


async def reader_of_many(**terms: Any) -> tuple[World, list[str]]:
    """A sidecar with a cold cache, and the ids of many data keys."""
    maker = await World().opened()
    for generation in range(1, COLD + 1):
        assert await maker.data_keys.make("default", generation)
    return await maker.second(**terms).opened(), list(maker.store.rows)


async def test_cold_callers_of_many_keys_in_an_outage_are_no_storm() -> None:
    world, key_ids = await reader_of_many(pace=Pace(10.0, 200.0), max_calls=16)
    world.kms.fail_unwrap_with = KmsUnavailableError("away")
    world.kms.delay_seconds = 0.001
    before = world.kms.unwraps
    calls: list[int] = []
    for _ in range(20):
        found = await world.keyrings.for_decryption(key_ids, None)
        assert set(found.values()) == {RowFailure.KEY_UNAVAILABLE}
        calls.append(world.kms.unwraps - before)
        before = world.kms.unwraps
        world.clock.advance(0.5)
    assert calls[0] <= 16  # those under way when the first was told of the outage
    assert sum(calls[1:]) <= 20 * 0.5 * 10.0
    assert max(calls[1:]) <= 10
    world.kms.fail_unwrap_with = None
    world.clock.advance(1.0)
    found = await world.keyrings.for_decryption(key_ids, None)
    assert all(isinstance(cipher, DataKeyCipher) for cipher in found.values())


async def test_an_outage_that_is_long_over_fails_none_of_many_cold_callers() -> None:
    world, key_ids = await reader_of_many(pace=Pace(1.0, 200.0))
    world.kms.fail_unwrap_with = KmsUnavailableError("away")
    await world.keyrings.for_decryption(key_ids[:1], None)
    world.kms.fail_unwrap_with = None
    world.kms.delay_seconds = 0.001
    world.clock.advance(3600.0)
    found = await world.keyrings.for_decryption(key_ids, None)
    assert all(isinstance(cipher, DataKeyCipher) for cipher in found.values())


@pytest.mark.parametrize("error", [KmsUnavailableError("away"), KeystoreUnavailableError("away")], ids=repr)
async def test_callers_who_wait_for_others_tries_share_their_outcome(error: SidekeyError) -> None:
    world, key_ids = await reader_of_many(pace=Pace(1.0, 200.0))
    if isinstance(error, KmsUnavailableError):
        world.kms.fail_unwrap_with = error
    else:
        world.store.fail_with = error
    await world.keyrings.for_decryption(key_ids[:1], None)
    world.clock.advance(3600.0)
    before = world.kms.unwraps
    found = await world.keyrings.for_decryption(key_ids, None)
    assert set(found.values()) == {RowFailure.KEY_UNAVAILABLE}
    assert world.kms.unwraps - before <= 1


async def test_noise_in_an_outage_of_the_kms_is_told_from_data_keys_that_cannot_be_had() -> None:
    world, key_ids = await reader_of_many(pace=Pace(1.0, 200.0))
    world.kms.fail_unwrap_with = KmsUnavailableError("away")
    await world.keyrings.for_decryption(key_ids[:10], None)
    noise = [os.urandom(7).hex() for _ in range(1000)]
    found = await world.keyrings.for_decryption(noise, None)
    assert set(found.values()) == {RowFailure.UNKNOWN_KEY}


async def test_a_rollover_that_fails_does_not_keep_data_keys_from_being_unwrapped() -> None:
    world, key_ids = await reader_of_many()
    world.kms.fail_wrap_with = KmsUnavailableError("away")
    for _ in range(3):
        with pytest.raises(KmsUnavailableError):
            await world.keyrings.primary("other")
        world.clock.advance(1.0)
    found = await world.keyrings.for_decryption(key_ids, None)
    assert all(isinstance(cipher, DataKeyCipher) for cipher in found.values())


async def test_first_data_keys_of_many_keyrings_in_an_outage_are_no_storm_either() -> None:
    world = await World(pace=Pace(10.0, 200.0)).opened()
    world.kms.fail_wrap_with = KmsUnavailableError("away")
    world.kms.delay_seconds = 0.001
    names = [f"keyring-{number}" for number in range(300)]
    await asyncio.gather(*(world.keyrings.primary(name) for name in names), return_exceptions=True)
    assert world.kms.wraps <= 16
    before = world.kms.wraps
    world.clock.advance(0.25)
    answers = await asyncio.gather(*(world.keyrings.primary(name) for name in names), return_exceptions=True)
    assert {type(answer) for answer in answers} == {KmsUnavailableError}
    assert world.kms.wraps == before
    assert world.store.rows == {}


async def test_who_waits_too_long_for_a_turn_is_told_so() -> None:
    world, key_ids = await reader_of_many(wait_seconds=0.01, max_calls=1)
    world.kms.gate = asyncio.Event()
    waiting = asyncio.create_task(world.keyrings.for_decryption(key_ids[:1], None))
    await turns()
    found = await world.keyrings.for_decryption(key_ids[1:2], None)
    assert list(found.values()) == [RowFailure.KEY_UNAVAILABLE]
    world.kms.gate.set()
    assert [type(cipher) for cipher in (await waiting).values()] == [DataKeyCipher]


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (1.0, 0.0), (float("inf"), 1.0), (1.0, float("nan"))])
def test_a_pace_of_nothing_or_without_bounds_is_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="pace"):
        Pace(*wrong)


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 10), (0.5, 1), (1.0, 1)])
def test_a_bucket_lets_its_rate_through_and_a_second_of_it_at_once(rate: float, burst: int) -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate, clock)
    assert sum(bucket.take() for _ in range(100)) == burst
    taken = 0
    for _ in range(400):
        clock.advance(0.25)
        taken += bucket.take() + bucket.take() + bucket.take()
    assert taken == rate * 100


def test_what_began_before_an_outage_ended_says_nothing_of_the_time_after_it() -> None:
    outage = Outage(1.0, FakeClock(), lambda: 0.0)
    outage.failed(KmsUnavailableError("away"), outage.number)
    began = outage.number
    outage.succeeded()
    outage.failed(KmsUnavailableError("away"), began)
    assert not outage.lasts
    outage.failed(KmsUnavailableError("away"), outage.number)
    assert outage.lasts


@pytest.mark.parametrize("outage", OUTAGES)
async def test_after_a_probe_that_was_answered_no_call_fails_for_what_others_met(outage: Trouble) -> None:
    world, key_ids = await reader_of_many(pace=Pace(1.0, 200.0))
    outage(world, True)
    await world.keyrings.for_decryption(key_ids, None)
    with pytest.raises(SidekeyError):
        await world.keyrings.primary("other")
    outage(world, False)
    world.keyrings.trouble_is_over()
    found = await world.keyrings.for_decryption(key_ids, None)
    assert all(isinstance(cipher, DataKeyCipher) for cipher in found.values())
    assert (await world.keyrings.primary("other")).generation == 1
