"""AWS KMS through its real HTTP API, as moto serves it."""

import asyncio
import base64
import logging
import os
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from sidecar.errors import CorruptKeyError, KmsDeniedError, KmsDisabledError, StartupError
from sidecar.kms.aws import AwsKms, create
from sidecar.kms.context import encryption_context
from tests.kms.moto import MotoKms

DATA_KEY = bytes(range(32))
CONTEXT = encryption_context("default", "0123456789abcd")


@pytest.fixture
async def kms(moto_kms: MotoKms) -> AsyncIterator[AwsKms]:
    made = create(moto_kms.settings())
    await made.open()
    yield made
    await made.close()


async def test_a_data_key_survives_wrap_and_unwrap(kms: AwsKms) -> None:
    wrapped_key = await kms.wrap(bytearray(DATA_KEY), CONTEXT)
    assert DATA_KEY not in wrapped_key
    data_key = await kms.unwrap(wrapped_key, CONTEXT)
    assert isinstance(data_key, bytearray)
    assert data_key == DATA_KEY


@pytest.mark.parametrize(
    "context",
    [encryption_context("other", "0123456789abcd"), encryption_context("default", "0123456789abce"), {}],
    ids=["another keyring", "another key id", "no context"],
)
async def test_a_wrapped_key_that_was_moved_is_corrupt(kms: AwsKms, context: dict[str, str]) -> None:
    wrapped_key = await kms.wrap(DATA_KEY, CONTEXT)
    with pytest.raises(CorruptKeyError, match=r"InvalidCiphertextException.*moved"):
        await kms.unwrap(wrapped_key, context)


@pytest.mark.parametrize("size", [0, 6145])
async def test_a_wrapped_key_of_impossible_length_is_corrupt_without_a_call(kms: AwsKms, size: int) -> None:
    with pytest.raises(CorruptKeyError, match="1 to 6144 bytes"):
        await kms.unwrap(bytes(size), CONTEXT)


async def test_a_damaged_wrapped_key_is_corrupt(kms: AwsKms) -> None:
    damaged = bytearray(await kms.wrap(DATA_KEY, CONTEXT))
    damaged[-1] ^= 1
    with pytest.raises(CorruptKeyError):
        await kms.unwrap(bytes(damaged), CONTEXT)


async def test_the_wrapping_key_is_known_by_its_arn_once_it_has_wrapped(kms: AwsKms, moto_kms: MotoKms) -> None:
    assert kms.kek_id == moto_kms.key_id
    await kms.wrap(DATA_KEY, CONTEXT)
    assert kms.kek_id == moto_kms.arn


async def test_a_data_key_of_an_earlier_wrapping_key_still_unwraps(kms: AwsKms, moto_kms: MotoKms) -> None:
    wrapped_key = await kms.wrap(DATA_KEY, CONTEXT)
    later = (await moto_kms.client.create_key())["KeyMetadata"]["KeyId"]
    successor = create(moto_kms.settings(keyId=later))
    await successor.open()
    assert await successor.unwrap(wrapped_key, CONTEXT) == DATA_KEY
    await successor.close()


async def test_an_alias_wraps_under_the_key_that_it_points_to(moto_kms: MotoKms) -> None:
    alias = f"alias/{moto_kms.key_id}"
    await moto_kms.client.create_alias(AliasName=alias, TargetKeyId=moto_kms.key_id)
    kms = create(moto_kms.settings(keyId=alias))
    await kms.open()
    assert await kms.unwrap(await kms.wrap(DATA_KEY, CONTEXT), CONTEXT) == DATA_KEY
    assert kms.kek_id == moto_kms.arn
    await kms.close()


async def test_an_unknown_wrapping_key_is_disabled_and_not_unavailable(moto_kms: MotoKms) -> None:
    kms = create(moto_kms.settings(keyId="11111111-2222-3333-4444-555555555555"))
    await kms.open()
    with pytest.raises(KmsDisabledError, match="NotFoundException") as caught:
        await kms.wrap(DATA_KEY, CONTEXT)
    assert caught.value.__suppress_context__
    assert "11111111" not in str(caught.value)
    await kms.close()


async def test_a_data_key_of_a_foreign_wrapping_key_is_denied(kms: AwsKms) -> None:
    foreign = b"11111111-2222-3333-4444-555555555555" + os.urandom(60)
    with pytest.raises(KmsDeniedError, match="AccessDeniedException"):
        await kms.unwrap(foreign, CONTEXT)


async def test_many_calls_share_one_client(kms: AwsKms) -> None:
    wrapped = await asyncio.gather(*(kms.wrap(DATA_KEY, CONTEXT) for _ in range(40)))
    assert len(set(wrapped)) == 40
    unwrapped = await asyncio.gather(*(kms.unwrap(one, CONTEXT) for one in wrapped))
    assert all(one == DATA_KEY for one in unwrapped)


async def test_without_credentials_it_opens_with_a_warning_and_every_call_is_denied(
    moto_kms: MotoKms, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.delenv("AWS_ACCESS_KEY_ID")
    aws_environment.delenv("AWS_SECRET_ACCESS_KEY")
    kms = create(moto_kms.settings())
    with capture_logs() as logs:
        await kms.open()
    assert "aws_credentials_missing" in [line["event"] for line in logs]
    with pytest.raises(KmsDeniedError, match="no usable AWS credentials"):
        await kms.wrap(DATA_KEY, CONTEXT)
    await kms.close()


async def test_the_method_that_found_the_credentials_is_logged_and_never_their_values(moto_kms: MotoKms) -> None:
    kms = create(moto_kms.settings())
    with capture_logs() as logs:
        await kms.open()
    opened = next(line for line in logs if line["event"] == "aws_kms_opened")
    assert opened["credentials_method"] == "env"
    assert "AKIATEST" not in str(logs)
    assert "secret-access-key" not in str(logs)
    await kms.close()


async def test_credentials_in_the_configuration_win_with_a_warning_and_are_never_shown(moto_kms: MotoKms) -> None:
    credentials = {
        "accessKeyId": "AKIACONFIGCONFIG",
        "secretAccessKey": "configured-secret",
        "sessionToken": "configured-token",
    }
    kms = create(moto_kms.settings(extraKmsConfig={"credentials": credentials}))
    with capture_logs() as logs:
        await kms.open()
    assert next(line for line in logs if line["event"] == "aws_kms_opened")["credentials_method"] == "explicit"
    warnings = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert "aws_credentials_in_configuration" in warnings
    assert await kms.unwrap(await kms.wrap(DATA_KEY, CONTEXT), CONTEXT) == DATA_KEY
    shown = f"{logs} {kms!r} {kms._settings!r} {kms._settings.credentials!r}"
    for secret in credentials.values():
        assert secret not in shown
    await kms.close()


async def test_an_endpoint_without_tls_is_warned_of(moto_kms: MotoKms) -> None:
    kms = create(moto_kms.settings())
    with capture_logs() as logs:
        await kms.open()
    assert "aws_kms_endpoint_without_tls" in [line["event"] for line in logs if line["log_level"] == "warning"]
    await kms.close()


async def test_a_profile_that_does_not_exist_stops_the_start_and_is_not_quoted(
    aws_environment: pytest.MonkeyPatch,
) -> None:
    aws_environment.setenv("AWS_PROFILE", "profile-of-alice")
    kms = create({"plugin": "awsKms", "keyId": "alias/x", "region": "eu-west-1"})
    with pytest.raises(StartupError, match="ProfileNotFound") as caught:
        await kms.open()
    assert "profile-of-alice" not in str(caught.value)
    assert caught.value.__suppress_context__
    await kms.close()


async def test_no_log_line_holds_a_data_key_even_at_debug(moto_kms: MotoKms, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "aiobotocore"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    kms = create(moto_kms.settings())
    await kms.open()
    data_key = os.urandom(32)
    await kms.unwrap(await kms.wrap(data_key, CONTEXT), CONTEXT)
    assert base64.b64encode(data_key).decode() not in caplog.text
    assert "environment-secret-access-key" not in caplog.text
    assert "CiphertextBlob" not in caplog.text
    await kms.close()
