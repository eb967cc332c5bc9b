"""Which data keys of a keyring are live: what a query must look for to miss no row."""

from sidecar.errors import CorruptKeyError, LimitExceededError, UnknownKeyringError
from sidecar.keystore.port import DamagedRow, KeyState, Keystore

MOST_LIVE_KEYS = 1000
_PAGE = 1000


async def live_key_ids(keystore: Keystore, keyring: str) -> tuple[str, ...]:
    """The ids of a keyring's enabled data keys, the newest first; reads a thousand data keys at a time.

    Raises:
        UnknownKeyringError: it has no data key in any state, and was not created by call.
        LimitExceededError: there are more than 1,000; a batch's tokens under so many would help nobody.
        KeystoreUnavailableError, CorruptKeyError: as the keystore.
    """
    live: list[str] = []
    after: tuple[str, int] | None = None
    while page := await keystore.list_keys(keyring, after=after, limit=_PAGE):
        for record in page:
            if isinstance(record, DamagedRow):
                # It may be enabled, and a query without its tokens would miss rows.
                raise CorruptKeyError(record.damage)
            if record.state is KeyState.ENABLED:
                live.append(record.key_id)
        if len(live) > MOST_LIVE_KEYS:
            raise LimitExceededError(
                f"keyring {keyring!r} has more than {MOST_LIVE_KEYS} live data keys; reencrypt its values and disable "
                "the old ones"
            )
        after = (keyring, page[-1].generation)
        if len(page) < _PAGE:
            break
    if after is None and await keystore.keyring(keyring) is None:
        raise UnknownKeyringError(f"no keyring {keyring!r}")
    return tuple(reversed(live))
