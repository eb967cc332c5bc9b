"""Opens what a command works on: the configured keystore and, where data keys are wrapped, the configured KMSs."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from sidecar.cli.naming import naming_keystore
from sidecar.config import Config
from sidecar.errors import KeystoreUnavailableError
from sidecar.keys.administration import Administration
from sidecar.keys.clock import Clock, SystemClock
from sidecar.keys.data_key import DataKeys
from sidecar.keys.inventory import Inventory
from sidecar.keys.primaries import Primaries
from sidecar.keys.rewrapping import Rewrapping
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DataKeyRecord, Keystore
from sidecar.metrics import Metrics
from sidecar.parts import keystore_of, terms_in, wrapping_keys_of


class Opened(NamedTuple):
    """What commands do their work with."""

    inventory: Inventory
    administration: Administration


@asynccontextmanager
async def opened(config: Config, *, kms: bool, dry_run: bool = False, abandon: bool = False) -> AsyncIterator[Opened]:
    """Everything open, closed on leaving. A keystore that is not there is not made.

    Args:
        kms: whether data keys will be wrapped; without it no KMS is asked for anything.
        dry_run: a local wrapping key that is not there is not made, and is a ``StartupError``.
        abandon: a rotation may replace a primary that no configured wrapping key may unwrap.

    Raises:
        StartupError: the keystore or a KMS cannot be used as configured.
        KeystoreUnavailableError.
    """
    keystore, clock, metrics = keystore_of(config), SystemClock(), Metrics()
    wrapping_keys = wrapping_keys_of(config, metrics, keystore=keystore, dry_run=dry_run)
    inventory = Inventory(keystore, terms_in(config))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keystore.close)
        with naming_keystore(config):
            await keystore.open()
        # From here on a StartupError speaks of a KMS.
        stack.enter_context(naming_keystore(config, (KeystoreUnavailableError,)))
        if kms:
            stack.push_async_callback(wrapping_keys.close)
            await wrapping_keys.open()
        direct = _Direct(config, keystore, wrapping_keys, clock, metrics, abandons=abandon)
        stack.push_async_callback(direct.close)
        administration = Administration(
            keystore,
            inventory,
            direct,
            Rewrapping(keystore, wrapping_keys),
            clock,
            disabled_before_destroyed=config.disabled_before_destroyed,
        )
        yield Opened(inventory, administration)


class _Direct:
    """Primaries for administration, straight from the keystore: a command caches nothing."""

    def __init__(
        self,
        config: Config,
        keystore: Keystore,
        wrapping_keys: WrappingKeys,
        clock: Clock,
        metrics: Metrics,
        *,
        abandons: bool,
    ) -> None:
        self._primaries = Primaries(
            keystore,
            DataKeys(keystore, wrapping_keys, clock, secrets.token_bytes),
            clock,
            metrics,
            configured=terms_in(config),
            may_make=config.may_create_keyring,
            # A command encrypts no values, and is in no fleet whose rollovers must be spread.
            unflushed=lambda _key_id: 0,
            spread=lambda _key_id: 0.0,
            on_made=lambda _data_key, _since: None,
            abandons=abandons,
        )

    async def primary(self, keyring: str) -> DataKeyRecord:
        return (await self._primaries.find(keyring)).record

    async def rotate(self, keyring: str) -> DataKeyRecord:
        return (await self._primaries.rotate(keyring)).record

    def forget(self, keyring: str, key_id: str | None) -> None:
        """Nothing is remembered."""

    async def close(self) -> None:
        await self._primaries.close()
