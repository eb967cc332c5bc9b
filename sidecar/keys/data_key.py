"""Data keys from the keystore and the KMS: loading one, and making one. The only place that holds data key bytes.

The bytes live from the unwrap (or the CSPRNG) to the derivation of the cipher's keys, in a bytearray that is then
overwritten.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.crypto import key_schedule
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.format import KEY_ID_BYTES, key_id_from
from sidecar.crypto.nonces import RandomBytes
from sidecar.errors import CorruptKeyError, KeyDestroyedError, KeyDisabledError, UnknownKeyError
from sidecar.keys.clock import Clock
from sidecar.keys.wrapping import Wrapper
from sidecar.keystore.port import DataKeyRecord, KeyState, Keystore

MakeCipher = Callable[[str, bytes | bytearray], DataKeyCipher]


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key that can work."""

    key_id: str
    keyring: str
    cipher: DataKeyCipher
    generation: int


class DataKeys:
    """Brings data keys to life."""

    def __init__(
        self,
        keystore: Keystore,
        wrapper: Wrapper,
        clock: Clock,
        random: RandomBytes,
        make_cipher: MakeCipher = DataKeyCipher,
        *,
        on_record: Callable[[DataKeyRecord], None] = lambda _record: None,
    ) -> None:
        """``random`` is the operating system's CSPRNG; ``on_record`` is shown each data key that was loaded or made."""
        self._keystore = keystore
        self._wrapper = wrapper
        self._clock = clock
        self._random = random
        self._make_cipher = make_cipher
        self._on_record = on_record

    async def load(self, key_id: str) -> DataKey:
        """Read, unwrap and check a data key.

        Raises:
            UnknownKeyError, KeyDisabledError, KeyDestroyedError: what the keystore says of it.
            CorruptKeyError: what it unwraps to is not what was wrapped.
            KmsDeniedError, KmsDisabledError, KmsThrottledError, KmsUnavailableError, KeystoreUnavailableError.
        """
        record = usable(key_id, await self._keystore.get(key_id))
        data_key = await self._wrapper.unwrap(record)
        try:
            self._on_record(record)
            return DataKey(key_id, record.keyring, self._make_cipher(key_id, data_key), record.generation)
        finally:
            key_schedule.overwrite(data_key)

    def must_reach(self, record: DataKeyRecord) -> None:
        """Raise ``KmsDeniedError`` where no KMS is configured that may unwrap the data key; asks none."""
        self._wrapper.must_reach(record)

    async def make(self, keyring: str, generation: int) -> tuple[DataKey, DataKeyRecord] | None:
        """Make a data key and store it; it is durable when this returns.

        Returns:
            The data key; None where another sidecar has made the generation first.

        Raises:
            As ``load``. Nothing is stored then.
        """
        data_key = bytearray(self._random(key_schedule.DATA_KEY_BYTES))
        try:
            record = await self._wrapped(keyring, generation, data_key)
            if not await self._keystore.insert(record):
                return None
            self._on_record(record)
            return DataKey(record.key_id, keyring, self._make_cipher(record.key_id, data_key), generation), record
        finally:
            key_schedule.overwrite(data_key)

    async def _wrapped(self, keyring: str, generation: int, data_key: bytearray) -> DataKeyRecord:
        key_id = self._new_key_id()
        first, *further = await self._wrapper.wrap(data_key, keyring, key_id)
        return DataKeyRecord(
            key_id=key_id,
            keyring=keyring,
            generation=generation,
            state=KeyState.ENABLED,
            created_at=self._clock.now(),
            kek_id=first.kek_id,
            wrapped_key=first.wrapped_key,
            commitment=key_schedule.commitment(data_key),
            further_copies=tuple(further),
        )

    def _new_key_id(self) -> str:
        while (key_id := key_id_from(self._random(KEY_ID_BYTES))) is None:
            pass
        return key_id


def usable(key_id: str, record: DataKeyRecord | None) -> DataKeyRecord:
    """The row of a data key, where it says that the data key may be used.

    Raises:
        UnknownKeyError, KeyDisabledError, KeyDestroyedError: it may not.
        CorruptKeyError: it is another data key's.
    """
    if record is None:
        raise UnknownKeyError(f"the keystore has no data key {key_id}")
    if record.key_id != key_id:
        raise CorruptKeyError(f"the keystore answers with another data key than {key_id}")
    if record.state is KeyState.DISABLED:
        raise KeyDisabledError(f"data key {key_id} is disabled")
    if record.state is KeyState.DESTROYED:
        raise KeyDestroyedError(f"data key {key_id} was destroyed")
    return record
