"""Calls to one table of DynamoDB: bounded in time, tried again where that is safe; foreign exceptions stop here.

The one file of the keystore that knows the vendor's exceptions; the library is imported when the keystore opens.
Decides nothing about data keys.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

import structlog

from sidecar import aws
from sidecar.errors import KeystoreUnavailableError, StartupError
from sidecar.keystore import dynamodb_errors
from sidecar.keystore.dynamodb_errors import RejectedError, Rejection
from sidecar.keystore.dynamodb_items import Item
from sidecar.keystore.dynamodb_settings import DynamoDbSettings

_A = TypeVar("_A")
_T = TypeVar("_T")
_WIDTH: Final = 16
"""How many calls one call of the port makes at once."""
_BATCH: Final = 100
"""What ``BatchGetItem`` takes at most."""
_SENT: Final = 3
_CONFLICTS: Final = 8
_BATCH_ROUNDS: Final = 32
_BACKOFF_SECONDS: Final = 0.02
_MAX_BACKOFF_SECONDS: Final = 0.5
_UNREACHABLE: Final = "the keystore cannot be reached, or did not do its work in time"

log = structlog.get_logger(__name__)


class DynamoDbClient:
    """One client for the life of a keystore. ``timeout_seconds`` bounds what is done ``within_time``."""

    def __init__(self, settings: DynamoDbSettings, *, timeout_seconds: float) -> None:
        self.table = settings.table
        self._region = settings.region
        self._timeout_seconds = timeout_seconds
        self._resources = AsyncExitStack()
        self._client: Any = None

    async def open(self) -> None:
        """Find credentials and make the client; calls no DynamoDB. Raises ``StartupError``."""
        try:
            method = await self._connect()
        except Exception as error:  # noqa: BLE001 - the vendor's library raises what it likes; the name alone is ours to show
            raise StartupError(
                f"the DynamoDB client cannot be made ({type(error).__name__}); check the AWS profile and configuration "
                "files, and the source of the credentials"
            ) from None
        if method is None:
            log.warning("aws_credentials_missing", advice="every call will be denied until there are some")
        log.info("dynamodb_opened", table=self.table, region=self._region, credentials_method=method)

    async def _connect(self) -> str | None:
        """Make the client; returns which method found the credentials (None: no method found any)."""
        connected = await aws.connect(
            self._resources,
            "dynamodb",
            self._region,
            connect_timeout_seconds=min(1.0, self._timeout_seconds),
            # Short enough that what got no answer is sent once more before the caller's time is up.
            read_timeout_seconds=min(2.0, self._timeout_seconds / 2),
            max_attempts=_SENT,
        )
        self._client = connected.client
        if not connected.uses_tls:
            log.warning("dynamodb_endpoint_without_tls", advice="wrapped data keys cross the network: tests only")
        return connected.credentials_method

    async def close(self) -> None:
        """Close the client and its connections; every later call finds the keystore unavailable."""
        self._client = None
        await self._resources.aclose()

    @asynccontextmanager
    async def within_time(self) -> AsyncIterator[None]:
        """Bound what is done inside; after that the outcome of a write is unknown. Lets the port's errors out alone."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except TimeoutError as error:
            raise _unavailable(_UNREACHABLE, error) from None
        except RejectedError as rejected:
            raise dynamodb_errors.unavailable(rejected) from None

    async def call(self, operation: str, **parameters: Any) -> Any:
        """One operation, tried again while other writes are in its way.

        Raises ``RejectedError`` (``CONFLICT`` not before many tries) and ``KeystoreUnavailableError``.
        """
        if self._client is None:
            raise KeystoreUnavailableError("the keystore is not open")
        repeated = False
        for attempt in range(_CONFLICTS):
            try:
                return _of_dynamodb(await getattr(self._client, operation)(**parameters))
            except KeystoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - sorted, and never chained: its text is the vendor's
                sorted_error = _sorted(error)
            if not isinstance(sorted_error, RejectedError):
                raise sorted_error
            repeated = repeated or sorted_error.repeated
            if sorted_error.rejection is not Rejection.CONFLICT:
                raise RejectedError(sorted_error.rejection, repeated=repeated)
            await _back_off(attempt)
        raise RejectedError(Rejection.CONFLICT, repeated=repeated)

    async def refused(self, operation: str, **parameters: Any) -> RejectedError | None:
        """Do a conditional write, as ``call``; returns the refusal where its condition does not hold."""
        try:
            await self.call(operation, **parameters)
        except RejectedError as rejected:
            if rejected.rejection is not Rejection.CONDITION:
                raise
            return rejected
        return None

    async def get(self, key: Item) -> Item | None:
        """One item, read consistently."""
        answer = await self.call("get_item", TableName=self.table, Key=key, ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    async def get_many(self, keys: Sequence[Item]) -> list[Item]:
        """The items that there are of different keys, in no order, read consistently."""
        batches = [keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH)]
        found = await self.gather(self._batch, batches)
        return [item for items in found for item in items]

    async def _batch(self, keys: Sequence[Item]) -> list[Item]:
        found: list[Item] = []
        for attempt in range(_BATCH_ROUNDS):
            asked = {self.table: {"Keys": list(keys), "ConsistentRead": True}}
            answer = await self.call("batch_get_item", RequestItems=asked)
            found += answer["Responses"].get(self.table, ())
            # Beyond 16 MB, and what was throttled.
            keys = answer.get("UnprocessedKeys", {}).get(self.table, {}).get("Keys", ())
            if not keys:
                return found
            await _back_off(attempt)
        raise KeystoreUnavailableError("DynamoDB asks for fewer calls")

    async def page(
        self, pk: str, *, above: str | None = None, start: Item | None = None, limit: int, descending: bool = False
    ) -> tuple[list[Item], Item | None]:
        """Up to ``limit`` items of one ``pk``, at most 1 MB, and where the next page starts (None: there is none)."""
        condition, values = "pk = :pk", {":pk": {"S": pk}}
        if above is not None:
            condition, values = f"{condition} AND sk > :above", {**values, ":above": {"S": above}}
        parameters: dict[str, Any] = {} if start is None else {"ExclusiveStartKey": start}
        answer = await self.call(
            "query",
            TableName=self.table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            ScanIndexForward=not descending,
            Limit=limit,
            **parameters,
        )
        return answer["Items"], answer.get("LastEvaluatedKey")

    async def query(self, pk: str, *, above: str | None = None, limit: int) -> list[Item]:
        """The first ``limit`` items of one ``pk``, in ascending order, over as many pages as that takes."""
        found, start = await self.page(pk, above=above, limit=limit)
        while start is not None and len(found) < limit:
            more, start = await self.page(pk, above=above, start=start, limit=limit - len(found))
            found += more
        return found

    async def gather(self, call: Callable[[_A], Awaitable[_T]], arguments: Iterable[_A]) -> list[_T]:
        """The results of a call for each argument, some at once. All have ended before this returns, or raises one."""
        turns = asyncio.Semaphore(_WIDTH)

        async def in_turn(argument: _A) -> _T:
            async with turns:
                return await call(argument)

        results = await asyncio.gather(*map(in_turn, arguments), return_exceptions=True)
        if failed := [result for result in results if isinstance(result, BaseException)]:
            raise failed[0]
        return [result for result in results if not isinstance(result, BaseException)]


def _of_dynamodb(answer: Any) -> Any:
    """The answer, if DynamoDB gave it: another's that says 200, a gateway's page, would read as "done" or "no item"."""
    if "RequestId" not in answer["ResponseMetadata"]:
        log.warning("keystore_call_failed", error="NotDynamoDb")
        raise KeystoreUnavailableError("what answers in the place of DynamoDB is something else")
    return answer


def _sorted(error: Exception) -> RejectedError | KeystoreUnavailableError:
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        answer = dynamodb_errors.sort(error.response)
        if isinstance(answer, KeystoreUnavailableError):
            log.warning("keystore_call_failed", error=str(answer))
        return answer
    if aws.lacks_credentials(error):
        return _unavailable("access to the keystore is denied: there are no usable AWS credentials", error)
    return _unavailable(_UNREACHABLE, error)


def _unavailable(text: str, error: Exception) -> KeystoreUnavailableError:
    log.warning("keystore_call_failed", error=type(error).__name__)
    return KeystoreUnavailableError(text)


async def _back_off(attempt: int) -> None:
    """Wait before the next try, each time up to twice as long; by chance, so that racers part."""
    longest = min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2**attempt)
    await asyncio.sleep(random.uniform(longest / 4, longest))  # noqa: S311 - no secret
