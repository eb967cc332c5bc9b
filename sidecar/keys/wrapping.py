"""The wrapping keys that data keys are wrapped under: one KMS or several, in an order.

Owns which KMS wraps and unwraps which copy. Every data key is wrapped under all of them, and unwrapped by the first
that answers; it is never without a copy that a configured KMS has proved to unwrap.
"""

import contextlib
import functools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from sidecar.crypto import key_schedule
from sidecar.errors import CorruptKeyError, KmsDeniedError, SidekeyError
from sidecar.keys.copying import Answers, distinct, wrapped_under
from sidecar.keys.failover import Attempt, Failover
from sidecar.keys.wrapping_key import WrappingKey
from sidecar.keystore.port import DataKeyRecord, WrappedCopy
from sidecar.kms.context import encryption_context
from sidecar.kms.port import Kms

MOST_COPIES = 16
"""Of one data key; what a keystore stores at most."""
_NO_KEY_ID = "00000000000000"  # never a data key's: the format forbids zero
_MOST_NAMED = 3  # in an error's text

log = structlog.get_logger(__name__)


class Wrapper(Protocol):
    """What the life of data keys needs of wrapping keys; raises the errors of the KMS port alone."""

    async def wrap(self, data_key: bytearray, keyring: str, key_id: str) -> tuple[WrappedCopy, ...]:
        """Wrapped copies of a new data key, each proved to unwrap; at least one."""
        ...

    async def unwrap(self, record: DataKeyRecord) -> bytearray:
        """The data key, checked against its commitment; the caller overwrites it after use."""
        ...

    def must_reach(self, record: DataKeyRecord) -> None:
        """Raise ``KmsDeniedError`` where no KMS is configured that may unwrap the data key; asks none."""
        ...


class WrappingKeys:
    """Implements ``Wrapper`` over named KMSs, the first asked first. For one event loop.

    A KMS that meets a call with an outage, or lets it wait, counts as down until it answers one again: it is then asked
    last, and new data keys do not wait for it. A KMS that denies has answered: see ``unwrap``.
    """

    def __init__(
        self, kmses: Mapping[str, Kms], *, former: Mapping[str, Kms] | None = None, failover_seconds: float = 1.0
    ) -> None:
        """Put them together.

        Args:
            kmses: those that wrap and unwrap; at least one, by the name of its plugin in the configuration.
            former: those that only unwrap, after the others: of wrapping keys that data keys are to leave.
            failover_seconds: after so long without an answer the next KMS is asked as well.
        """
        if not kmses:
            raise ValueError("there must be a KMS")
        self._keys = [WrappingKey(name, kms) for name, kms in kmses.items()]
        self._former = [WrappingKey(name, kms) for name, kms in (former or {}).items()]
        self._failover_seconds = failover_seconds
        self._failover = Failover(failover_seconds)

    @property
    def names(self) -> Sequence[str]:
        """The providers' names, in order."""
        return [key.kms.name for key in self._keys]

    @property
    def kek_ids(self) -> Sequence[str]:
        """The wrapping keys that wrap now, in order; a name may stand for one until it was used."""
        return [key.kms.kek_id for key in self._keys]

    async def open(self) -> None:
        """Open every KMS; raises ``StartupError``."""
        # The former ones first: whether a local wrapping key may be made depends on what they may unwrap.
        for key in (*self._former, *self._keys):
            await key.kms.open()

    async def close(self) -> None:
        """Close every KMS."""
        await self._failover.close()
        for key in (*self._keys, *self._former):
            await key.kms.close()

    async def wrap(self, data_key: bytearray, keyring: str, key_id: str) -> tuple[WrappedCopy, ...]:
        """As ``Wrapper``: under every wrapping key whose KMS can be used, at the same time.

        A KMS that is away or refuses is left out, and logged, as long as one is not; one that unwraps a copy to
        something else never is.

        Raises:
            CorruptKeyError: a copy was not proved.
            KmsDeniedError, KmsDisabledError, KmsThrottledError, KmsUnavailableError: no KMS wraps.
        """
        context = encryption_context(keyring, key_id)
        refusals: dict[str, SidekeyError] = {}
        for with_those_down in (False, True):
            keys = [key for key in self._keys if key.name not in refusals and (with_those_down or not key.down)]
            answers = await wrapped_under(keys, data_key, context, failover_seconds=self._failover_seconds)
            refusals |= answers.failures
            if answers.copies:
                _log_left_out(refusals, keyring, key_id)
                return answers.copies
        raise Answers({}, refusals).worst

    async def unwrap(self, record: DataKeyRecord) -> bytearray:
        """As ``Wrapper``: by the first KMS that answers, those that are down last.

        The next one is asked as soon as one meets the call with an outage, and as well where one lets it wait. A denial
        and a disabled wrapping key are answers: they end the call, whatever other KMSs would say.

        Raises:
            CorruptKeyError: no copy unwraps to the data key that was wrapped.
            KmsDeniedError, KmsDisabledError: the KMS refuses; or none is configured that may unwrap a copy of it.
            KmsThrottledError, KmsUnavailableError: no KMS that could unwrap it answers.
        """
        context = encryption_context(record.keyring, record.key_id)
        sound: dict[str, bool] = {}
        attempts = [
            Attempt(functools.partial(_unwrapped, key, record, copies, context, sound), key.lets_wait)
            for key in self._in_turn()
            if (copies := key.copies_of(record.copies))
        ]
        if not attempts:
            raise self._wrapped_elsewhere(record)
        try:
            return await self._failover.first(attempts)
        finally:
            for kek_id in (kek_id for kek_id, is_sound in sound.items() if not is_sound):
                log.error("data_key_copy_corrupt", key_id=record.key_id, keyring=record.keyring, kek_id=kek_id)

    def may_unwrap(self, record: DataKeyRecord) -> bool:
        """Whether there is a KMS that may unwrap a copy of the data key; asks none."""
        return any(key.copies_of(record.copies) for key in self._in_turn())

    def must_reach(self, record: DataKeyRecord) -> None:
        """As ``Wrapper``."""
        if not self.may_unwrap(record):
            raise self._wrapped_elsewhere(record)

    async def wrapped_under_all(self, data_key: bytearray, keyring: str, key_id: str) -> tuple[WrappedCopy, ...]:
        """Copies under all wrapping keys, each proved to unwrap; raises as ``wrap`` where one of them cannot be had."""
        context = encryption_context(keyring, key_id)
        answers = await wrapped_under(self._keys, data_key, context, failover_seconds=None)
        if answers.failures:
            raise answers.worst
        return answers.copies

    async def current(self, keyring: str) -> Sequence[str]:
        """The ids of the wrapping keys that wrap now, asked of every KMS in the keyring's name; raises as ``wrap``.

        An alias is known by its wrapping key only once that has wrapped something: a random key that is thrown away.
        """
        with _random_key() as random:
            return [copy.kek_id for copy in await self.wrapped_under_all(random, keyring, _NO_KEY_ID)]

    async def ask_those_down(self, keyring: str) -> bool:
        """Let every KMS that is down wrap and unwrap a random key that is thrown away; whether one of them is up again.

        Where there is one KMS alone it is asked by whatever needs it, down or not. Raises ``CorruptKeyError``.
        """
        down = [key for key in self._keys if key.down]
        if not down or len(self._keys) == 1:
            return False
        with _random_key() as random:
            context = encryption_context(keyring, _NO_KEY_ID)
            await wrapped_under(down, random, context, failover_seconds=None)
        return not all(key.down for key in down)

    def lacks_copies(self, record: DataKeyRecord) -> bool:
        """Whether a configured wrapping key has wrapped no copy of the data key, and there is room for one."""
        return any(key.lacks(record.copies) for key in self._keys) and len(record.copies) < MOST_COPIES

    async def completed(self, record: DataKeyRecord) -> tuple[WrappedCopy, ...]:
        """The record's copies, and those that it lacks of wrapping keys whose KMS is not down and can be used.

        Raises as ``unwrap``; ``CorruptKeyError`` also where a new copy was not proved.
        """
        lacking = [key for key in self._keys if key.lacks(record.copies) and not key.down]
        if not lacking:
            return record.copies
        data_key = await self.unwrap(record)
        try:
            context = encryption_context(record.keyring, record.key_id)
            answers = await wrapped_under(lacking, data_key, context, failover_seconds=None)
        finally:
            key_schedule.overwrite(data_key)
        _log_left_out(answers.failures, record.keyring, record.key_id)
        return distinct((*record.copies, *answers.copies))[:MOST_COPIES]

    def _in_turn(self) -> list[WrappingKey]:
        """In the order in which they are asked; sorting keeps the configured order of equals."""
        return sorted((*self._keys, *self._former), key=lambda key: key.down)

    def _wrapped_elsewhere(self, record: DataKeyRecord) -> KmsDeniedError:
        under = ", ".join(copy.kek_id for copy in record.copies[:_MOST_NAMED])
        log.error("data_key_wrapped_elsewhere", key_id=record.key_id, keyring=record.keyring, wrapped_under=under)
        configured = ", ".join([key.kms.kek_id for key in (*self._keys, *self._former)][:_MOST_NAMED])
        return KmsDeniedError(
            f"data key {record.key_id} is wrapped under {under}, and the configured wrapping keys are {configured}: "
            "configure one that it is wrapped under, with 'formerKms: true' if it is to unwrap alone"
        )


async def _unwrapped(
    key: WrappingKey,
    record: DataKeyRecord,
    copies: Sequence[WrappedCopy],
    context: Mapping[str, str],
    sound: dict[str, bool],
) -> bytearray:
    """The data key from the first of these copies that is sound; which are and are not is noted."""
    for copy in copies:
        try:
            data_key = await key.unwrap(copy, context, record.commitment)
        except CorruptKeyError:
            # Another KMS may have the wrapping key that this one lacks.
            sound.setdefault(copy.kek_id, False)
        else:
            sound[copy.kek_id] = True
            return data_key
    raise CorruptKeyError(
        f"data key {record.key_id} does not unwrap to the key that was wrapped, under any of its wrapping keys"
    )


def _log_left_out(failures: Mapping[str, SidekeyError], keyring: str, key_id: str) -> None:
    for name, error in failures.items():
        log.warning(
            "wrapping_key_left_out",
            kms=name,
            keyring=keyring,
            key_id=key_id,
            reason=error.reason,
            problem=str(error),
            hint="other wrapping keys wrap the data key; this one's copy is made when it can be used",
        )


@contextlib.contextmanager
def _random_key() -> Iterator[bytearray]:
    random = bytearray(secrets.token_bytes(key_schedule.DATA_KEY_BYTES))
    try:
        yield random
    finally:
        key_schedule.overwrite(random)
