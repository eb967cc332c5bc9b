"""A sidecar's data keys on fakes: what tests of their life stand on."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.column import Column
from sidecar.crypto.format import Suite
from sidecar.keys.data_key import DataKeys
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.lifetime import Lifetime
from sidecar.keys.outage import Pace
from sidecar.keys.rollover import MOST_VALUES, RolloverSchedule
from sidecar.keys.terms import KeyringTerms
from sidecar.keys.usage import UsageCounts
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DataKeyRecord
from sidecar.metrics import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms

TTL = 300.0
FAILURE_SECONDS = 5.0
DAY = 86_400.0
YEAR = timedelta(days=365)


class World:
    """One sidecar over fakes. ``World(store=…, kms=…, clock=…)`` shares them with another sidecar."""

    def __init__(
        self,
        *,
        period: timedelta | None = YEAR,
        max_values: int = MOST_VALUES,
        terms: KeyringTerms | None = None,
        pace: Pace | None = None,
        spread: float = 0.0,
        max_calls: int = 16,
        wait_seconds: float = 5.0,
        store: MemoryKeystore | None = None,
        kms: FakeKms | None = None,
        clock: FakeClock | None = None,
        may_make: Callable[[str], bool] = lambda _name: True,
        **lifetime: Any,
    ) -> None:
        self.store = MemoryKeystore() if store is None else store
        self.kms = FakeKms() if kms is None else kms
        self.clock = FakeClock() if clock is None else clock
        self.kms.journal = self.store.journal
        self.metrics = Metrics()
        self.wrapping_keys = WrappingKeys({"fake": self.kms})
        self.data_keys = DataKeys(self.store, self.wrapping_keys, self.clock, os.urandom)
        self.usage = UsageCounts(self.store, self.clock)
        self.terms = terms or KeyringTerms(RolloverSchedule(period, max_values))
        life: dict[str, Any] = {
            "ttl_seconds": TTL,
            "jitter_fraction": 0.0,
            "refresh_after_fraction": 0.75,
            "failure_seconds": FAILURE_SECONDS,
            "max_entries": 1000,
        }
        self.keyrings = Keyrings(
            self.store,
            self.wrapping_keys,
            lambda keystore, wrapper: DataKeys(keystore, wrapper, self.clock, os.urandom),
            Lifetime(**life | lifetime),
            pace or Pace(),
            self.clock,
            self.metrics,
            configured=lambda _name: self.terms,
            may_make=may_make,
            unflushed=self.usage.unflushed,
            max_calls=max_calls,
            wait_seconds=wait_seconds,
            jitter=lambda: 0.0,
            spread=lambda _key_id: spread,
        )

    async def opened(self) -> "World":
        """With its keystore open."""
        await self.store.open(upgrade=True)
        return self

    def second(self, **terms: Any) -> "World":
        """Another sidecar on the same database and KMS and, unless it is given its own, clock."""
        store = MemoryKeystore(self.store.database)
        store.journal = self.store.journal
        return World(store=store, kms=self.kms, **{"clock": self.clock, **terms})

    def generations(self, keyring: str = "default") -> list[int]:
        """The generations that the keystore holds, in order."""
        return sorted(row.generation for row in self.store.rows.values() if row.keyring == keyring)

    def row(self, generation: int = 1, keyring: str = "default") -> DataKeyRecord:
        """The keystore's row of a generation."""
        (row,) = (r for r in self.store.rows.values() if (r.keyring, r.generation) == (keyring, generation))
        return row

    def change(self, generation: int = 1, keyring: str = "default", **fields: Any) -> None:
        """Change a row of the keystore, as an operator or another sidecar does."""
        row = self.row(generation, keyring)
        self.store.rows[row.key_id] = replace(row, **fields)

    def metric(self, name: str, **labels: str) -> float:
        """A sample of the metrics; 0 where it was never counted."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def encrypted(cipher: DataKeyCipher) -> bytes:
    """One fixed value as the cipher encrypts it, deterministically: equal for equal data keys alone."""
    value = Column(np.frombuffer(b"a value", np.uint8), 1, np.array([0, 7], np.int64), None, None)
    return cipher.encrypt(value, Suite.DETERMINISTIC, b"", os.urandom).data.tobytes()
