"""Adds to the counts of data keys in DynamoDB, to each by itself: none stands in the way of the others."""

from collections.abc import Mapping
from typing import Final

from sidecar.errors import KeystoreUnavailableError, SidekeyError
from sidecar.keystore import dynamodb_updates as updates
from sidecar.keystore.dynamodb_client import DynamoDbClient
from sidecar.keystore.dynamodb_reads import DynamoDbReads
from sidecar.keystore.port import Usage

_TRIES: Final = 6


class DynamoDbUsage:
    """Adds through a client."""

    def __init__(self, client: DynamoDbClient, reads: DynamoDbReads) -> None:
        self._client = client
        self._reads = reads

    async def add(self, usage: Mapping[str, Usage]) -> Mapping[str, SidekeyError]:
        """Add to all that can be added to in time; returns the others, and why.

        Raises ``KeystoreUnavailableError`` where nothing is known to have been added and DynamoDB is why.
        """
        added: set[str] = set()
        failed: dict[str, SidekeyError] = {}

        async def add_one(key_id: str) -> None:
            try:
                # What is done within time fails with the port's errors alone.
                async with self._client.within_time():
                    await self._add(key_id, usage[key_id])
                added.add(key_id)
            except SidekeyError as error:
                failed[key_id] = error

        try:
            async with self._client.within_time():
                await self._client.gather(add_one, usage)
        except KeystoreUnavailableError as late:
            failed |= dict.fromkeys(usage.keys() - added - failed.keys(), late)
        away = next((error for error in failed.values() if isinstance(error, KeystoreUnavailableError)), None)
        if away is not None and not added:
            raise away
        return failed

    async def _add(self, key_id: str, used: Usage) -> None:
        for _ in range(_TRIES):
            record = await self._reads.get(key_id)
            update = None if record is None else updates.usage_update(record, used)
            if (
                update is None
                or await self._client.refused("update_item", TableName=self._client.table, **update) is None
            ):
                return
        raise KeystoreUnavailableError("a data key's counts did not take what was to be added")
