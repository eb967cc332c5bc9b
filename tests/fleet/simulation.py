"""A fleet of sidecars through a day on a fake clock: what it asks of its KMS and its keystore.

Keyrings, wrapping keys and counts are the real ones; the KMS, the keystore and the clock are fakes. Sidecars sweep and
flush at the intervals of the real ones; a sweep at which nothing can be due is left out, which is what lets a day
pass in seconds. Every random number is drawn from a seed, so a day is the same day every time.
"""

import asyncio
import heapq
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from sidecar.config import Config, load
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.keys.data_key import DataKeys
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.lifetime import Lifetime
from sidecar.keys.outage import Pace
from sidecar.keys.readiness import probe
from sidecar.keys.rollover import RolloverSchedule
from sidecar.keys.terms import KeyringTerms
from sidecar.keys.usage import UsageCounts
from sidecar.keys.wrapping import WrappingKeys
from sidecar.metrics import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryDatabase, MemoryKeystore
from tests.fakes.kms import FakeKms

DAY: Final = 86_400.0
ROLL_OVER: Final = timedelta(days=365)
_SWEEP_SECONDS: Final = 5.0
_FETCH: Final = "sidekey-fetch"
_CIPHER: Final = DataKeyCipher("00000000000001", bytes(32))
"""In place of every data key's own, which would take most of the time and asks for nothing."""
_WRITES: Final = frozenset({"insert", "add_usage", "set_state", "replace_copies", "save_keyring"})


@dataclass(frozen=True)
class Fleet:
    """What is simulated."""

    sidecars: int
    keyrings: int
    in_use: bool = True
    """Whether every sidecar encrypts and decrypts with every data key all day; else none is used after the start."""
    kmses: int = 1
    rolls_over: bool = False
    """Whether every keyring comes to its rollover in the middle of it, and what was encrypted before is still read."""
    seconds: float = DAY


@dataclass(frozen=True)
class Asked:
    """What a fleet asked for, the starts of its sidecars included."""

    wraps: tuple[int, ...]
    """Of each KMS."""
    unwraps: tuple[int, ...]
    reads: int
    """Calls to the keystore, one for however many data keys."""
    writes: int

    @property
    def kms_requests(self) -> int:
        """Of all KMSs together."""
        return sum(self.wraps) + sum(self.unwraps)


def defaults() -> Config:
    """The configuration of a sidecar that nobody has configured."""
    return load(None, {}, {"dataDir": "/nowhere", "keyrings": {"*": {}}})


class _Sidecar:
    """One of them. ``due``: from when on a sweep would find something to do, as far as its draws of jitter tell."""

    def __init__(self, number: int, fleet: "_Simulated", config: Config) -> None:
        self.keystore = MemoryKeystore(fleet.database)
        self.wrapping_keys = WrappingKeys(fleet.kmses)
        self._random = random.Random(number)  # noqa: S311 - a simulation
        self._clock = fleet.clock
        self._cache = config.cache
        self.usage = UsageCounts(self.keystore, fleet.clock)
        self.starts_at = self._random.random() * config.usage.flush_seconds
        self.due: list[float] = []
        terms = KeyringTerms(RolloverSchedule(ROLL_OVER))
        cache = config.cache
        spread = self._random.random()
        self.keyrings = Keyrings(
            self.keystore,
            self.wrapping_keys,
            lambda keystore, wrapper: DataKeys(
                keystore, wrapper, fleet.clock, self._random.randbytes, lambda _key_id, _data_key: _CIPHER
            ),
            Lifetime(
                cache.ttl_seconds,
                cache.jitter_fraction,
                cache.refresh_after_fraction,
                cache.unknown_key_seconds,
                cache.max_keys,
                cache.stale_on_outage_seconds,
            ),
            Pace(config.kms.retries_per_second, config.kms.max_calls_per_second),
            fleet.clock,
            Metrics(),
            configured=lambda _name: terms,
            may_make=lambda _name: True,
            unflushed=self.usage.unflushed,
            jitter=self._jitter,
            spread=lambda _key_id: spread,
        )

    def _jitter(self) -> float:
        # Each entry draws its life once: from this on a sweep may find it due.
        drawn = self._random.random()
        life = self._cache.ttl_seconds * (1 - self._cache.jitter_fraction * drawn)
        heapq.heappush(self.due, self._clock.monotonic() + life * self._cache.refresh_after_fraction)
        return drawn

    def has_work(self, now: float) -> bool:
        """Whether something may be due."""
        found = False
        while self.due and self.due[0] <= now:
            heapq.heappop(self.due)
            found = True
        return found

    async def use(self, names: list[str], key_ids: Mapping[str, list[str]]) -> None:
        """Encrypt under every keyring's primary, and decrypt with all of its data keys."""
        for name in names:
            data_key, _ = await self.keyrings.encryption(name, None)
            self.usage.encrypted(data_key.key_id, 1)
            for key_id in await self.keyrings.for_decryption(key_ids[name], name):
                self.usage.decrypted(key_id, 1)


class _Simulated:
    """A fleet while its day passes."""

    def __init__(self, fleet: Fleet, config: Config) -> None:
        self._fleet = fleet
        self._config = config
        self.clock = FakeClock()
        self.database = MemoryDatabase()
        self.kmses = {f"kms-{number}": FakeKms(f"fake:{number}") for number in range(1, fleet.kmses + 1)}
        self._names = [f"keyring-{number:03d}" for number in range(fleet.keyrings)]
        self._key_ids: dict[str, list[str]] = {}

    async def day(self) -> Asked:
        """Let it pass."""
        await self._make_keyrings()
        if self._fleet.rolls_over:
            self.clock.advance((ROLL_OVER - timedelta(seconds=self._fleet.seconds / 2)).total_seconds())
        for kms in self.kmses.values():
            kms.wraps = kms.unwraps = 0
        sidecars = [_Sidecar(number, self, self._config) for number in range(1, self._fleet.sidecars + 1)]
        begin = self.clock.monotonic()
        for at, sidecar, what in self._events(sidecars, begin):
            self.clock.advance(max(0.0, at - self.clock.monotonic()))
            await self._happens(sidecar, what)
        for sidecar in sidecars:
            await sidecar.keyrings.close()
        calls = [call for sidecar in sidecars for call in sidecar.keystore.calls.items()]
        return Asked(
            tuple(kms.wraps for kms in self.kmses.values()),
            tuple(kms.unwraps for kms in self.kmses.values()),
            sum(count for name, count in calls if name not in _WRITES),
            sum(count for name, count in calls if name in _WRITES),
        )

    def _events(self, sidecars: list[_Sidecar], begin: float) -> Iterator[tuple[float, _Sidecar, str]]:
        """What happens, in its order: starts, rounds of traffic with a flush, and sweeps that may find something."""
        events = [(begin + sidecar.starts_at, number, "start") for number, sidecar in enumerate(sidecars)]
        heapq.heapify(events)
        while events:
            at, number, what = heapq.heappop(events)
            sidecar = sidecars[number]
            if at >= begin + self._fleet.seconds:
                return
            if what != "sweep" or sidecar.has_work(at):
                yield at, sidecar, what
            if what == "start":
                heapq.heappush(events, (at + _SWEEP_SECONDS, number, "sweep"))
            if what == "sweep":
                due = max(at, sidecar.due[0] if sidecar.due else begin + self._fleet.seconds)
                rounds = max(1, -int((at - due) // _SWEEP_SECONDS))
                heapq.heappush(events, (at + rounds * _SWEEP_SECONDS, number, "sweep"))
            elif self._fleet.in_use:
                heapq.heappush(events, (at + self._config.usage.flush_seconds, number, "traffic"))

    async def _happens(self, sidecar: _Sidecar, what: str) -> None:
        if what == "sweep":
            sidecar.keyrings.sweep()
        else:
            if what == "start":
                await sidecar.keystore.open()
                await probe(sidecar.wrapping_keys, sidecar.keystore, self._names[0])
            await sidecar.use(self._names, self._key_ids)
            self._note_new_keys()
            await sidecar.usage.flush()
        await _settled()

    async def _make_keyrings(self) -> None:
        maker = _Sidecar(0, self, self._config)
        await maker.keystore.open(upgrade=True)
        for name in self._names:
            await maker.keyrings.primary(name)
        self._note_new_keys()
        await maker.keyrings.close()

    def _note_new_keys(self) -> None:
        """Values of every data key there is are met everywhere."""
        if len(self.database.rows) != sum(map(len, self._key_ids.values())):
            self._key_ids = {name: [] for name in self._names}
            for row in self.database.rows.values():
                self._key_ids[row.keyring].append(row.key_id)


async def _settled() -> None:
    """Wait until no fetch of a cache is under way; fakes answer at once."""
    while fetches := [task for task in asyncio.all_tasks() if task.get_name() == _FETCH]:
        await asyncio.wait(fetches)
        await asyncio.sleep(0)


@contextmanager
def _silently() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.configure(**before)


async def asked_by(fleet: Fleet, config: Config | None = None) -> Asked:
    """What a fleet asks for; raises what a call raised, since none may fail."""
    with _silently():
        return await _Simulated(fleet, config or defaults()).day()
