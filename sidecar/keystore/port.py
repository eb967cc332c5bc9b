"""The port to a keystore: the database of wrapped data keys.

A keystore never sees a plaintext key. It decides one thing only: of all data keys of one keyring and generation, or of
one key id, exactly one is ever stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class KeyState(StrEnum):
    """The state of a data key. Which enabled key is the primary is not stored: it is the newest generation."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class DataKeyRecord:
    """One row of ``data_keys``."""

    key_id: str
    """14 lower-case hex digits."""
    keyring: str
    generation: int
    """1, 2, …; unique in its keyring; the highest enabled generation is the primary."""
    state: KeyState
    created_at: datetime
    """Aware, UTC."""
    kek_id: str
    """The wrapping key that wrapped it."""
    wrapped_key: bytes = field(repr=False)
    commitment: bytes = field(repr=False)
    """32 bytes, as in the format document's key schedule."""
    values_encrypted: int = 0


class Keystore(Protocol):
    """Every method raises only ``KeystoreUnavailableError`` (and ``open`` also ``StartupError``), in bounded time.

    What reads rows raises ``CorruptKeyError`` where one does not parse. What only a defect can pass in (a record that
    no keystore could read back, a negative count, an empty page) raises ``ValueError``.
    """

    async def open(self) -> None:
        """Connect, and create or check the schema.

        Raises ``StartupError`` where the schema is newer than this version or the place cannot be used.
        """
        ...

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """The data key of this id, in whatever state."""
        ...

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """The enabled data key of the highest generation; None where the keyring has none."""
        ...

    async def newest_generation(self, keyring: str) -> int:
        """The highest generation ever stored for the keyring, in whatever state; 0 where there is none."""
        ...

    async def insert(self, record: DataKeyRecord) -> bool:
        """Store a new data key durably; when this returns True it survives a kill or a power cut.

        Returns False, and stores nothing, where the keyring already has this generation or the key id is taken.
        """
        ...

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord]:
        """A page of data keys in the order (keyring, generation), beginning after the given pair."""
        ...

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """A page of the names of keyrings that have data keys, in order."""
        ...

    async def add_values_encrypted(self, counts: Mapping[str, int]) -> None:
        """Add to ``values_encrypted`` of each key id, atomically for each; unknown ids are passed over."""
        ...

    async def close(self) -> None:
        """Let go of connections; called once, last."""
        ...
