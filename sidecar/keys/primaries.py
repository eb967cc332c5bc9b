"""Which data key a keyring encrypts with: found, made at first use, rolled over.

Decides by ``rollover``; caches nothing.
"""

from collections.abc import Callable

import structlog

from sidecar.errors import KeystoreUnavailableError, SidekeyError, UnknownKeyringError
from sidecar.keys.clock import Clock
from sidecar.keys.data_key import DataKey, DataKeys
from sidecar.keys.rollover import RolloverSchedule
from sidecar.keystore.port import DataKeyRecord, Keystore
from sidecar.metrics import Metrics

log = structlog.get_logger(__name__)


class Primaries:
    """Finds and makes primaries.

    Args:
        may_make: whether a keyring of this name may be made on first use.
        on_made: called with a new data key and the moment (monotonic clock) from which its life counts.
    """

    def __init__(
        self,
        keystore: Keystore,
        data_keys: DataKeys,
        schedule: RolloverSchedule,
        clock: Clock,
        metrics: Metrics,
        may_make: Callable[[str], bool],
        on_made: Callable[[DataKey, float], None],
    ) -> None:
        self._keystore = keystore
        self._data_keys = data_keys
        self._schedule = schedule
        self._clock = clock
        self._metrics = metrics
        self._may_make = may_make
        self._on_made = on_made

    async def find(self, keyring: str) -> DataKeyRecord:
        """The keyring's primary, rolled over first where that is due; an overdue primary goes on where it cannot be.

        Raises:
            UnknownKeyringError: there is none, and none may be made.
            SidekeyError: the keystore or, for a first data key, the KMS is away or refuses.
        """
        record = await self._keystore.primary(keyring)
        if record is None:
            record = await self._first(keyring)
        elif self._schedule.wants_rollover(record, self._clock.now()):
            record = await self._roll_over(record)
        self._observe(record)
        return record

    def seconds_to_rollover(self, primary: DataKeyRecord) -> float:
        """Seconds until the primary should be rolled over in the background; 0 when that is late."""
        now = self._clock.now()
        if self._schedule.wants_rollover(primary, now):
            return 0.0
        return (self._schedule.prepare_at(primary) - now).total_seconds()

    async def _first(self, keyring: str) -> DataKeyRecord:
        generation = await self._keystore.newest_generation(keyring) + 1
        if generation == 1 and not self._may_make(keyring):
            raise UnknownKeyringError(
                f"no keyring {keyring!r}, and the configuration's keyrings let none of this name be made on first use"
            )
        return await self._make(keyring, generation)

    async def _roll_over(self, old: DataKeyRecord) -> DataKeyRecord:
        try:
            new = await self._make(old.keyring, await self._keystore.newest_generation(old.keyring) + 1)
        except SidekeyError as error:
            overdue = self._schedule.is_overdue(old, self._clock.now())
            self._metrics.rollovers.labels("failed").inc()
            self._metrics.rollover_overdue.labels(old.keyring).set(overdue)
            log.warning(
                "rollover_postponed",
                keyring=old.keyring,
                generation=old.generation,
                overdue=overdue,
                reason=error.reason,
                hint="the old primary goes on encrypting until the rollover succeeds",
            )
            return old
        log.info("rolled_over", keyring=new.keyring, generation=new.generation, key_id=new.key_id)
        return new

    async def _make(self, keyring: str, generation: int) -> DataKeyRecord:
        since = self._clock.monotonic()
        made = await self._data_keys.make(keyring, generation)
        if made is None:
            # Another sidecar was first. What it stored is durable, so it is there to be read.
            self._metrics.rollovers.labels("lost_race").inc()
            winner = await self._keystore.primary(keyring)
            if winner is None:
                raise KeystoreUnavailableError("the keystore does not show the data key that another sidecar made")
            return winner
        data_key, record = made
        self._metrics.rollovers.labels("made").inc()
        log.info("data_key_made", keyring=keyring, generation=generation, key_id=record.key_id, kek_id=record.kek_id)
        self._on_made(data_key, since)
        return record

    def _observe(self, record: DataKeyRecord) -> None:
        keyring = record.keyring
        # Read at each scrape, so that the age of an idle keyring grows as well.
        self._metrics.primary_age.labels(keyring).set_function(
            lambda: (self._clock.now() - record.created_at).total_seconds()
        )
        self._metrics.primary_created.labels(keyring).set(record.created_at.timestamp())
        self._metrics.next_rollover.labels(keyring).set(self._schedule.due_at(record).timestamp())
        if not self._schedule.wants_rollover(record, self._clock.now()):
            self._metrics.rollover_overdue.labels(keyring).set(0)
