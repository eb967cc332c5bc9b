"""Whether values can be encrypted and decrypted now: what the last calls to the KMS and the keystore say of them.

Ready is not alive: a sidecar whose KMS is away is alive, and as long as it has data keys in the cache it is ready too.
"""

import secrets
from collections.abc import Callable, Mapping

import structlog

from sidecar.crypto import key_schedule
from sidecar.errors import SidekeyError
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import Keystore

_OK = "ok"
_UNKNOWN = "not asked yet"
# A corrupt key is that key's trouble and a cancelled call is the caller's: neither says anything of the KMS.
_SAYS_NOTHING = frozenset({"corrupt", "cancelled"})
_PROBE_KEY_ID = "00000000000000"  # never a data key's: the format forbids zero

log = structlog.get_logger(__name__)


class Readiness:
    """Collects results; asks the KMS itself only at the start and while it is in trouble, since calls cost money."""

    def __init__(self, cached_keys: Callable[[], int]) -> None:
        self._cached_keys = cached_keys
        # Apart, since a KMS may allow one and refuse the other: a wrap that works says nothing of unwrapping.
        self._kms = {"wrap": _UNKNOWN, "unwrap": _UNKNOWN}
        self._keystore = _OK

    def kms_result(self, name: str, operation: str, result: str) -> None:
        """How a wrap or unwrap ended, in the words of the metric ``sidekey_kms_calls``."""
        before = self._kms[operation]
        if result in _SAYS_NOTHING or result == before:
            return
        log.log(20 if result == _OK else 30, "kms_reachability", operation=operation, result=result, before=before)
        self._kms[operation] = result

    def keystore_result(self, reachable: bool) -> None:
        """Whether a call to the keystore could be made."""
        result = _OK if reachable else "unavailable"
        if result != self._keystore:
            log.log(20 if reachable else 30, "keystore_reachability", result=result, before=self._keystore)
            self._keystore = result

    @property
    def in_trouble(self) -> bool:
        """Whether the KMS or the keystore should be asked how they are."""
        return self._kms_state != _OK or self._keystore != _OK

    @property
    def ready(self) -> bool:
        """Whether calls can be answered: nothing is in trouble, or there are data keys that work without asking."""
        return not self.in_trouble or self._cached_keys() > 0

    def checks(self) -> Mapping[str, str]:
        """The state of each part in a word or two, for people."""
        return {"kms": self._kms_state, "keystore": self._keystore, "cachedKeys": str(self._cached_keys())}

    @property
    def _kms_state(self) -> str:
        """The trouble of the direction that is in trouble."""
        return next((result for result in self._kms.values() if result != _OK), _OK)


async def probe(wrapping_keys: WrappingKeys, keystore: Keystore, keyring: str) -> None:
    """Ask the keystore for a keyring, and the KMS to wrap and unwrap a random key that is thrown away.

    Both directions, since a KMS that wraps but does not unwrap is of no use. The results reach
    ``Readiness`` as those of any call do; what fails is logged there.
    """
    random = bytearray(secrets.token_bytes(key_schedule.DATA_KEY_BYTES))
    try:
        await keystore.primary(keyring)
        await wrapping_keys.wrap(random, keyring, _PROBE_KEY_ID)
    except SidekeyError as error:
        log.debug("probe_failed", reason=error.reason)
    finally:
        key_schedule.overwrite(random)
