"""What DynamoDB and the network before it may do to a keystore: throttle, deny, hang, lie, leave out."""

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore import dynamodb_client
from sidecar.keystore.dynamodb import DynamoDbKeystore, from_url
from sidecar.keystore.port import KeyringRecord, KeyState, Usage, WrappedCopy
from tests.keystore import dynamodb_proxy as proxies
from tests.keystore.dynamodb import DynamoDb
from tests.keystore.dynamodb_proxy import VENDOR_TEXT, Answer, DynamoDbProxy
from tests.keystore.dynamodb_through_proxy import keystore, proxy
from tests.keystore.records import CREATED_AT, record

__all__ = ["keystore", "proxy"]

NEW_COPIES = (WrappedCopy("local:new", b"wrapped anew"),)
UNKNOWN_ID = "0123456789abcd"

PASSING: dict[str, Answer] = {
    "throttled": proxies.error(400, "ProvisionedThroughputExceededException"),
    "throttled by the account": proxies.error(400, "RequestLimitExceeded"),
    "a failure of the server": proxies.error(500, "InternalServerError"),
    "an overload": proxies.raw(503, b"vendor-text"),
    "a reset connection": proxies.reset,
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
async def test_what_passes_is_waited_out(keystore: DynamoDbKeystore, proxy: DynamoDbProxy, answer: Answer) -> None:
    for operation in ("TransactWriteItems", "BatchGetItem", "Query"):
        proxy.answers[operation] = [answer]
    stored = record()
    assert await keystore.insert(stored) is True
    assert await keystore.get(stored.key_id) == stored
    assert await keystore.primary("default") == stored


@pytest.mark.parametrize(
    "answer",
    [
        proxies.canceled("TransactionConflict", "None", "TransactionConflict"),
        proxies.canceled("None", "ThrottlingError", "None"),
        proxies.canceled("None", "None", "ProvisionedThroughputExceeded"),
        proxies.error(400, "TransactionInProgressException"),
    ],
    ids=["conflict", "throttling", "throughput", "in progress"],
)
async def test_a_transaction_in_the_way_of_another_is_tried_again_and_is_no_lost_race(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, answer: Answer
) -> None:
    proxy.answers["TransactWriteItems"] = [answer] * 2
    assert await keystore.insert(record()) is True
    assert len({body["ClientRequestToken"] for body in proxy.bodies_of("TransactWriteItems")}) == 1


async def test_an_update_in_the_way_of_a_transaction_is_tried_again(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy
) -> None:
    stored = record()
    await keystore.insert(stored)
    proxy.answers["UpdateItem"] = [proxies.error(400, "TransactionConflictException")] * 2
    assert await keystore.replace_copies(stored.key_id, stored.copies, NEW_COPIES) is True


async def test_conflicts_without_end_are_unavailable_after_a_bounded_number_of_tries(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy
) -> None:
    proxy.always["TransactWriteItems"] = proxies.canceled("None", "TransactionConflict", "None")
    with pytest.raises(KeystoreUnavailableError, match="another write to the same items"):
        await keystore.insert(record())
    assert proxy.called.count("TransactWriteItems") == dynamodb_client._CONFLICTS


@pytest.mark.parametrize("reasons", [("ItemCollectionSizeLimitExceeded", "None", "None"), ("ValidationError",), ()])
async def test_a_transaction_canceled_for_another_reason_is_unavailable_and_no_lost_race(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, reasons: tuple[str, ...]
) -> None:
    proxy.always["TransactWriteItems"] = proxies.canceled(*reasons)
    with pytest.raises(KeystoreUnavailableError):
        await keystore.insert(record())
    assert proxy.called.count("TransactWriteItems") == 1


async def test_items_that_a_batch_left_out_are_asked_for_again(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy
) -> None:
    stored = [record(generation=generation) for generation in range(1, 8)]
    for each in stored:
        await keystore.insert(each)

    def one_of_them(answer: Any) -> Any:
        [(table, items)] = answer["Responses"].items()
        left = [{name: item[name] for name in ("pk", "sk")} for item in items[1:]]
        unprocessed = {table: {"Keys": left, "ConsistentRead": True}}
        return {"Responses": {table: items[:1]}, "UnprocessedKeys": unprocessed}

    proxy.answers["BatchGetItem"] = [proxies.changed(one_of_them)] * 5
    found = await keystore.get_many(each.key_id for each in stored)
    assert found == {each.key_id: each for each in stored}
    assert all(
        asked["ConsistentRead"] is True
        for body in proxy.bodies_of("BatchGetItem")
        for asked in body["RequestItems"].values()
    )


async def test_items_that_batches_always_leave_out_are_unavailable_and_not_missing(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_client, "_BATCH_ROUNDS", 3)

    nothing = proxies.computed(lambda asked: {"Responses": {}, "UnprocessedKeys": asked["RequestItems"]})
    proxy.always["BatchGetItem"] = nothing
    with pytest.raises(KeystoreUnavailableError, match="fewer calls"):
        await keystore.get(UNKNOWN_ID)
    assert proxy.called.count("BatchGetItem") == 3


CALLS: dict[str, Callable[[DynamoDbKeystore], Awaitable[object]]] = {
    "get": lambda keystore: keystore.get(UNKNOWN_ID),
    "primary": lambda keystore: keystore.primary("default"),
    "newest_generation": lambda keystore: keystore.newest_generation("default"),
    "insert": lambda keystore: keystore.insert(record()),
    "set_state": lambda keystore: keystore.set_state(UNKNOWN_ID, KeyState.DISABLED, at=CREATED_AT),
    "replace_copies": lambda keystore: keystore.replace_copies(UNKNOWN_ID, NEW_COPIES, NEW_COPIES),
    "list_keys": lambda keystore: keystore.list_keys(),
    "list_keyrings": lambda keystore: keystore.list_keyrings(),
    "keyring": lambda keystore: keystore.keyring("default"),
    "save_keyring": lambda keystore: keystore.save_keyring(KeyringRecord("default", CREATED_AT)),
    "add_usage": lambda keystore: keystore.add_usage({UNKNOWN_ID: Usage(1, 1, CREATED_AT, CREATED_AT)}),
}
OPERATIONS = ("BatchGetItem", "GetItem", "Query", "TransactWriteItems", "UpdateItem")


async def test_every_call_that_is_denied_says_so_and_is_not_tried_again(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy
) -> None:
    proxy.always = dict.fromkeys(OPERATIONS, proxies.error(400, "AccessDeniedException"))
    for call in CALLS.values():
        proxy.called.clear()
        with pytest.raises(KeystoreUnavailableError, match=r"denied \(AccessDeniedException\)") as caught:
            await call(keystore)
        assert type(caught.value) is KeystoreUnavailableError
        assert len(proxy.called) == 1


LASTING: dict[str, tuple[Answer, str]] = {
    "throttled": (proxies.error(400, "ThrottlingException"), "fewer calls"),
    "an expired token": (proxies.error(400, "ExpiredTokenException"), r"denied \(ExpiredTokenException\)"),
    "a lost key of the table": (proxies.error(400, "KMSAccessDeniedException"), "key that the keystore's table"),
    "no table": (proxies.error(400, "ResourceNotFoundException"), "there is no such table"),
    "refused": (proxies.error(400, "ValidationException"), "does not fit the table"),
    "a foreign code": (proxies.error(400, "hunter2"), "failed to answer"),
    "a failure": (proxies.error(500, "InternalServerError"), "failed to answer"),
    "no JSON": (proxies.raw(200, b"<html>vendor-text</html>"), "something else"),
    "an empty answer": (proxies.raw(200, b"{}"), "something else"),
    "no answer of DynamoDB": (proxies.raw(404, b"<html>vendor-text</html>"), "failed to answer"),
    "resets": (proxies.reset, "cannot be reached"),
}


@pytest.mark.parametrize(("answer", "said"), LASTING.values(), ids=LASTING)
async def test_what_lasts_is_unavailable_in_words_of_our_own(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, answer: Answer, said: str
) -> None:
    proxy.always = dict.fromkeys(OPERATIONS, answer)
    for name in ("primary", "insert"):
        with capture_logs() as logs, pytest.raises(KeystoreUnavailableError, match=said) as caught:
            await CALLS[name](keystore)
        assert type(caught.value) is KeystoreUnavailableError
        for shown in ("".join(traceback.format_exception(caught.value)), str(logs)):
            assert VENDOR_TEXT.split()[0] not in shown
            assert "alice" not in shown
            assert "hunter2" not in shown


async def test_without_credentials_it_opens_with_a_warning_and_says_that_access_is_denied(
    dynamodb: DynamoDb, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.delenv("AWS_ACCESS_KEY_ID")
    aws_environment.delenv("AWS_SECRET_ACCESS_KEY")
    with capture_logs() as logs, pytest.raises(KeystoreUnavailableError, match="denied: there are no usable"):
        await from_url(dynamodb.url).open()
    assert "aws_credentials_missing" in [line["event"] for line in logs]


async def test_no_call_waits_longer_than_it_may(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keystore._client, "_timeout_seconds", 0.5)
    proxy.always = dict.fromkeys(OPERATIONS, proxies.hang)
    started = time.monotonic()
    results = await asyncio.gather(*(call(keystore) for call in CALLS.values()), return_exceptions=True)
    assert time.monotonic() - started < 30
    assert {type(result) for result in results} == {KeystoreUnavailableError}
    assert all("in time" in str(result) for result in results)


async def test_an_answer_that_hangs_is_asked_for_once_more(keystore: DynamoDbKeystore, proxy: DynamoDbProxy) -> None:
    proxy.answers["Query"] = [proxies.hang]
    assert await keystore.primary("default") is None
    assert proxy.called.count("Query") >= 2


@pytest.mark.parametrize("seconds", [0.5, 1.0, 5.0, 60.0])
async def test_the_time_of_a_call_leaves_room_for_a_second_try(dynamodb: DynamoDb, seconds: float) -> None:
    made = from_url(dynamodb.url, timeout_seconds=seconds)
    await made._client.open()
    config = made._client._client.meta.config
    assert config.connect_timeout <= min(1.0, seconds)
    assert config.read_timeout <= min(2.0, seconds / 2)
    await made.close()


async def test_a_cancelled_call_leaves_the_keystore_usable(keystore: DynamoDbKeystore, proxy: DynamoDbProxy) -> None:
    proxy.always["TransactWriteItems"] = proxies.hang
    proxy.arrived.clear()
    call = asyncio.create_task(keystore.insert(record()))
    await proxy.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    del proxy.always["TransactWriteItems"]
    assert await keystore.insert(record()) is True


async def test_a_closed_keystore_is_unavailable(keystore: DynamoDbKeystore) -> None:
    await keystore.close()
    for call in CALLS.values():
        with pytest.raises(KeystoreUnavailableError, match="not open"):
            await call(keystore)


async def test_a_failed_open_lets_go_of_its_connections(dynamodb: DynamoDb, proxy: DynamoDbProxy) -> None:
    proxy.always["GetItem"] = proxies.error(400, "AccessDeniedException")
    keystore = from_url(dynamodb.url)
    with pytest.raises(KeystoreUnavailableError, match="denied"):
        await keystore.open()
    with pytest.raises(KeystoreUnavailableError, match="not open"):
        await keystore.get(UNKNOWN_ID)


async def test_no_log_line_holds_a_wrapped_key_or_a_credential_even_at_debug(
    dynamodb: DynamoDb, proxy: DynamoDbProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "aiobotocore"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    stored = record(kek_id="wrapping-key-name")
    with capture_logs() as logs:
        keystore = from_url(dynamodb.url, timeout_seconds=60.0)
        await keystore.open(upgrade=True)
        await keystore.insert(stored)
        await keystore.get(stored.key_id)
        proxy.always["TransactWriteItems"] = proxies.error(400, "ValidationException")
        with pytest.raises(KeystoreUnavailableError):
            await keystore.insert(stored)
        await keystore.close()
    assert "dynamodb_opened" in [line["event"] for line in logs]
    for secret in ("environment-secret-access-key", "AKIATEST", "wrapping-key-name", VENDOR_TEXT):
        assert secret not in caplog.text
        assert secret not in f"{logs} {keystore!r}"
