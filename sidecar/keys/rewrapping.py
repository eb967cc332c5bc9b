"""Bringing every data key under the configured wrapping keys, and no others, page by page. Values are not touched.

Safe beside running sidecars, other rewraps, and a kill at any moment: a data key's copies are replaced in one step, and
only by copies that were proved to unwrap.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from sidecar.crypto import key_schedule
from sidecar.errors import CorruptKeyError, KeystoreUnavailableError, KmsDeniedError, SidekeyError
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DamagedRow, DataKeyRecord, KeyState, Keystore, WrappedCopy

_MOST_LOST_RACES = 5

log = structlog.get_logger(__name__)


class Failure(NamedTuple):
    """A data key that could not be rewrapped."""

    key_id: str
    """Empty where it cannot be read."""
    keyring: str
    reason: str
    """Of an error of ``sidecar.errors``."""
    problem: str
    """That error's text."""


@dataclass(frozen=True, slots=True)
class RewrapPage:
    """What came of a page of data keys; each of them is counted once."""

    rewrapped: int
    """In a dry run: what would be."""
    unchanged: int
    """Wrapped under exactly the configured wrapping keys already, or destroyed."""
    failures: tuple[Failure, ...]
    """Each of them is as it was."""
    next: tuple[str, int] | None
    """Where the next page begins (after this keyring and generation); None: there is none."""


class Rewrapping:
    """Rewraps pages. Asks KMSs to wrap and to unwrap, and for nothing else."""

    def __init__(self, keystore: Keystore, wrapping_keys: WrappingKeys, *, most_at_once: int = 8) -> None:
        """``most_at_once``: data keys that are under way at the same time."""
        self._keystore = keystore
        self._wrapping_keys = wrapping_keys
        self._most_at_once = most_at_once

    async def page(
        self, keyring: str | None, after: tuple[str, int] | None, limit: int, *, dry_run: bool
    ) -> RewrapPage:
        """Rewrap the data keys of a page, disabled ones too; a page that is repeated finds its data keys done.

        Args:
            keyring: None: of all keyrings.
            after: the page begins after this keyring and generation.
            limit: data keys of the page; at least 1.
            dry_run: nothing is stored, and no data key unwrapped; of those that cannot be only those are found that no
                KMS at hand may unwrap.

        Raises:
            KmsDeniedError, KmsDisabledError, KmsThrottledError, KmsUnavailableError, CorruptKeyError: a configured
                wrapping key cannot wrap and unwrap now, so that no data key could be brought under it.
            KeystoreUnavailableError.
        """
        listed = await self._keystore.list_keys(keyring, after=after, limit=limit)
        if not listed:
            return RewrapPage(0, 0, (), None)
        # Asked anew for each page: an alias may have been pointed at another wrapping key since.
        current = set(await self._wrapping_keys.current(listed[0].keyring))
        records = [row for row in listed if not isinstance(row, DamagedRow)]
        damaged = [_damaged(row) for row in listed if isinstance(row, DamagedRow)]
        wanting = [record for record in records if _wants_rewrap(record, current)]
        failures = self._out_of_reach(wanting) if dry_run else await self._rewrapped(wanting, current)
        last = listed[-1]
        return RewrapPage(
            rewrapped=len(wanting) - len(failures),
            unchanged=len(records) - len(wanting),
            failures=tuple(sorted([*failures, *damaged])),
            next=(last.keyring, last.generation) if len(listed) == limit else None,
        )

    def _out_of_reach(self, records: Sequence[DataKeyRecord]) -> list[Failure]:
        failures: list[Failure] = []
        for record in records:
            try:
                self._wrapping_keys.must_reach(record)
            except KmsDeniedError as error:
                failures.append(Failure(record.key_id, record.keyring, error.reason, str(error)))
        return failures

    async def _rewrapped(self, records: Sequence[DataKeyRecord], current: set[str]) -> list[Failure]:
        """Rewrap them; returns those that could not be."""
        failures: list[Failure] = []
        slots = asyncio.Semaphore(self._most_at_once)

        async def one(record: DataKeyRecord) -> None:
            async with slots:
                try:
                    await self._rewrap(record, current)
                except KeystoreUnavailableError:
                    raise
                except SidekeyError as error:
                    failures.append(Failure(record.key_id, record.keyring, error.reason, str(error)))
                    log.warning(
                        "data_key_not_rewrapped", key_id=record.key_id, keyring=record.keyring, reason=error.reason
                    )

        tasks = [asyncio.create_task(one(record), name="sidekey-rewrap") for record in records]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return failures

    async def _rewrap(self, record: DataKeyRecord, current: set[str]) -> None:
        """Rewrap one data key; one that others change meanwhile is read and judged again."""
        for _ in range(_MOST_LOST_RACES):
            copies = await self._copies_anew(record)
            if await self._keystore.replace_copies(record.key_id, record.copies, copies):
                log.info(
                    "data_key_rewrapped",
                    key_id=record.key_id,
                    keyring=record.keyring,
                    kek_ids=[copy.kek_id for copy in copies],
                    before=[copy.kek_id for copy in record.copies],
                )
                return
            changed = await self._keystore.get(record.key_id)
            if changed is None or not _wants_rewrap(changed, current):
                return
            record = changed
        raise KeystoreUnavailableError(f"the wrapped copies of data key {record.key_id} change all the time")

    async def _copies_anew(self, record: DataKeyRecord) -> tuple[WrappedCopy, ...]:
        data_key = await self._wrapping_keys.unwrap(record)
        try:
            return await self._wrapping_keys.wrapped_under_all(data_key, record.keyring, record.key_id)
        finally:
            key_schedule.overwrite(data_key)


def _damaged(row: DamagedRow) -> Failure:
    """The failure of a row that does not parse: an operator must restore it, and the others need not wait for that."""
    log.warning(
        "data_key_not_rewrapped",
        key_id=row.key_id,
        keyring=row.keyring,
        generation=row.generation,
        reason=CorruptKeyError.reason,
        damage=row.damage,
    )
    return Failure(row.key_id or "", row.keyring, CorruptKeyError.reason, row.damage)


def _wants_rewrap(record: DataKeyRecord, current: set[str]) -> bool:
    if record.state is KeyState.DESTROYED:
        return False
    return {copy.kek_id for copy in record.copies} != current
