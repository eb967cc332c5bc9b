"""The table of a keystore in DynamoDB: made, waited for and checked. Safe when many processes do it at once."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from sidecar.errors import KeystoreUnavailableError, StartupError
from sidecar.keystore.dynamodb_client import DynamoDbClient
from sidecar.keystore.dynamodb_errors import RejectedError, Rejection
from sidecar.keystore.dynamodb_items import SCHEMA, Item
from sidecar.keystore.port import NO_SCHEMA

SCHEMA_VERSION: Final = 1
"""Of the items in the table. It is the first, so none is older."""
_KEYS: Final = {"pk": "HASH", "sk": "RANGE"}
_READY: Final = ("ACTIVE", "UPDATING")
_MADE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5
_FOREIGN: Final = "the DynamoDB table is of another program; give the keystore one of its own"


async def version(client: DynamoDbClient) -> int:
    """The schema's version; 0 where there is no table, or nothing of a keystore in it. Raises ``StartupError``."""
    async with client.within_time():
        try:
            item = await client.get(SCHEMA)
        except RejectedError as rejected:
            if rejected.rejection is Rejection.NO_TABLE:
                return 0
            if rejected.rejection is Rejection.UNSUITABLE:
                raise StartupError(_FOREIGN) from None
            raise
    return 0 if item is None else _parsed(item)


async def check(client: DynamoDbClient) -> None:
    """Raise ``StartupError`` unless the table holds a schema of this version."""
    stored = await version(client)
    if stored == 0:
        raise StartupError(NO_SCHEMA)
    if stored > SCHEMA_VERSION:
        raise StartupError(
            f"the keystore has schema version {stored}, and this sidecar knows versions up to {SCHEMA_VERSION}; "
            "upgrade the sidecar"
        )


async def upgrade(client: DynamoDbClient) -> None:
    """Make the table where there is none, within 60 seconds, and write the schema's version where there is none."""
    if await version(client) == 0:
        await _make_table(client)
        await _claim(client)


async def _make_table(client: DynamoDbClient) -> None:
    """Until the table can be used, whoever makes it. One made beforehand needs no right to make tables."""
    clock = asyncio.get_running_loop()
    deadline = clock.time() + _MADE_SECONDS
    asked = False
    while clock.time() < deadline:
        table = await _describe(client)
        if table is None and not asked:
            await _create(client)
            asked = True
        elif table is not None and table.get("TableStatus") in _READY:
            if {key["AttributeName"]: key["KeyType"] for key in table.get("KeySchema", ())} != _KEYS:
                raise StartupError(_FOREIGN)
            return
        else:
            await asyncio.sleep(_POLL_SECONDS)
    raise KeystoreUnavailableError(f"the DynamoDB table is not ready after {_MADE_SECONDS:.0f} seconds")


async def _describe(client: DynamoDbClient) -> Mapping[str, Any] | None:
    async with client.within_time():
        try:
            answer = await client.call("describe_table", TableName=client.table)
        except RejectedError as rejected:
            if rejected.rejection is not Rejection.NO_TABLE:
                raise
            return None
    table: Mapping[str, Any] = answer["Table"]
    return table


async def _create(client: DynamoDbClient) -> None:
    async with client.within_time():
        try:
            await client.call(
                "create_table",
                TableName=client.table,
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in _KEYS],
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in _KEYS.items()],
                BillingMode="PAY_PER_REQUEST",
                # Without the table nothing that was ever encrypted can be decrypted.
                DeletionProtectionEnabled=True,
            )
        except RejectedError as rejected:
            if rejected.rejection is not Rejection.TABLE_EXISTS:
                raise


async def _claim(client: DynamoDbClient) -> None:
    """Write the schema's version into a table that holds nothing."""
    async with client.within_time():
        scanned = await client.call("scan", TableName=client.table, ConsistentRead=True, Limit=1)
        # What is found may also be of a process that was faster: then the version was there before it.
        if scanned["Items"] and await client.get(SCHEMA) is None:
            raise StartupError(_FOREIGN)
        try:
            await client.call(
                "put_item",
                TableName=client.table,
                Item={**SCHEMA, "version": {"N": str(SCHEMA_VERSION)}},
                ConditionExpression="attribute_not_exists(pk)",
            )
        except RejectedError as rejected:
            if rejected.rejection is not Rejection.CONDITION:
                raise


def _parsed(item: Item) -> int:
    text = item.get("version", {}).get("N", "")
    if not (isinstance(text, str) and text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise StartupError("the keystore's schema version does not parse; restore the keystore from a backup")
    return int(text)
