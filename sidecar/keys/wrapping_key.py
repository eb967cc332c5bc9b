"""One of the wrapping keys: a KMS by its name in the configuration, and whether it is down.

Owns what is known of one KMS from its own answers; which of several is asked is for ``sidecar.keys.wrapping``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from sidecar.crypto import key_schedule
from sidecar.errors import RETRYABLE, CorruptKeyError, SidekeyError
from sidecar.keystore.port import WrappedCopy
from sidecar.kms.port import Kms

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class WrappingKey:
    """A KMS that wraps under its wrapping key, and unwraps what that or an earlier one wrapped."""

    name: str
    """Of its plugin in the configuration."""
    kms: Kms
    down: bool = field(default=False, init=False)
    """Whether it met its last call with an outage, or let it wait for too long; until it answers one again."""
    proved_kek_id: str | None = field(default=None, init=False)
    """The wrapping key of the last wrap that was proved. Before it an alias may stand for any wrapping key."""

    def may_unwrap(self, copy: WrappedCopy) -> bool:
        """Whether the copy may be this KMS's to unwrap."""
        return self.kms.may_unwrap(copy.kek_id)

    def copies_of(self, copies: tuple[WrappedCopy, ...]) -> list[WrappedCopy]:
        """The copies that may be this KMS's to unwrap, that of its wrapping key of now first."""
        mine = filter(self.may_unwrap, copies)
        return sorted(mine, key=lambda copy: copy.kek_id != self.proved_kek_id)

    def lacks(self, copies: tuple[WrappedCopy, ...]) -> bool:
        """Whether none of the copies is under the wrapping key of now, as far as that is known."""
        if self.proved_kek_id is None:
            return not any(map(self.may_unwrap, copies))
        return all(copy.kek_id != self.proved_kek_id for copy in copies)

    async def wrap(self, data_key: bytearray, context: Mapping[str, str]) -> WrappedCopy:
        """A copy that was proved to unwrap. Raises the errors of the port; ``CorruptKeyError``: it was not proved."""
        try:
            wrapped_key = await self.kms.wrap(data_key, context)
            kek_id = self.kms.kek_id
            # A KMS that wraps for us but will not unwrap would cost every value under this key: ask before it is used.
            proof = await self.kms.unwrap(wrapped_key, context)
        except SidekeyError as error:
            self._answered(error)
            raise
        try:
            if not key_schedule.commits_to(key_schedule.commitment(data_key), proof):
                raise CorruptKeyError("the KMS does not unwrap a new data key to what it wrapped")
        finally:
            key_schedule.overwrite(proof)
        self._answered(None)
        self.proved_kek_id = kek_id
        return WrappedCopy(kek_id, wrapped_key)

    async def unwrap(self, copy: WrappedCopy, context: Mapping[str, str], commitment: bytes) -> bytearray:
        """The data key, checked against its commitment. Raises the errors of the port."""
        try:
            data_key = await self.kms.unwrap(copy.wrapped_key, context)
        except SidekeyError as error:
            self._answered(error)
            raise
        self._answered(None)
        if not key_schedule.commits_to(commitment, data_key):
            key_schedule.overwrite(data_key)
            raise CorruptKeyError("what the wrapped data key unwraps to is not the data key that was wrapped")
        return data_key

    def lets_wait(self) -> None:
        """It has let a call wait for so long that another KMS was asked as well."""
        self._is_down(True, "SLOW")

    def _answered(self, error: SidekeyError | None) -> None:
        self._is_down(isinstance(error, RETRYABLE), "" if error is None else error.reason)

    def _is_down(self, down: bool, reason: str) -> None:
        if down is not self.down:
            if down:
                log.warning("wrapping_key_down", kms=self.name, reason=reason)
            else:
                log.info("wrapping_key_up", kms=self.name)
        self.down = down
