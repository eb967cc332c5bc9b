"""Whether values can be encrypted and decrypted now: what the last calls to the KMSs and the keystore say of them.

Ready is not alive: a sidecar whose KMS is away is alive, and as long as it has data keys in the cache it is ready too.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
_DEBUG, _INFO, _WARNING = 10, 20, 30

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """How a KMS does in one direction."""

    result: str = _UNKNOWN
    problem: str = ""


class Readiness:
    """Collects results; asks the KMSs itself only at the start and while one is in trouble, since calls cost money."""

    def __init__(self, cached_keys: Callable[[], int], stale_keys: Callable[[], int]) -> None:
        """Data keys in the cache, and those of them that an outage keeps past their TTL."""
        self._cached_keys = cached_keys
        self._stale_keys = stale_keys
        # Each direction apart, since a KMS may allow one and refuse the other.
        self._kmses: dict[str, dict[str, _State]] = {}
        self._keystore = _OK

    def kms_result(self, name: str, operation: str, result: str, problem: str = "") -> None:
        """How a wrap or unwrap ended.

        Args:
            name: of the KMS, in the configuration.
            result: in the words of the metric ``sidekey_kms_calls``.
            problem: the safe text of the error, empty where there is none.
        """
        directions = self._kmses.setdefault(name, {"wrap": _State(), "unwrap": _State()})
        before = directions[operation]
        if result in _SAYS_NOTHING or result == before.result:
            return
        directions[operation] = _State(result, problem)
        level = _WARNING if result != _OK else _DEBUG if before.result == _UNKNOWN else _INFO
        log.log(level, "kms_state", kms=name, operation=operation, result=result, before=before.result, problem=problem)

    def keystore_result(self, reachable: bool) -> None:
        """Whether a call to the keystore could be made."""
        result = _OK if reachable else "unavailable"
        if result != self._keystore:
            log.log(_INFO if reachable else _WARNING, "keystore_reachability", result=result, before=self._keystore)
            self._keystore = result

    @property
    def in_trouble(self) -> bool:
        """Whether a KMS or the keystore should be asked how they are."""
        return not self._kmses or self._keystore != _OK or any(map(_trouble, self._kmses.values()))

    @property
    def ready(self) -> bool:
        """Whether calls can be answered: the keystore and a KMS do, or there are data keys that work without asking."""
        a_kms = any(_trouble(directions) is None for directions in self._kmses.values())
        return (a_kms and self._keystore == _OK) or self._cached_keys() > 0

    def checks(self) -> Mapping[str, str]:
        """The state of each part in a few words, for people; ``kms``: of the one that does best."""
        troubles = {name: _trouble(directions) for name, directions in self._kmses.items()}
        results = [trouble[1].result if trouble else _OK for trouble in troubles.values()] or [_UNKNOWN]
        return {
            "kms": _OK if _OK in results else results[0],
            **{f"kms.{name}": _in_words(trouble) for name, trouble in troubles.items()},
            "keystore": self._keystore,
            "cachedKeys": str(self._cached_keys()),
            "staleKeys": str(self._stale_keys()),
        }


def _trouble(directions: Mapping[str, _State]) -> tuple[str, _State] | None:
    """The direction that is in trouble, and its state; None where both work."""
    return next(((name, state) for name, state in directions.items() if state.result != _OK), None)


def _in_words(trouble: tuple[str, _State] | None) -> str:
    if trouble is None:
        return _OK
    operation, state = trouble
    return f"{operation} {state.result}: {state.problem}" if state.problem else f"{operation} {state.result}"


async def probe(wrapping_keys: WrappingKeys, keystore: Keystore, keyring: str) -> None:
    """Ask the keystore for a keyring, and the KMSs to wrap and unwrap a random key that is thrown away.

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
