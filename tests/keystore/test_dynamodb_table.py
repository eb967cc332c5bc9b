"""The table of a keystore in DynamoDB: its URL, its making and its version."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.errors import KeystoreUnavailableError, StartupError
from sidecar.keystore import dynamodb_schema
from sidecar.keystore.dynamodb import from_url
from tests.keystore import dynamodb_proxy as proxies
from tests.keystore import dynamodb_race
from tests.keystore.dynamodb import DynamoDb
from tests.keystore.dynamodb_proxy import DynamoDbProxy

KEYS = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]


@pytest.fixture
async def proxy(dynamodb: DynamoDb, aws_environment: pytest.MonkeyPatch) -> AsyncIterator[DynamoDbProxy]:
    async with proxies.serve(dynamodb.endpoint) as made:
        aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", made.url)
        yield made


async def opened_and_closed(url: str, *, upgrade: bool = False) -> None:
    keystore = from_url(url, timeout_seconds=60.0)
    await keystore.open(upgrade=upgrade)
    await keystore.close()


async def create(place: DynamoDb, keys: list[dict[str, str]]) -> None:
    attributes = [{"AttributeName": key["AttributeName"], "AttributeType": "S"} for key in keys]
    async with place.client() as client:
        await client.create_table(
            TableName=place.table, AttributeDefinitions=attributes, KeySchema=keys, BillingMode="PAY_PER_REQUEST"
        )


async def put(place: DynamoDb, item: dict[str, Any]) -> None:
    async with place.client() as client:
        await client.put_item(TableName=place.table, Item=item)


async def everything_in(place: DynamoDb) -> list[Any]:
    async with place.client() as client:
        items: list[Any] = (await client.scan(TableName=place.table))["Items"]
        return items


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("dynamodb:table?region=eu-west-1", "must be dynamodb://table"),
        ("dynamodb://ab?region=eu-west-1", "3 to 255"),
        (f"dynamodb://{'a' * 256}?region=eu-west-1", "3 to 255"),
        ("dynamodb://?region=eu-west-1", "3 to 255"),
        ("dynamodb://AKIA:hunter2@table?region=eu-west-1", "credentials and endpoint come from the environment"),
        ("dynamodb://table/?region=eu-west-1", "3 to 255"),
        ("dynamodb://täble?region=eu-west-1", "3 to 255"),
        ("dynamodb://table", "must name one AWS region"),
        ("dynamodb://table?region=", "must name one AWS region"),
        ("dynamodb://table?region=hunter2", "must name one AWS region"),
        ("dynamodb://table?region=eu-west-1&region=eu-west-2", "must name one AWS region"),
        ("dynamodb://table?region=eu-west-1&hunter2=1", "unknown parameter; known is region"),
        ("dynamodb://table?" + "&".join(["region=eu-west-1"] * 9), "must name one AWS region"),
    ],
)
def test_a_url_that_is_none_says_what_would_be_and_is_not_repeated(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        from_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_url_may_name_any_table_that_aws_allows() -> None:
    from_url("dynamodb://Fleet_1.side-key?region=us-gov-west-1")


async def test_without_upgrade_a_missing_table_stays_missing(dynamodb: DynamoDb) -> None:
    with pytest.raises(StartupError, match="sidekey keystore upgrade"):
        await opened_and_closed(dynamodb.url)
    async with dynamodb.client() as client:
        assert dynamodb.table not in (await client.list_tables())["TableNames"]


async def test_without_upgrade_an_empty_table_stays_empty(dynamodb: DynamoDb) -> None:
    await create(dynamodb, KEYS)
    with pytest.raises(StartupError, match="sidekey keystore upgrade"):
        await opened_and_closed(dynamodb.url)
    assert await everything_in(dynamodb) == []


async def test_an_upgrade_makes_a_table_that_is_paid_by_request_and_not_deleted_by_mistake(dynamodb: DynamoDb) -> None:
    keystore = from_url(dynamodb.url, timeout_seconds=60.0)
    assert await keystore.schema_version() == 0
    await opened_and_closed(dynamodb.url, upgrade=True)
    assert await keystore.schema_version() == dynamodb_schema.SCHEMA_VERSION
    async with dynamodb.client() as client:
        table = (await client.describe_table(TableName=dynamodb.table))["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"] is True
    assert table["KeySchema"] == KEYS
    await opened_and_closed(dynamodb.url)


async def test_a_table_made_beforehand_needs_no_right_to_make_tables(dynamodb: DynamoDb, proxy: DynamoDbProxy) -> None:
    proxy.always["CreateTable"] = proxies.error(400, "AccessDeniedException")
    await create(dynamodb, KEYS)
    await opened_and_closed(dynamodb.url, upgrade=True)
    assert "CreateTable" not in proxy.called


async def test_a_second_upgrade_changes_nothing(dynamodb: DynamoDb, proxy: DynamoDbProxy) -> None:
    await opened_and_closed(dynamodb.url, upgrade=True)
    proxy.called.clear()
    await opened_and_closed(dynamodb.url, upgrade=True)
    assert set(proxy.called) == {"GetItem"}


async def test_many_that_upgrade_at_once_all_succeed(dynamodb: DynamoDb) -> None:
    await asyncio.gather(*(opened_and_closed(dynamodb.url, upgrade=True) for _ in range(12)))
    assert len(await everything_in(dynamodb)) == 1


async def test_processes_that_upgrade_at_once_share_out_the_generations(dynamodb: DynamoDb) -> None:
    racers = [dynamodb_race.start(dynamodb) for _ in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert await asyncio.to_thread(racer.stdout.readline) == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [(await asyncio.to_thread(racer.communicate, timeout=60))[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    won = sorted(
        int(line.removeprefix("won ")) for text in said for line in text.splitlines() if line.startswith("won")
    )
    assert won == list(range(1, dynamodb_race.GENERATIONS + 1))


async def test_one_that_loses_the_race_for_the_table_waits_for_it(
    dynamodb: DynamoDb, proxy: DynamoDbProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_schema, "_POLL_SECONDS", 0.01)

    async def made_by_another() -> None:
        await create(dynamodb, KEYS)

    proxy.answers["CreateTable"] = [proxies.after(made_by_another, proxies.forwarded)]
    creating = proxies.changed(lambda answer: {"Table": {**answer["Table"], "TableStatus": "CREATING"}})
    proxy.answers["DescribeTable"] = [proxies.forwarded, creating, creating]
    await opened_and_closed(dynamodb.url, upgrade=True)
    assert proxy.called.count("DescribeTable") == 4


async def test_a_table_that_is_never_ready_is_not_waited_for_without_end(
    dynamodb: DynamoDb, proxy: DynamoDbProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_schema, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(dynamodb_schema, "_MADE_SECONDS", 0.2)
    proxy.always["DescribeTable"] = proxies.computed(lambda _: {"Table": {"TableStatus": "CREATING"}})
    with pytest.raises(KeystoreUnavailableError, match="not ready after"):
        await opened_and_closed(dynamodb.url, upgrade=True)


@pytest.mark.parametrize("upgrade", [False, True])
async def test_a_newer_schema_is_refused_with_both_versions_and_left_alone(dynamodb: DynamoDb, upgrade: bool) -> None:
    await create(dynamodb, KEYS)
    stored = {"pk": {"S": "schema"}, "sk": {"S": "-"}, "version": {"N": "7"}}
    await put(dynamodb, stored)
    with pytest.raises(StartupError, match=rf"version 7.*up to {dynamodb_schema.SCHEMA_VERSION}"):
        await opened_and_closed(dynamodb.url, upgrade=upgrade)
    assert await everything_in(dynamodb) == [stored]


@pytest.mark.parametrize("version", [{"S": "1"}, {"N": "0"}, {"N": "-1"}, {"N": "1.5"}, None])
async def test_a_schema_version_that_makes_no_sense_is_refused(dynamodb: DynamoDb, version: Any) -> None:
    await create(dynamodb, KEYS)
    named = {} if version is None else {"version": version}
    await put(dynamodb, {"pk": {"S": "schema"}, "sk": {"S": "-"}, **named})
    with pytest.raises(StartupError, match="schema version does not parse"):
        await opened_and_closed(dynamodb.url, upgrade=True)


@pytest.mark.parametrize(
    "keys",
    [[{"AttributeName": "cookie", "KeyType": "HASH"}], [{"AttributeName": "pk", "KeyType": "HASH"}]],
    ids=["other keys", "one key"],
)
@pytest.mark.parametrize("upgrade", [False, True])
async def test_a_table_with_other_keys_is_of_another_program(
    dynamodb: DynamoDb, keys: list[dict[str, str]], upgrade: bool
) -> None:
    await create(dynamodb, keys)
    with pytest.raises(StartupError, match="another program"):
        await opened_and_closed(dynamodb.url, upgrade=upgrade)


async def test_a_table_with_other_items_is_of_another_program_and_left_alone(dynamodb: DynamoDb) -> None:
    await create(dynamodb, KEYS)
    cookie = {"pk": {"S": "cookie"}, "sk": {"S": "oat"}}
    await put(dynamodb, cookie)
    with pytest.raises(StartupError, match="another program"):
        await opened_and_closed(dynamodb.url, upgrade=True)
    assert await everything_in(dynamodb) == [cookie]


async def test_a_table_that_another_fills_meanwhile_is_no_other_programs(
    dynamodb: DynamoDb, proxy: DynamoDbProxy
) -> None:
    async def another() -> None:
        await opened_and_closed(dynamodb.url, upgrade=True)

    await create(dynamodb, KEYS)
    proxy.answers["Scan"] = [proxies.after(another, proxies.forwarded)]
    await opened_and_closed(dynamodb.url, upgrade=True)


async def test_a_region_that_cannot_be_reached_is_unavailable_and_not_a_missing_table(
    dynamodb: DynamoDb, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    with pytest.raises(KeystoreUnavailableError, match="cannot be reached"):
        await opened_and_closed(dynamodb.url)
    with pytest.raises(KeystoreUnavailableError, match="cannot be reached"):
        await from_url(dynamodb.url).schema_version()


async def test_a_profile_that_does_not_exist_stops_the_start_and_is_not_quoted(
    dynamodb: DynamoDb, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_PROFILE", "profile-of-alice")
    with pytest.raises(StartupError, match="ProfileNotFound") as caught:
        await opened_and_closed(dynamodb.url)
    assert "profile-of-alice" not in str(caught.value)
    assert caught.value.__suppress_context__
