"""What the keystore says of data keys that an outage keeps from their refresh: a look at their state without the KMS.

While the KMS is away, a refresh is tried for few data keys at a time. Without this look a data key that was disabled in
the keystore would go on for as long as the outage.
"""

import asyncio

from sidecar.errors import RETRYABLE, SidekeyError
from sidecar.keys.data_key import DataKey, usable
from sidecar.keys.refreshing import RefreshingCache
from sidecar.keystore.port import Keystore


async def drop_what_may_not_go_on(keystore: Keystore, cache: RefreshingCache[str, DataKey]) -> None:
    """Drop the carried data keys of the cache that are not enabled any more; without an outage this reads nothing.

    Where the keystore is away as well nothing is known and nothing dropped: they end at their stale limit.

    Args:
        keystore: one that reads in one round trip what is asked for at once.
    """
    carried = cache.carried()
    refusals = await asyncio.gather(*(_refusal(keystore, key_id) for key_id in carried))
    for key_id, refusal in zip(carried, refusals, strict=True):
        if refusal is not None:
            cache.refuse(key_id, refusal)


async def _refusal(keystore: Keystore, key_id: str) -> SidekeyError | None:
    """Why a data key may not be used, by its row; None where it may, or where that cannot be known now."""
    try:
        usable(key_id, await keystore.get(key_id))
    except RETRYABLE:
        return None
    except SidekeyError as refusal:
        return refusal
    return None
