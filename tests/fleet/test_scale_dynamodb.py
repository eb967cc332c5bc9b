"""What a call costs in DynamoDB does not grow with the table: the same requests, which look at as many items."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from sidecar.keystore.dynamodb import from_url
from sidecar.keystore.dynamodb_items import KEYRINGS
from sidecar.keystore.dynamodb_updates import insertion
from tests.fleet.scale import Size
from tests.fleet.scale_calls import CALLS, calling
from tests.keystore.dynamodb import DynamoDb, aws_environment, dynamodb, dynamodb_server
from tests.keystore.dynamodb_proxy import DynamoDbProxy, Forward, serve

__all__ = ["aws_environment", "dynamodb", "dynamodb_server"]

# So many as moto, which looks at all it has, puts up with; what is counted is the requests and what they answer.
SMALL, LARGE = Size(10, 10), Size(40, 40)
_ITEMS_A_CALL = 25

Requests = list[tuple[str, int]]
"""Each request's operation, and how many items it looked at."""


class Counting:
    """Notes what passes through a proxy."""

    def __init__(self, proxy: DynamoDbProxy) -> None:
        self.requests: Requests = []
        for operation in ("GetItem", "BatchGetItem", "Query", "Scan", "UpdateItem", "TransactWriteItems"):
            proxy.always[operation] = self._note

    def taken(self) -> Requests:
        """The requests since the last call."""
        requests, self.requests = self.requests, []
        return requests

    async def _note(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        response = await forward()
        assert isinstance(response.body, bytes)
        answer = json.loads(response.body)
        found = sum(len(items) for items in answer.get("Responses", {}).values())
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        self.requests.append((operation, answer.get("ScannedCount", found)))
        return response


async def fill(place: DynamoDb, size: Size) -> None:
    """Fill a table that has its schema, as ``insert`` would, many items at a time."""
    items = [
        change["Put"]["Item"]
        for keyring in range(size.keyrings)
        for generation in range(1, size.generations + 1)
        for change in insertion(place.table, size.record(keyring, generation))
        if "Put" in change
    ]
    for keyring in range(size.keyrings):
        name = size.keyring(keyring)
        items.append({"pk": {"S": KEYRINGS}, "sk": {"S": name}, "has_data_keys": {"BOOL": True}})
    async with place.client() as client:
        for start in range(0, len(items), _ITEMS_A_CALL):
            requests: list[Any] = [{"PutRequest": {"Item": item}} for item in items[start : start + _ITEMS_A_CALL]]
            await client.batch_write_item(RequestItems={place.table: requests})


@pytest.fixture
async def proxy(dynamodb: DynamoDb, aws_environment: pytest.MonkeyPatch) -> AsyncIterator[DynamoDbProxy]:
    """Between keystores and the server."""
    async with serve(dynamodb.endpoint) as proxy:
        aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", proxy.url)
        yield proxy


async def told(place: DynamoDb, counting: Counting, size: Size) -> dict[str, Requests]:
    """What each call asks of a new keystore of this size."""
    keystore = from_url(place.url, timeout_seconds=30)
    await keystore.open(upgrade=True)
    await fill(place, size)
    found: dict[str, Requests] = {}
    try:
        for what in CALLS:
            counting.taken()
            await calling(keystore, size, what)
            # Sorted: what is asked for side by side comes in any order.
            found[what] = sorted(counting.taken())
            assert found[what], what
    finally:
        await keystore.close()
    return found


async def test_each_call_makes_the_same_requests_however_large_the_table_is(
    dynamodb: DynamoDb, proxy: DynamoDbProxy
) -> None:
    counting = Counting(proxy)
    small = await told(DynamoDb(dynamodb.endpoint, f"{dynamodb.table}-small"), counting, SMALL)
    assert await told(DynamoDb(dynamodb.endpoint, f"{dynamodb.table}-large"), counting, LARGE) == small
    operations = {operation for requests in small.values() for operation, _ in requests}
    assert "Scan" not in operations
