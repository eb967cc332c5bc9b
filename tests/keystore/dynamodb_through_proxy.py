"""Fixtures: a keystore in DynamoDB whose calls go through a proxy, and another on the same table whose do not.

To use them, import them into a test file: ``from tests.keystore.dynamodb_through_proxy import keystore, other, proxy``.
"""

from collections.abc import AsyncIterator

import pytest

from sidecar.keystore.dynamodb import DynamoDbKeystore, from_url
from tests.keystore import dynamodb_proxy as proxies
from tests.keystore.dynamodb import DynamoDb
from tests.keystore.dynamodb_proxy import DynamoDbProxy


@pytest.fixture
async def proxy(dynamodb: DynamoDb, aws_environment: pytest.MonkeyPatch) -> AsyncIterator[DynamoDbProxy]:
    async with proxies.serve(dynamodb.endpoint) as made:
        aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", made.url)
        yield made


@pytest.fixture
async def keystore(dynamodb: DynamoDb, proxy: DynamoDbProxy) -> AsyncIterator[DynamoDbKeystore]:
    made = from_url(dynamodb.url, timeout_seconds=60.0)
    await made.open(upgrade=True)
    proxy.called.clear()
    proxy.bodies.clear()
    yield made
    await made.close()


@pytest.fixture
async def other(dynamodb: DynamoDb) -> AsyncIterator[DynamoDbKeystore]:
    """Another process's keystore on the same table, whose calls do not go through the proxy."""
    made = from_url(dynamodb.url, timeout_seconds=60.0)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.endpoint)
        await made.open(upgrade=True)
    yield made
    await made.close()
