"""The port to a keystore: the database of wrapped data keys.

A keystore never sees a plaintext key. It decides what must hold however many sidecars share it: of all data keys of one
keyring and generation, or of one key id, exactly one is ever stored; and a data key's state goes only where it may go.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from sidecar.errors import SidekeyError

NO_SCHEMA: Final = "the keystore has no schema yet: run 'sidekey keystore upgrade', which makes it"
"""What every implementation says where there is nothing of a keystore."""

MOST_IDS: Final = 4096
"""How many data keys may be asked for at once."""


class KeyState(StrEnum):
    """The state of a data key. Which enabled key is the primary is not stored: it is the newest enabled generation."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class WrappedCopy:
    """A data key as one wrapping key wrapped it."""

    kek_id: str
    """The wrapping key."""
    wrapped_key: bytes = field(repr=False)


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
    """The wrapping key of ``wrapped_key``; of a destroyed data key: of what ``wrapped_key`` was."""
    wrapped_key: bytes = field(repr=False)
    """Empty where the data key was destroyed, and only there."""
    commitment: bytes = field(repr=False)
    """32 bytes, as in the format document's key schedule."""
    further_copies: tuple[WrappedCopy, ...] = ()
    """The same data key under further wrapping keys; no ``kek_id`` twice, that of the record included."""
    state_changed_at: datetime | None = None
    """Aware, UTC; None where it never has."""
    values_encrypted: int = 0
    values_decrypted: int = 0
    first_used_at: datetime | None = None
    """Aware, UTC; None where no use was counted yet."""
    last_used_at: datetime | None = None

    @property
    def copies(self) -> tuple[WrappedCopy, ...]:
        """All wrapped copies; none of a destroyed data key."""
        if self.state is KeyState.DESTROYED:
            return ()
        return (WrappedCopy(self.kek_id, self.wrapped_key), *self.further_copies)


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A row of ``data_keys`` that does not parse, in a listing, where its place in the order still does."""

    key_id: str | None
    """None where it is not one."""
    keyring: str
    generation: int
    damage: str
    """The text of the ``CorruptKeyError`` that whatever else reads the row raises."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a data key was used for in a span of time; ``first_at`` and ``last_at`` are aware, UTC."""

    values_encrypted: int
    values_decrypted: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class KeyringSettings:
    """What is stored of a keyring's settings; None: as the configuration of each sidecar says."""

    roll_over_days: float | None = None
    """More than 0; ``math.inf``: never."""
    default_mode: str | None = None
    """``randomized`` or ``deterministic``."""
    allow_deterministic: bool | None = None


@dataclass(frozen=True, slots=True)
class KeyringRecord:
    """One row of ``keyrings``: only keyrings that were created by call have one."""

    name: str
    created_at: datetime
    settings: KeyringSettings = KeyringSettings()


class Keystore(Protocol):
    """Every method raises only ``KeystoreUnavailableError`` (and ``open`` also ``StartupError``), in bounded time.

    What reads rows raises ``CorruptKeyError`` where one does not parse, but for ``list_keys``. What only a defect can
    pass in (a record that no keystore could read back, a negative count, an empty page) raises ``ValueError``.
    """

    async def open(self, *, upgrade: bool = False) -> None:
        """Connect and check the schema; with ``upgrade`` create it or bring it up to date first.

        Raises ``StartupError`` where there is no schema (``NO_SCHEMA``), or an older one (each without ``upgrade``; the
        text names ``sidekey keystore upgrade``), where it is newer than this version, or where the place cannot be
        used. Without ``upgrade`` nothing is created, no file either.
        """
        ...

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """The data key of this id, in whatever state."""
        ...

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        """The data keys of these ids, at most 4,096, in a bounded number of round trips; unknown ids are left out."""
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

    async def set_state(self, key_id: str, state: KeyState, *, at: datetime) -> bool:
        """Change the state of a data key in one step, where it may go there; durable when this returns.

        - enabled to disabled, where the keyring has an enabled data key of a higher generation (so never the primary);
        - disabled to enabled;
        - disabled to destroyed, which is final: all wrapped copies are erased from the row.

        The state that it already has is fine, and changes nothing. Returns False, and changes nothing, otherwise and
        where the key id is unknown. ``at`` becomes ``state_changed_at``.
        """
        ...

    async def replace_copies(self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> bool:
        """Replace all wrapped copies by others, the first of which becomes ``kek_id`` and ``wrapped_key``; durable.

        Returns False, and changes nothing, where the copies are not ``expected`` any more (in that order), or the key
        id is unknown. There is at least one copy in each, so a destroyed data key is never given one again.
        """
        ...

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord | DamagedRow]:
        """A page of data keys in the order (keyring, generation), beginning after the given pair.

        Names are in the order of their UTF-8 bytes, whatever the database's collation. A row that does not parse hides
        no other: it stands in its place as a ``DamagedRow``. Raises ``CorruptKeyError`` where one's place is damaged.
        """
        ...

    async def keyring(self, name: str) -> KeyringRecord | None:
        """The keyring that was created under this name by call; None for any other, whether it has data keys or not."""
        ...

    async def save_keyring(self, record: KeyringRecord, *, replace: bool = False) -> bool:
        """Store a keyring; False, and nothing stored, where it is there already and is not to be replaced.

        A replaced one keeps its ``created_at``.
        """
        ...

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """A page of the names of all keyrings that have data keys or were created by call, in the order of bytes."""
        ...

    async def add_usage(self, usage: Mapping[str, Usage]) -> Mapping[str, SidekeyError]:
        """Add to each data key's counts, atomically for each; unknown ids are passed over.

        Returns the key ids of what is not known to have been added, and why: ``CorruptKeyError`` for a damaged row,
        ``KeystoreUnavailableError`` for what failed while others did not. The others were added, and are not to be
        added again. Where it raises, none is known to have been.
        ``first_used_at`` becomes the earlier, ``last_used_at`` the later of what is stored and what is given.
        """
        ...

    async def close(self) -> None:
        """Let go of connections; called once, last."""
        ...


class VersionedKeystore(Keystore, Protocol):
    """A keystore that can be asked about its schema before it is opened; every database is one."""

    @property
    def newest_schema(self) -> int:
        """The version of the schema that ``open`` upgrades to."""
        ...

    async def schema_version(self) -> int:
        """The version of the schema that is there, 0 for none; creates nothing.

        Raises ``KeystoreUnavailableError``, and ``StartupError`` where the place cannot be used or is no keystore.
        """
        ...
