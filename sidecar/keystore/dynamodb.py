"""The keystore in one table of DynamoDB.

    pk                sk                       holds
    keyring#<name>    generation#<20 digits>   a data key
    key#<key id>      -                        where the data key of this id is
    keyrings          <name>                   a keyring: its name, and its settings where it was created by call
    schema            -                        the version

All reads are strongly consistent. What calls cost, in read units (R, of 4 KB) and write units (W, of 1 KB) for data
keys below 1 KB: ``get`` and each id of ``get_many`` 2 R; ``primary`` and ``newest_generation`` 1 R; ``insert`` 6 W (a
transaction of three items); ``set_state`` and ``replace_copies`` 2 R + 1 W, and 1 R more to disable; each id of
``add_usage`` 2 R + 1 W; ``keyring`` 1 R; ``save_keyring`` 1 W; ``list_keyrings`` 1 R for 4 KB of names; ``list_keys``
1 R for 4 KB of data keys of a keyring, and at least 1 R for each keyring that it passes.

IAM must allow ``dynamodb:GetItem``, ``BatchGetItem``, ``Query``, ``PutItem`` and ``UpdateItem`` on the table; to
upgrade also ``DescribeTable``, ``Scan`` and, where the table is not made beforehand, ``CreateTable``.

All sidecars of a fleet must use the table in one region: an eventually consistent global table lets two regions store
the same generation.

Nothing is ever deleted. A wrapped key that was erased lives on in backups of the table for as long as those do.
An item has at most 400 KB: of wrapped copies that are larger together none is stored.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sidecar.errors import KeystoreUnavailableError, SidekeyError
from sidecar.keystore import dynamodb_schema as schema
from sidecar.keystore import dynamodb_settings
from sidecar.keystore import dynamodb_updates as updates
from sidecar.keystore.dynamodb_client import DynamoDbClient
from sidecar.keystore.dynamodb_errors import RejectedError
from sidecar.keystore.dynamodb_reads import DynamoDbReads
from sidecar.keystore.dynamodb_usage import DynamoDbUsage
from sidecar.keystore.port import DamagedRow, DataKeyRecord, KeyringRecord, KeyState, Usage, WrappedCopy
from sidecar.keystore.rows import check_ids, check_page, check_time, check_usage, copies_to_row, to_row

_TRIES: Final = 6
_FREE_STEPS: Final = ((KeyState.DISABLED, KeyState.ENABLED), (KeyState.DISABLED, KeyState.DESTROYED))


def from_url(url: str, *, timeout_seconds: float = 5.0) -> "DynamoDbKeystore":
    """The keystore of a URL ``dynamodb://table?region=eu-west-1``, not yet open; raises ``ValueError``.

    Credentials and endpoint (``AWS_ENDPOINT_URL_DYNAMODB``) are found as the vendor's library always does.
    """
    return DynamoDbKeystore(dynamodb_settings.parse(url), timeout_seconds=timeout_seconds)


class DynamoDbKeystore:
    """Implements the port. ``timeout_seconds`` bounds each call; after a timeout the outcome of a write is unknown."""

    newest_schema: Final = schema.SCHEMA_VERSION

    def __init__(self, settings: dynamodb_settings.DynamoDbSettings, *, timeout_seconds: float = 5.0) -> None:
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        self._client = self._new_client()
        self._reads = DynamoDbReads(self._client)
        self._usage = DynamoDbUsage(self._client, self._reads)

    def _new_client(self) -> DynamoDbClient:
        return DynamoDbClient(self._settings, timeout_seconds=self._timeout_seconds)

    async def schema_version(self) -> int:
        """The version of the schema that is there, 0 where there is none; before ``open`` too. Raises as ``open``."""
        client = self._new_client()
        await client.open()
        try:
            return await schema.version(client)
        finally:
            await client.close()

    async def open(self, *, upgrade: bool = False) -> None:
        """Connect and check the schema; with ``upgrade`` make the table first, which may take a minute."""
        await self._client.open()
        try:
            if upgrade:
                await schema.upgrade(self._client)
            await schema.check(self._client)
        except SidekeyError:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections; every later call finds the keystore unavailable."""
        await self._client.close()

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """The data key of this id, in whatever state."""
        async with self._client.within_time():
            return await self._reads.get(key_id)

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        """The data keys of these ids, at most 4,096; unknown ids are left out."""
        asked = check_ids(key_ids)
        async with self._client.within_time():
            return await self._reads.get_many(asked)

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """The enabled data key of the highest generation; None where the keyring has none."""
        async with self._client.within_time():
            return await self._reads.primary(keyring)

    async def newest_generation(self, keyring: str) -> int:
        """The highest generation ever stored for the keyring, in whatever state; 0 where there is none."""
        async with self._client.within_time():
            return await self._reads.newest_generation(keyring)

    async def insert(self, record: DataKeyRecord) -> bool:
        """Store a new data key durably; False, and nothing stored, where generation or key id are taken."""
        transaction = updates.insertion(self._client.table, record)
        # One token for all that is sent: what DynamoDB has done already it answers as it did then.
        token = secrets.token_hex(16)
        async with self._client.within_time():
            refused = await self._client.refused(
                "transact_write_items", TransactItems=transaction, ClientRequestToken=token
            )
            if refused is None:
                return True
            # Where an answer was lost, and the token forgotten since, the data key in the way may be this one.
            stored = await self._reads.get(record.key_id) if refused.repeated else None
            return stored is not None and to_row(stored) == to_row(record)

    async def set_state(self, key_id: str, state: KeyState, *, at: datetime) -> bool:
        """Change the state of a data key in one step, where it may go there; durable when this returns."""
        check_time(at)
        async with self._client.within_time():
            for _ in range(_TRIES):
                record = await self._reads.get(key_id)
                if record is None:
                    return False
                if record.state is state:
                    return True
                if not await self._may_go(record, state):
                    return False
                if await self._refused_update(updates.state_update(record, state, at)) is None:
                    return True
        raise KeystoreUnavailableError("the data key's state is being changed by others all the time")

    async def replace_copies(self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> bool:
        """Replace all wrapped copies by others; False, and nothing changed, where the stored are not ``expected``."""
        for given in (expected, copies):
            copies_to_row(given)
        async with self._client.within_time():
            record = await self._reads.get(key_id)
            if record is None or record.copies != tuple(expected):
                return False
            refused = await self._refused_update(updates.copies_update(record, expected, copies))
            if refused is None:
                return True
            # Wrapping is by chance: where these copies are stored, it was by this call, and its answer was lost.
            stored = await self._reads.get(key_id) if refused.repeated else None
            return stored is not None and stored.copies == tuple(copies)

    async def list_keys(
        self, keyring: str | None = None, *, after: tuple[str, int] | None = None, limit: int = 1000
    ) -> Sequence[DataKeyRecord | DamagedRow]:
        """A page of data keys in the order (keyring, generation), beginning after the given pair."""
        check_page(limit)
        async with self._client.within_time():
            if keyring is None:
                return await self._reads.list_all(after, limit)
            if after is None or keyring.encode() > after[0].encode():
                return await self._reads.list_keyring(keyring, 0, limit)
            return await self._reads.list_keyring(keyring, after[1], limit) if keyring == after[0] else []

    async def keyring(self, name: str) -> KeyringRecord | None:
        """The keyring that was created under this name by call; None for any other."""
        async with self._client.within_time():
            return await self._reads.keyring(name)

    async def save_keyring(self, record: KeyringRecord, *, replace: bool = False) -> bool:
        """Store a keyring; False, and nothing stored, where it is there already and is not to be replaced."""
        mark = secrets.token_hex(16)
        update = updates.keyring_update(record, mark=mark, replace=replace)
        async with self._client.within_time():
            refused = await self._refused_update(update)
            if refused is None:
                return True
            stored = await self._client.get(update["Key"]) if refused.repeated else None
            return stored is not None and stored.get("written_by") == {"S": mark}

    async def list_keyrings(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """A page of the names of all keyrings that have data keys or were created by call, in the order of bytes."""
        check_page(limit)
        async with self._client.within_time():
            return await self._reads.names(after, limit)

    async def add_usage(self, usage: Mapping[str, Usage]) -> Mapping[str, SidekeyError]:
        """Add to each data key's counts, each by itself; returns those that were not added, and why.

        Where an answer is lost a count may be added twice, and never not at all: counts bound a budget, so too many is
        safe.
        """
        for used in usage.values():
            check_usage(used)
        return await self._usage.add(usage)

    async def _may_go(self, record: DataKeyRecord, state: KeyState) -> bool:
        """Whether this step is one of the port's.

        That a newer enabled data key is there when the older one is disabled needs no transaction, since the highest
        enabled generation of a keyring never falls. Suppose that a write were the first to let it fall, from M. It
        disables M, and this query saw one above M enabled before it: then the highest was above M then, and had
        fallen to M before that first write. So what this query sees may change, and there is still one above.
        """
        if (record.state, state) in _FREE_STEPS:
            return True
        if (record.state, state) != (KeyState.ENABLED, KeyState.DISABLED):
            return False
        newest = await self._reads.primary(record.keyring)
        return newest is not None and newest.generation > record.generation

    async def _refused_update(self, update: Mapping[str, Any]) -> RejectedError | None:
        return await self._client.refused("update_item", TableName=self._client.table, **update)
