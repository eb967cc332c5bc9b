"""The block of the awsKms plugin."""

from typing import Any

import pytest

from sidecar.kms.aws import create
from sidecar.kms.aws_settings import AwsCredentials, AwsSettings, parse
from sidecar.kms.port import SettingsError

BLOCK: dict[str, Any] = {"plugin": "awsKms", "isKms": True, "keyId": "alias/sidekey", "region": "eu-west-1"}
CREDENTIALS = {"accessKeyId": "AKIASECRET", "secretAccessKey": "hunter2hunter2", "sessionToken": "token-secret"}


def test_a_whole_block_is_read() -> None:
    block = BLOCK | {"extraKmsConfig": {"credentials": CREDENTIALS}}
    assert parse(block) == AwsSettings(
        "alias/sidekey", "eu-west-1", AwsCredentials("AKIASECRET", "hunter2hunter2", "token-secret")
    )


@pytest.mark.parametrize("extra", [None, {}, {"credentials": None}])
def test_credentials_may_be_left_out(extra: object) -> None:
    assert parse(BLOCK | {"extraKmsConfig": extra}) == AwsSettings("alias/sidekey", "eu-west-1")


def test_a_session_token_may_be_left_out() -> None:
    credentials = {name: value for name, value in CREDENTIALS.items() if name != "sessionToken"}
    parsed = parse(BLOCK | {"extraKmsConfig": {"credentials": credentials}})
    assert parsed.credentials == AwsCredentials("AKIASECRET", "hunter2hunter2")


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-east-1", "cn-north-1", "us-iso-east-1"])
def test_regions_of_every_partition_are_taken(region: str) -> None:
    assert create(BLOCK | {"region": region}).name == "awsKms"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keyId": None}, "keyId: missing"),
        ({"keyId": ""}, "keyId: missing"),
        ({"keyId": 1234}, "keyId: must be .* as a string"),
        ({"keyId": "a b"}, "keyId: must be"),
        ({"keyId": "x" * 2049}, "keyId: must be"),
        ({"region": None}, "region: missing"),
        ({"region": "Frankfurt"}, "region: must be an AWS region"),
        ({"region": "eu-west-1.evil.example"}, "region: must be an AWS region"),
        ({"keyID": "x"}, r"keyID: unknown key; did you mean keyId\?"),
        ({"zzz": "x"}, "zzz: unknown key; known are plugin, isKms, formerKms, keyId"),
        ({"extraKmsConfig": "hunter2hunter2"}, "extraKmsConfig: must be a mapping"),
        ({"extraKmsConfig": {"credential": {}}}, r"extraKmsConfig.credential: unknown key; did you mean credentials\?"),
        ({"extraKmsConfig": {"credentials": ["hunter2hunter2"]}}, "credentials: must be a mapping"),
        ({"extraKmsConfig": {"credentials": {}}}, "credentials.accessKeyId: missing"),
        ({"extraKmsConfig": {"credentials": {"accessKeyId": "AKIASECRET"}}}, "credentials.secretAccessKey: missing"),
        ({"extraKmsConfig": {"credentials": CREDENTIALS | {"sessionToken": 5}}}, "sessionToken: must be"),
        ({"extraKmsConfig": {"credentials": CREDENTIALS | {"secretKey": "hunter2hunter2"}}}, "secretKey: unknown key"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_shown(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        create(BLOCK | changes)
    for secret in CREDENTIALS.values():
        assert secret not in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    block = {
        "plugin": "awsKms",
        "isKms": True,
        "keyID": "x",
        "region": "Frankfurt",
        "extraKmsConfig": {"credentials": {"sessionToken": 5}},
    }
    with pytest.raises(SettingsError) as caught:
        create(block)
    assert caught.value.problems == (
        "keyID: unknown key; did you mean keyId?",
        "keyId: missing; must be the id, ARN or alias of the wrapping key",
        "region: must be an AWS region such as eu-west-1",
        "extraKmsConfig.credentials.accessKeyId: missing; must be an access key id",
        "extraKmsConfig.credentials.secretAccessKey: missing; must be a secret access key",
        "extraKmsConfig.credentials.sessionToken: must be a session token, as a string (quote it)",
    )


def test_a_block_of_a_former_kms_is_read_like_any_other() -> None:
    assert parse(BLOCK | {"isKms": False, "formerKms": True}) == AwsSettings("alias/sidekey", "eu-west-1")


@pytest.mark.parametrize(
    ("kek_id", "may_unwrap"),
    [
        ("arn:aws:kms:eu-west-1:123456789012:key/0b41f6d2-6c8f-4c0c-9a7e-6a3a4f2f6f10", True),
        ("arn:aws:kms:eu-west-1:123456789012:key/mrk-0b41f6d26c8f4c0c9a7e6a3a4f2f6f10", True),
        ("arn:aws:kms:us-east-1:123456789012:key/mrk-0b41f6d26c8f4c0c9a7e6a3a4f2f6f10", False),
        ("arn:aws:s3:eu-west-1:123456789012:key/1", False),
        ("0b41f6d2-6c8f-4c0c-9a7e-6a3a4f2f6f10", True),
        ("mrk-0b41f6d26c8f4c0c9a7e6a3a4f2f6f10", True),
        ("alias/sidekey", True),
        ("local:676cc8bc775e6ec8", False),
        ("https://vault.example:8200/sidekey", False),
        ("", False),
    ],
)
def test_a_region_unwraps_what_was_wrapped_in_it(kek_id: str, may_unwrap: bool) -> None:
    assert create(BLOCK).may_unwrap(kek_id) is may_unwrap


def test_no_repr_shows_credentials() -> None:
    parsed = parse(BLOCK | {"extraKmsConfig": {"credentials": CREDENTIALS}})
    for secret in CREDENTIALS.values():
        assert secret not in repr(parsed)
