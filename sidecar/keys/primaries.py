"""Which data key a keyring encrypts with: found, made at first use, rolled over, rotated.

Decides by ``rollover`` and ``terms``; caches nothing.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import structlog

from sidecar.errors import KeystoreUnavailableError, KmsDeniedError, SidekeyError, UnknownKeyringError
from sidecar.keys.clock import Clock
from sidecar.keys.data_key import DataKey, DataKeys
from sidecar.keys.terms import KeyringTerms, terms_of
from sidecar.keystore.port import DataKeyRecord, KeyringRecord, Keystore
from sidecar.metrics import Metrics

_CLOCKS_MAY_DIFFER = timedelta(minutes=5)

Cause = Literal["first", "rollover", "rotation"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Primary:
    """A keyring's primary, and the terms that it encrypts on."""

    record: DataKeyRecord
    terms: KeyringTerms


class Primaries:
    """Finds and makes primaries.

    Args:
        configured: the terms of a keyring in this sidecar's configuration.
        may_make: whether a keyring of this name may be made on first use.
        unflushed: values encrypted here under a data key that the keystore has not counted yet.
        spread: for a data key's id where in the lead window of its rollover this sidecar comes, in [0, 1).
        on_made: called with a new data key and the moment (monotonic clock) from which its life counts.
        abandons: whether a primary may be replaced that no configured wrapping key may unwrap.
    """

    def __init__(
        self,
        keystore: Keystore,
        data_keys: DataKeys,
        clock: Clock,
        metrics: Metrics,
        *,
        configured: Callable[[str], KeyringTerms],
        may_make: Callable[[str], bool],
        unflushed: Callable[[str], int],
        spread: Callable[[str], float],
        on_made: Callable[[DataKey, float], None],
        abandons: bool = False,
    ) -> None:
        self._keystore = keystore
        self._data_keys = data_keys
        self._clock = clock
        self._metrics = metrics
        self._configured = configured
        self._may_make = may_make
        self._unflushed = unflushed
        self._spread = spread
        self._on_made = on_made
        self._abandons = abandons
        self._clock_warnings: dict[str, str] = {}
        self._rotations: dict[str, asyncio.Task[Primary]] = {}

    async def find(self, keyring: str) -> Primary:
        """The keyring's primary, rolled over first where that is due; an overdue primary goes on where it cannot be.

        Raises:
            UnknownKeyringError: there is none, and none may be made.
            SidekeyError: the keystore or, for a first data key, the KMS is away or refuses.
        """
        created = await self._keystore.keyring(keyring)
        terms = self._terms(keyring, created)
        record = await self._keystore.primary(keyring)
        if record is None:
            record = await self._first(keyring, created)
        elif self._wants_rollover(Primary(record, terms)):
            record = await self._roll_over(Primary(record, terms))
        found = Primary(record, terms)
        self._observe(found)
        return found

    async def rotate(self, keyring: str) -> Primary:
        """A new primary now; callers at one time share it, and one that another sidecar made meanwhile is as good.

        Raises:
            UnknownKeyringError: there is none, and none may be made.
            KmsDeniedError: no configured wrapping key may unwrap the old primary, or the KMS refuses.
            SidekeyError: the keystore or the KMS is away or refuses; the old primary goes on.
        """
        rotation = self._rotations.get(keyring)
        if rotation is None:
            rotation = asyncio.create_task(self._rotated(keyring), name="sidekey-rotation")
            self._rotations[keyring] = rotation
            rotation.add_done_callback(lambda done: self._rotation_ended(keyring, done))
        try:
            return await asyncio.shield(rotation)
        except SidekeyError as error:
            raise type(error)(*error.args) from None

    def seconds_to_rollover(self, primary: Primary) -> float:
        """Seconds until the primary should be looked at for its rollover in the background; 0 when that is late."""
        record = primary.record
        return primary.terms.schedule.seconds_to_rollover(
            record, self._clock.now(), self._spent(record), self._spread(record.key_id)
        )

    async def close(self) -> None:
        """Cancel the rotations that are under way."""
        rotations = list(self._rotations.values())
        for rotation in rotations:
            rotation.cancel()
        await asyncio.gather(*rotations, return_exceptions=True)

    def _terms(self, keyring: str, created: KeyringRecord | None) -> KeyringTerms:
        return terms_of(self._configured(keyring), None if created is None else created.settings)

    def _spent(self, record: DataKeyRecord) -> int:
        return record.values_encrypted + self._unflushed(record.key_id)

    def _wants_rollover(self, primary: Primary) -> bool:
        record = primary.record
        return primary.terms.schedule.wants_rollover(
            record, self._clock.now(), self._spent(record), self._spread(record.key_id)
        )

    async def _first(self, keyring: str, created: KeyringRecord | None) -> DataKeyRecord:
        newest = await self._keystore.newest_generation(keyring)
        if newest == 0 and created is None and not self._may_make(keyring):
            raise UnknownKeyringError(
                f"no keyring {keyring!r}, and the configuration's keyrings let none of this name be made on first use: "
                f"run 'sidekey keyrings create {keyring}', or name it under keyrings"
            )
        if newest > 0:
            # Somebody made one since the primary was looked for, or all are disabled: look, or there would be two.
            record = await self._keystore.primary(keyring)
            if record is not None:
                return record
        record, _ = await self._make(keyring, newest, "first")
        return record

    def goes_on(self, primary: Primary) -> bool:
        """Tell of a primary that goes on, since the keystore or the KMS is away; returns whether it is overdue."""
        record = primary.record
        overdue = primary.terms.schedule.is_overdue(record, self._clock.now(), self._spent(record))
        self._metrics.rollover_overdue.labels(record.keyring).set(overdue)
        return overdue

    async def _roll_over(self, old: Primary) -> DataKeyRecord:
        keyring = old.record.keyring
        try:
            newest = await self._keystore.newest_generation(keyring)
            if newest > old.record.generation:
                # Somebody made one since the primary was read, or the newer ones are disabled: look, or two would meet.
                record = await self._keystore.primary(keyring)
                if record is not None and record.generation > old.record.generation:
                    return record
            self._may_replace(old.record)
            new, made = await self._make(keyring, newest, "rollover")
        except SidekeyError as error:
            self._postpone(old, error)
            return old.record
        self._metrics.rollovers.labels("made" if made else "lost_race").inc()
        if made:
            log.info("rolled_over", keyring=keyring, generation=new.generation, key_id=new.key_id)
        return new

    def _postpone(self, old: Primary, error: SidekeyError) -> None:
        record = old.record
        overdue = self.goes_on(old)
        self._metrics.rollovers.labels("failed").inc()
        log.warning(
            "rollover_postponed",
            keyring=record.keyring,
            generation=record.generation,
            overdue=overdue,
            reason=error.reason,
            hint="the old primary goes on encrypting until the rollover succeeds",
        )

    async def _rotated(self, keyring: str) -> Primary:
        created = await self._keystore.keyring(keyring)
        newest = await self._keystore.newest_generation(keyring)
        if newest == 0:
            record = await self._first(keyring, created)
        else:
            # Read after ``newest``: were it replaced meanwhile, that generation would be taken.
            old = await self._keystore.primary(keyring)
            if old is not None:
                self._may_replace(old)
            record, _ = await self._make(keyring, newest, "rotation")
        found = Primary(record, self._terms(keyring, created))
        self._observe(found)
        return found

    def _rotation_ended(self, keyring: str, rotation: "asyncio.Task[Primary]") -> None:
        del self._rotations[keyring]
        if not rotation.cancelled():
            rotation.exception()  # retrieved here, since all who waited may have left

    def _may_replace(self, old: DataKeyRecord) -> None:
        """Raise ``KmsDeniedError`` where no configured wrapping key may unwrap ``old``, unless it is abandoned.

        With other wrapping keys than its keyring's this process would make a primary that nobody else can use.
        """
        try:
            self._data_keys.must_reach(old)
        except KmsDeniedError:
            if not self._abandons:
                raise
            log.warning(
                "primary_abandoned",
                keyring=old.keyring,
                generation=old.generation,
                key_id=old.key_id,
                hint="what it encrypted stays unreadable unless a wrapping key comes back that it is wrapped under",
            )

    async def _make(self, keyring: str, newest: int, cause: Cause) -> tuple[DataKeyRecord, bool]:
        """The data key of the generation after ``newest``, and whether it was made here."""
        since = self._clock.monotonic()
        made = await self._data_keys.make(keyring, newest + 1)
        if made is None:
            # Another sidecar was first. What it stored is durable, so it is there to be read.
            winner = await self._keystore.primary(keyring)
            if winner is None or winner.generation <= newest:
                raise KeystoreUnavailableError("the keystore does not show the data key that another sidecar made")
            return winner, False
        data_key, record = made
        self._metrics.data_keys_made.labels(cause).inc()
        log.info(
            "data_key_made",
            keyring=keyring,
            generation=record.generation,
            key_id=record.key_id,
            kek_id=record.kek_id,
            cause=cause,
        )
        self._on_made(data_key, since)
        return record, True

    def _observe(self, primary: Primary) -> None:
        record = primary.record
        self._compare_clocks(record)
        keyring = record.keyring
        # Read at each scrape, so that the age of an idle keyring grows as well.
        self._metrics.primary_age.labels(keyring).set_function(
            lambda: (self._clock.now() - record.created_at).total_seconds()
        )
        self._metrics.primary_created.labels(keyring).set(record.created_at.timestamp())
        due_at = primary.terms.schedule.due_at(record)
        self._metrics.next_rollover.labels(keyring).set(math.inf if due_at is None else due_at.timestamp())
        if not self._wants_rollover(primary):
            self._metrics.rollover_overdue.labels(keyring).set(0)

    def _compare_clocks(self, record: DataKeyRecord) -> None:
        """Say it where the clock here and the clock of the sidecar that made a primary cannot both be right.

        Nothing else is done: two sidecars that each replace what the other's clock has dated would not come to an end.
        """
        ahead = record.created_at - self._clock.now()
        if ahead > _CLOCKS_MAY_DIFFER and self._clock_warnings.get(record.keyring) != record.key_id:
            self._clock_warnings[record.keyring] = record.key_id
            log.warning(
                "clock_disagrees",
                keyring=record.keyring,
                key_id=record.key_id,
                ahead_seconds=round(ahead.total_seconds()),
                hint="this primary was made in the future of this machine's clock: set the clock of one machine",
            )
