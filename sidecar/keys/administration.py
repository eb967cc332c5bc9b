"""What operators change of keyrings and data keys, by call or by command: create, rotate, disable, destroy, rewrap.

Everything is done in the keystore, which all sidecars share. This sidecar forgets at once what it has cached of what
was changed; every other follows when its own cached copy is due, at the latest after its TTL.
"""

import math
from datetime import timedelta
from typing import Final, Protocol

import structlog

from sidecar.crypto.format import Suite
from sidecar.errors import (
    InvalidRequestError,
    KeyringExistsError,
    KeystoreUnavailableError,
    StateTransitionError,
)
from sidecar.keys.clock import Clock
from sidecar.keys.inventory import DescribedKey, DescribedKeyring, Inventory, Position, check_name
from sidecar.keys.rewrapping import RewrapPage
from sidecar.keys.transitions import refusal, too_early
from sidecar.keystore.port import DataKeyRecord, KeyringRecord, KeyringSettings, KeyState, Keystore

MAX_ROLL_OVER_DAYS: Final = 36_500
MODES: Final = ("randomized", "deterministic")

log = structlog.get_logger(__name__)


class Steering(Protocol):
    """What administration needs of the data keys that this sidecar works with; ``Keyrings`` is one."""

    async def primary(self, keyring: str) -> object:
        """The data key that encrypts for a keyring, made where there is none and one may be made."""
        ...

    async def rotate(self, keyring: str) -> DataKeyRecord:
        """Make a new primary now."""
        ...

    def forget(self, keyring: str, key_id: str | None) -> None:
        """Look up anew what was just changed."""
        ...


class Rewrapper(Protocol):
    """What administration needs of rewrapping; ``Rewrapping`` is one."""

    async def page(self, keyring: str | None, after: Position | None, limit: int, *, dry_run: bool) -> RewrapPage:
        """Wrap a page of data keys anew under the configured wrapping keys."""
        ...


class Administration:
    """Every method raises ``InvalidRequestError`` for a name or key id that cannot be one, and keystore errors."""

    def __init__(
        self,
        keystore: Keystore,
        inventory: Inventory,
        keyrings: Steering,
        rewrapping: Rewrapper,
        clock: Clock,
        *,
        disabled_before_destroyed: timedelta = timedelta(0),
    ) -> None:
        """``disabled_before_destroyed``: for so long a data key is disabled before it may be destroyed."""
        self.inventory = inventory
        self._keystore = keystore
        self._keyrings = keyrings
        self._rewrapping = rewrapping
        self._clock = clock
        self._disabled_before_destroyed = disabled_before_destroyed

    async def create_keyring(self, name: str, settings: KeyringSettings, *, replace: bool = False) -> DescribedKeyring:
        """Create a keyring and its first data key; one that is there with the same settings is fine.

        Should the KMS fail, the keyring is there without a data key, and the same call again makes it.

        Raises:
            KeyringExistsError: it has other settings, and they are not to be replaced.
            SidekeyError: the KMS is away or refuses.
        """
        stored = await self.check_keyring(name, settings, replace=replace)
        if stored is None or stored.settings != settings:
            stored = await self._save(KeyringRecord(name, self._clock.now(), settings), replace=replace)
        _must_be_the_same(stored, settings)
        if await self._keystore.primary(name) is None:
            # That there was no such keyring may be remembered, and must not refuse the one that there is now.
            self._keyrings.forget(name, None)
            await self._keyrings.primary(name)
        return await self.inventory.keyring(name)

    async def check_keyring(self, name: str, settings: KeyringSettings, *, replace: bool) -> KeyringRecord | None:
        """What is stored of a keyring that ``create_keyring`` would take; changes nothing, and raises as that does."""
        check_name(name)
        self._check_settings(name, settings)
        stored = await self._keystore.keyring(name)
        if stored is not None and not replace:
            _must_be_the_same(stored, settings)
        return stored

    async def rotate(self, name: str, *, dry_run: bool = False) -> DataKeyRecord | None:
        """Make a new primary now, and return it; with ``dry_run`` the one that it would replace, None for none.

        Raises:
            UnknownKeyringError: there is no such keyring.
            SidekeyError: the KMS is away or refuses; nothing has changed then.
        """
        replaced = (await self.inventory.keyring(name)).primary
        if dry_run:
            return replaced
        try:
            record = await self._keyrings.rotate(name)
        except BaseException:
            # Where the answer was lost, or nobody waits for it any more, there may be a new primary all the same.
            self._keyrings.forget(name, None)
            raise
        log.info(
            "keyring_rotated",
            keyring=name,
            generation=record.generation,
            key_id=record.key_id,
            replaced=replaced.key_id if replaced else None,
        )
        return record

    async def set_key_state(
        self, key_id: str, state: KeyState, *, dry_run: bool = False, at_once: bool = False
    ) -> DescribedKey:
        """Change a data key's state, and return it as it then is; with ``dry_run`` as it is, if it could be done.

        The state that it already has is fine. ``at_once``: destroy it however lately it was disabled.

        Raises:
            NoSuchKeyError: the keystore has no such data key.
            StateTransitionError: its state may not go there, or not yet; the text says what must come first.
        """
        key = await self.inventory.key(key_id)
        if (why := refusal(key.record, state, is_primary=key.is_primary)) is not None:
            raise StateTransitionError(why)
        if state is KeyState.DESTROYED and not at_once and (why := self._too_early(key.record)) is not None:
            raise StateTransitionError(why)
        if dry_run:
            return key
        if key.record.state is state:
            # Changed elsewhere: whoever is told that it is so here must not see it work on what this sidecar remembers.
            self._keyrings.forget(key.record.keyring, key_id)
            return key
        await self._set_state(key.record, state)
        return await self.inventory.key(key_id)

    async def rewrap(self, keyring: str | None, *, after: Position | None, limit: int, dry_run: bool) -> RewrapPage:
        """Wrap the next ``limit`` data keys anew under the configured wrapping keys; a page again finds them done.

        Raises:
            UnknownKeyringError: there is no such keyring.
        """
        if keyring is not None:
            check_name(keyring)
            await self.inventory.must_have(keyring)
        page = await self._rewrapping.page(keyring, after, limit, dry_run=dry_run)
        log.info(
            "rewrap_page",
            keyring=keyring,
            rewrapped=page.rewrapped,
            unchanged=page.unchanged,
            failed=len(page.failures),
            dry_run=dry_run,
        )
        return page

    def _check_settings(self, name: str, settings: KeyringSettings) -> None:
        days = settings.roll_over_days
        # Written so that what is not a number at all is refused as well.
        if days is not None and days != math.inf and not 0 < days <= MAX_ROLL_OVER_DAYS:
            raise InvalidRequestError(
                f"the days to a rollover must be more than 0 and at most {MAX_ROLL_OVER_DAYS}, or never"
            )
        if settings.default_mode is not None and settings.default_mode not in MODES:
            raise InvalidRequestError(f"the default mode must be one of: {', '.join(MODES)}")
        terms = self.inventory.terms(name, settings)
        if terms.default_suite is Suite.DETERMINISTIC and not terms.allow_deterministic:
            raise InvalidRequestError(
                f"keyring {name!r} would have the deterministic mode as its default and not allow it: set the default "
                "mode to randomized, or allow the deterministic one"
            )

    def _too_early(self, record: DataKeyRecord) -> str | None:
        return too_early(record, now=self._clock.now(), wait=self._disabled_before_destroyed)

    async def _save(self, record: KeyringRecord, *, replace: bool) -> KeyringRecord:
        try:
            saved = await self._keystore.save_keyring(record, replace=replace)
        finally:
            # Also where the answer was lost: it may be stored all the same.
            self._keyrings.forget(record.name, None)
        if saved:
            log.info("keyring_created", keyring=record.name, replaced_settings=replace)
        stored = await self._keystore.keyring(record.name)
        if stored is None:
            raise KeystoreUnavailableError("the keystore does not show the keyring that it stored")
        return stored

    async def _set_state(self, record: DataKeyRecord, state: KeyState) -> None:
        try:
            done = await self._keystore.set_state(record.key_id, state, at=self._clock.now())
        finally:
            # Also where the answer was lost: the change may have been made.
            self._keyrings.forget(record.keyring, record.key_id)
        if not done:
            raise StateTransitionError(f"data key {record.key_id} was changed meanwhile: look at it, and try again")
        log.info(
            "key_state_changed",
            key_id=record.key_id,
            keyring=record.keyring,
            generation=record.generation,
            **{"from": record.state.value, "to": state.value},
        )


def _must_be_the_same(stored: KeyringRecord, settings: KeyringSettings) -> None:
    if stored.settings != settings:
        raise KeyringExistsError(
            f"keyring {stored.name!r} is there with other settings; replacing them must be asked for "
            "(replace_settings in a call, --replace in a command)"
        )
