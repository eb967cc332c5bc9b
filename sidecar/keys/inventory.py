"""What keyrings and data keys there are, and how they stand. Reads the keystore, and needs no KMS; changes nothing."""

import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sidecar.errors import CorruptKeyError, InvalidRequestError, NoSuchKeyError, UnknownKeyringError
from sidecar.keys.terms import KeyringTerms, terms_of
from sidecar.keystore.port import DamagedRow, DataKeyRecord, KeyringSettings, KeyState, Keystore
from sidecar.names import KEYRING_NAME, KEYRING_NAME_RULE

KEY_ID: Final = re.compile(r"[0-9a-f]{14}")
"""To be matched in full."""

Position = tuple[str, int]
"""A place in the order (keyring, generation)."""


@dataclass(frozen=True, slots=True)
class DescribedKey:
    """A data key, and the primary of its keyring."""

    record: DataKeyRecord
    primary_id: str | None
    """None where the keyring has no enabled data key."""

    @property
    def is_primary(self) -> bool:
        """Whether it is the primary itself."""
        return self.record.key_id == self.primary_id


@dataclass(frozen=True, slots=True)
class DescribedKeyring:
    """A keyring as it is in this sidecar."""

    name: str
    terms: KeyringTerms
    """What holds: the stored settings over this sidecar's configuration."""
    created_at: datetime | None
    """None where it was made on first use."""
    primary: DataKeyRecord | None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Data keys, and after which place the next page begins; None on the last."""

    keys: Sequence[DescribedKey | DamagedRow]
    next: Position | None


@dataclass(frozen=True, slots=True)
class KeyringPage:
    """Keyrings, and after which name the next page begins; None on the last."""

    keyrings: Sequence[DescribedKeyring]
    next: str | None


class Inventory:
    """Every method raises ``InvalidRequestError`` for a name or key id that cannot be one, and keystore errors."""

    def __init__(self, keystore: Keystore, configured: Callable[[str], KeyringTerms]) -> None:
        """``configured``: the terms of a keyring by this sidecar's configuration."""
        self._keystore = keystore
        self._configured = configured

    def terms(self, name: str, stored: KeyringSettings | None) -> KeyringTerms:
        """What would hold for a keyring if these were its stored settings."""
        return terms_of(self._configured(name), stored)

    async def stored(self, name: str) -> KeyringSettings | None:
        """A keyring's settings as they were stored by call; None where it was never created by one."""
        check_name(name)
        record = await self._keystore.keyring(name)
        return None if record is None else record.settings

    async def keyring(self, name: str) -> DescribedKeyring:
        """One keyring. Raises ``UnknownKeyringError``."""
        check_name(name)
        described = await self._described(name)
        if described.created_at is None and described.primary is None:
            await self.must_have(name)
        return described

    async def keyrings(self, *, after: str = "", limit: int) -> KeyringPage:
        """A page of at most ``limit`` keyrings, by name."""
        names = await self._keystore.list_keyrings(after=after, limit=limit + 1)
        page = names[:limit]
        # One after the other: side by side they would hold the keystore's connections, which calls wait for.
        described = [await self._described(name) for name in page]
        return KeyringPage(described, page[-1] if len(names) > limit else None)

    async def key(self, key_id: str) -> DescribedKey:
        """One data key. Raises ``NoSuchKeyError``."""
        if KEY_ID.fullmatch(key_id) is None:
            raise InvalidRequestError("the key id must be 14 of 0-9 and a-f")
        record = await self._keystore.get(key_id)
        if record is None:
            raise NoSuchKeyError(f"the keystore has no data key {key_id}")
        primary = await self._keystore.primary(record.keyring)
        return DescribedKey(record, primary.key_id if primary else None)

    async def keys(
        self,
        keyring: str | None = None,
        *,
        after: Position | None = None,
        limit: int,
        unused_since: datetime | None = None,
        states: AbstractSet[KeyState] = frozenset(),
    ) -> KeyPage:
        """The data keys among the next ``limit`` that fit; there may be fewer, even none, before the last page.

        A damaged row fits whatever is asked for: what it would say is not known.

        Args:
            keyring: None: of all keyrings.
            unused_since: if given, only those that were neither used nor made since then.
            states: if not empty, only those in one of them.

        Raises:
            UnknownKeyringError: there is no such keyring.
        """
        if keyring is not None:
            check_name(keyring)
        records = await self._keystore.list_keys(keyring, after=after, limit=limit + 1)
        if keyring is not None and not records:
            await self.must_have(keyring)
        primaries = await self._primaries_among(records, whole=len(records) <= limit)
        page = records[:limit]
        keys: list[DescribedKey | DamagedRow] = []
        for record in page:
            if isinstance(record, DamagedRow):
                keys.append(record)
            elif (not states or record.state in states) and (unused_since is None or _is_unused(record, unused_since)):
                keys.append(DescribedKey(record, primaries.get(record.keyring)))
        return KeyPage(keys, (page[-1].keyring, page[-1].generation) if len(records) > limit else None)

    async def must_have(self, name: str) -> None:
        """Raise ``UnknownKeyringError`` where there is no keyring of this name."""
        if await self._keystore.keyring(name) is None and not await self._keystore.newest_generation(name):
            raise UnknownKeyringError(f"no keyring {name!r}: it has no data key, and was not created")

    async def _described(self, name: str) -> DescribedKeyring:
        stored = await self._keystore.keyring(name)
        return DescribedKeyring(
            name=name,
            terms=self.terms(name, stored.settings if stored else None),
            created_at=stored.created_at if stored else None,
            primary=await self._keystore.primary(name),
        )

    async def _primaries_among(
        self, records: Sequence[DataKeyRecord | DamagedRow], *, whole: bool
    ) -> dict[str, str | None]:
        """The key ids of the primaries by keyring, as far as the page shows them: no other is asked for."""
        newest: dict[str, str | None] = {}
        unsure: set[str] = set()
        for record in records:
            if isinstance(record, DamagedRow):
                unsure.add(record.keyring)
            elif record.state is KeyState.ENABLED:
                newest[record.keyring] = record.key_id
                unsure.discard(record.keyring)
        if records and not whole:
            # Only the last keyring may go on behind the page.
            unsure.add(records[-1].keyring)
        for keyring in unsure:
            newest[keyring] = await self._primary_id(keyring)
        return newest

    async def _primary_id(self, keyring: str) -> str | None:
        """The key id of the primary; None also where its row is damaged, so that no data key is one."""
        try:
            primary = await self._keystore.primary(keyring)
        except CorruptKeyError:
            return None
        return primary.key_id if primary else None


def check_name(name: str) -> None:
    """Raise ``InvalidRequestError`` for what cannot be a keyring's name."""
    if KEYRING_NAME.fullmatch(name) is None:
        raise InvalidRequestError(f"the keyring's name must be {KEYRING_NAME_RULE}")


def _is_unused(record: DataKeyRecord, since: datetime) -> bool:
    return max(record.created_at, record.last_used_at or record.created_at) < since
