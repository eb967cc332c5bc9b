"""One sidecar of the fleet: the parts that ``sidecar.serve`` puts together, without sockets and rounds of their own."""

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sidecar.keys.administration import Administration
from sidecar.keys.completion import Completion
from sidecar.keys.data_key import DataKeys
from sidecar.keys.inventory import Inventory
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.lifetime import Lifetime
from sidecar.keys.outage import Pace
from sidecar.keys.rewrapping import Rewrapping
from sidecar.keys.rollover import RolloverSchedule
from sidecar.keys.terms import KeyringTerms
from sidecar.keys.usage import UsageCounts
from sidecar.keys.wrapping import WrappingKeys
from sidecar.kms.guard import GuardedKms
from sidecar.metrics import Metrics
from sidecar.rpc.admission import Admission, InFlightLimits
from sidecar.rpc.batches import BatchLimits
from sidecar.rpc.encryption import EncryptionService
from sidecar.rpc.traffic import Traffic
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.fleet_model.asks import Asks
from tests.fleet_model.facts import Facts, Terms
from tests.fleet_model.links import DEADLINE_SECONDS, Held, Link, LinkedKeystore, LinkedKms
from tests.fleet_model.stepping import SteppingLoop

JITTER = 0.25
FAILURE_SECONDS = 5.0
_LIMITS = BatchLimits(max_message_bytes=1 << 20, max_rows=1000)
_IN_FLIGHT = InFlightLimits(calls=1000, rows=100_000, data_bytes=1 << 24)


class FleetClock:
    """The loop's time, which all share, and a wall clock that is ``ahead_seconds`` of everybody's."""

    def __init__(self, loop: SteppingLoop) -> None:
        self._loop = loop
        self.ahead_seconds = 0.0

    def monotonic(self) -> float:
        """As ``Clock``."""
        return self._loop.time()

    def now(self) -> datetime:
        """As ``Clock``."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._loop.time() + self.ahead_seconds)


@dataclass(frozen=True)
class Surroundings:
    """What the sidecars of a fleet share."""

    loop: SteppingLoop
    terms: Terms
    store: MemoryKeystore
    kmses: Mapping[str, FakeKms]
    facts: Facts
    asks: Asks
    held: list[Held]


class FleetSidecar:
    """A process that begins cold. ``number`` says where in a rollover's lead window it comes."""

    def __init__(self, around: Surroundings, number: int, clock: FleetClock) -> None:
        self.clock = clock
        self.number = number
        self._completing = False
        self.made_on_call: Counter[str] = Counter()
        self._loop = around.loop
        self._held = around.held
        self.links = {name: Link(around.loop, "kms", around.held) for name in around.kmses}
        self.links["keystore"] = Link(around.loop, "keystore", around.held)
        store = MemoryKeystore(around.store.database)
        self.store = LinkedKeystore(store, self.links["keystore"], around.facts, around.asks, self)
        metrics = Metrics()
        self.wrapping_keys = WrappingKeys(
            {
                name: GuardedKms(
                    LinkedKms(kms, self.links[name], around.facts, around.asks, self),
                    metrics,
                    label=name,
                    deadline_seconds=DEADLINE_SECONDS,
                )
                for name, kms in around.kmses.items()
            }
        )
        self._open_store = store.open
        self.completion = Completion(self.store, self.wrapping_keys, metrics, keyring="default")
        self.usage = UsageCounts(self.store, clock)
        self.keyrings = _keyrings_of(self, around.terms, metrics)
        self.administration = Administration(
            self.store,
            Inventory(self.store, lambda _name: _terms_of(around.terms)),
            self.keyrings,
            Rewrapping(self.store, self.wrapping_keys),
            clock,
        )
        self.values = EncryptionService(
            self.keyrings, self.usage, Admission(_IN_FLIGHT, metrics), _LIMITS, Traffic(metrics)
        )

    @property
    def trouble_at(self) -> float:
        """When one of its links last failed, refused or hung; now, where one hangs."""
        return max(link.trouble_at for link in self._links_now())

    @property
    def outage_at(self) -> float:
        """The same without refusals."""
        return max(link.outage_at for link in self._links_now())

    def _links_now(self) -> list[Link]:
        links = list(self.links.values())
        for held in self._held:
            if held.link in links:
                held.link.trouble_at = self._loop.time()
        return links

    def unflushed(self, key_id: str) -> int:
        """Values encrypted that the keystore is not known to have counted."""
        return self.usage.unflushed(key_id)

    async def open(self) -> None:
        """Open everything; nothing is called for."""
        await self._open_store(upgrade=True)
        await self.wrapping_keys.open()

    async def complete(self) -> None:
        """A round of completion; there is never a second one at a time."""
        if not self._completing:
            self._completing = True
            await self.completion.run_once()
            self._completing = False

    async def close(self) -> None:
        """As ``sidecar.serve`` ends: nothing counted is lost, if the keystore answers."""
        await self.usage.flush()
        await self.keyrings.close()
        await self.wrapping_keys.close()


def _terms_of(terms: Terms) -> KeyringTerms:
    return KeyringTerms(RolloverSchedule(terms.period, terms.max_values))


def _keyrings_of(sidecar: FleetSidecar, terms: Terms, metrics: Metrics) -> Keyrings:
    lifetime = Lifetime(
        ttl_seconds=terms.ttl,
        jitter_fraction=JITTER,
        refresh_after_fraction=0.75,
        failure_seconds=FAILURE_SECONDS,
        max_entries=1000,
        stale_on_outage_seconds=terms.stale,
    )
    return Keyrings(
        sidecar.store,
        sidecar.wrapping_keys,
        lambda keystore, wrapper: DataKeys(
            keystore, wrapper, sidecar.clock, os.urandom, on_record=sidecar.completion.offer
        ),
        lifetime,
        Pace(),
        sidecar.clock,
        metrics,
        configured=lambda _name: _terms_of(terms),
        may_make=lambda _name: True,
        unflushed=sidecar.usage.unflushed,
        jitter=random.random,
        spread=lambda _key_id: sidecar.number / 8,
    )
