"""AWS KMS when it denies, throttles, hangs, breaks or lies: sorted by who must act, in bounded time, in our words."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.errors import (
    CorruptKeyError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
)
from sidecar.kms.aws import AwsKms
from sidecar.kms.aws_settings import AwsSettings
from sidecar.kms.context import encryption_context
from tests.kms import loopback

DATA_KEY = bytes(range(32))
CONTEXT = encryption_context("default", "0123456789abcd")

BOTH = [
    (400, "AccessDeniedException", KmsDeniedError),
    (400, "KMSInvalidSignatureException", KmsDeniedError),
    (403, "InvalidSignatureException", KmsDeniedError),
    (403, "UnrecognizedClientException", KmsDeniedError),
    (403, "InvalidClientTokenId", KmsDeniedError),
    (400, "ExpiredTokenException", KmsDeniedError),
    (403, "AccessDeniedBySomethingNew", KmsDeniedError),
    (400, "DisabledException", KmsDisabledError),
    (400, "KMSInvalidStateException", KmsDisabledError),
    (400, "NotFoundException", KmsDisabledError),
    (400, "ThrottlingException", KmsThrottledError),
    (400, "LimitExceededException", KmsThrottledError),
    (429, "NobodyKnows", KmsThrottledError),
    (500, "KMSInternalException", KmsUnavailableError),
    (500, "KeyUnavailableException", KmsUnavailableError),
    (503, "DependencyTimeoutException", KmsUnavailableError),
    (400, "ValidationException", KmsUnavailableError),
    (400, "SomethingNew", KmsUnavailableError),
]


@asynccontextmanager
async def opened(
    url: str, monkeypatch: pytest.MonkeyPatch, *, max_attempts: int = 1, patience: float = 5.0
) -> AsyncIterator[AwsKms]:
    """``patience``: seconds that a call waits for its answer; short only where none is to come."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)
    settings = AwsSettings("alias/sidekey", "eu-west-1")
    kms = AwsKms(settings, connect_timeout_seconds=patience, read_timeout_seconds=patience, max_attempts=max_attempts)
    await kms.open()
    try:
        yield kms
    finally:
        await kms.close()


def assert_bare(error: SidekeyError) -> None:
    """Nothing of the vendor's text, in the message or in what is printed with a traceback."""
    printed = "".join(traceback.format_exception(error))
    for foreign in ("vendor-text", "alice", "127.0.0.1", "kms.invalid", "botocore.exceptions."):
        assert foreign not in printed


@pytest.mark.parametrize(("status", "code", "kind"), BOTH)
async def test_an_error_is_sorted_by_who_must_act(
    aws_environment: pytest.MonkeyPatch, status: int, code: str, kind: type[SidekeyError]
) -> None:
    async with loopback.serve(loopback.error(status, code)) as server, opened(server.url, aws_environment) as kms:
        with pytest.raises(SidekeyError) as wrap:
            await kms.wrap(DATA_KEY, CONTEXT)
        with pytest.raises(SidekeyError) as unwrap:
            await kms.unwrap(b"wrapped", CONTEXT)
    assert (type(wrap.value), type(unwrap.value)) == (kind, kind)
    assert_bare(wrap.value)
    assert_bare(unwrap.value)
    assert "SomethingNew" not in str(wrap.value)


@pytest.mark.parametrize(
    ("code", "wrap_kind", "unwrap_kind"),
    [
        ("InvalidCiphertextException", KmsUnavailableError, CorruptKeyError),
        ("IncorrectKeyException", KmsUnavailableError, CorruptKeyError),
        ("InvalidKeyUsageException", KmsDisabledError, CorruptKeyError),
    ],
)
async def test_only_an_unwrap_can_find_a_key_corrupt(
    aws_environment: pytest.MonkeyPatch, code: str, wrap_kind: type[SidekeyError], unwrap_kind: type[SidekeyError]
) -> None:
    async with loopback.serve(loopback.error(400, code)) as server, opened(server.url, aws_environment) as kms:
        with pytest.raises(wrap_kind):
            await kms.wrap(DATA_KEY, CONTEXT)
        with pytest.raises(unwrap_kind):
            await kms.unwrap(b"wrapped", CONTEXT)


@pytest.mark.parametrize(
    "answer",
    [
        loopback.reset,
        loopback.hang,
        loopback.raw(200, b"<html>proxy</html>"),
        loopback.raw(502, b"<html>proxy</html>"),
        loopback.raw(403, b"<html>proxy vendor-text</html>"),
        loopback.raw(200, b"{}"),
        loopback.raw(200, b'{"Plaintext": 7, "CiphertextBlob": 7}'),
        loopback.raw(200, b'{"Plaintext": "*not base64", "CiphertextBlob": "*"}'),
        loopback.raw(200, b"[]"),
    ],
    ids=["reset", "hang", "html", "502", "403", "empty", "numbers", "not base64", "list"],
)
async def test_what_is_no_answer_of_a_kms_is_an_outage_and_never_a_corrupt_key(
    aws_environment: pytest.MonkeyPatch, answer: loopback.Answer
) -> None:
    async with loopback.serve(answer) as server, opened(server.url, aws_environment, patience=0.3) as kms:
        started = time.monotonic()
        with pytest.raises(KmsUnavailableError) as wrap:
            await kms.wrap(DATA_KEY, CONTEXT)
        with pytest.raises(KmsUnavailableError) as unwrap:
            await kms.unwrap(b"wrapped", CONTEXT)
        assert time.monotonic() - started < 5
    assert_bare(wrap.value)
    assert_bare(unwrap.value)


@pytest.mark.parametrize("size", [0, 31, 33, 4096])
async def test_a_data_key_of_another_length_is_corrupt(aws_environment: pytest.MonkeyPatch, size: int) -> None:
    async with loopback.serve(loopback.plaintext(bytes(size))) as server, opened(server.url, aws_environment) as kms:
        with pytest.raises(CorruptKeyError, match="32 bytes"):
            await kms.unwrap(b"wrapped", CONTEXT)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://kms.invalid:80"], ids=["refused", "no such name"])
async def test_a_kms_that_is_not_there_is_unavailable(aws_environment: pytest.MonkeyPatch, url: str) -> None:
    async with opened(url, aws_environment, patience=0.3) as kms:
        with pytest.raises(KmsUnavailableError) as caught:
            await kms.unwrap(b"wrapped", CONTEXT)
    assert_bare(caught.value)


async def test_a_passing_failure_is_tried_once_more(aws_environment: pytest.MonkeyPatch) -> None:
    async with loopback.serve(loopback.plaintext(DATA_KEY)) as server:
        server.first = [loopback.error(500, "KMSInternalException")]
        async with opened(server.url, aws_environment, max_attempts=2) as kms:
            assert await kms.unwrap(b"wrapped", CONTEXT) == DATA_KEY
    assert server.targets == ["TrentService.Decrypt"] * 2


async def test_a_denial_is_not_tried_again(aws_environment: pytest.MonkeyPatch) -> None:
    async with (
        loopback.serve(loopback.error(400, "AccessDeniedException")) as server,
        opened(server.url, aws_environment, max_attempts=2) as kms,
    ):
        with pytest.raises(KmsDeniedError):
            await kms.wrap(DATA_KEY, CONTEXT)
    assert server.targets == ["TrentService.Encrypt"]


async def test_no_more_attempts_are_made_than_allowed(aws_environment: pytest.MonkeyPatch) -> None:
    async with (
        loopback.serve(loopback.error(500, "KMSInternalException")) as server,
        opened(server.url, aws_environment, max_attempts=2) as kms,
    ):
        with pytest.raises(KmsUnavailableError):
            await kms.wrap(DATA_KEY, CONTEXT)
    assert len(server.targets) == 2


async def test_opening_calls_nothing_and_only_encrypt_and_decrypt_are_ever_called(
    aws_environment: pytest.MonkeyPatch,
) -> None:
    async with loopback.serve(loopback.ciphertext(b"wrapped")) as server, opened(server.url, aws_environment) as kms:
        assert server.targets == []
        assert await kms.wrap(DATA_KEY, CONTEXT) == b"wrapped"
        server.answer = loopback.plaintext(DATA_KEY)
        assert await kms.unwrap(b"wrapped", CONTEXT) == DATA_KEY
    assert server.targets == ["TrentService.Encrypt", "TrentService.Decrypt"]
    assert b'"KeyId"' not in server.bodies[1]


@pytest.mark.parametrize("arn", ["arn:" + "x" * 3000, "arn:aws\n", "not-an-arn"])
async def test_a_strange_arn_is_not_taken_for_the_wrapping_keys(aws_environment: pytest.MonkeyPatch, arn: str) -> None:
    async with (
        loopback.serve(loopback.ciphertext(b"wrapped", arn)) as server,
        opened(server.url, aws_environment) as kms,
    ):
        await kms.wrap(DATA_KEY, CONTEXT)
        assert kms.kek_id == "alias/sidekey"


async def test_a_cancelled_call_leaves_the_client_usable(aws_environment: pytest.MonkeyPatch) -> None:
    async with loopback.serve(loopback.plaintext(DATA_KEY)) as server:
        server.first = [loopback.hang]
        async with opened(server.url, aws_environment) as kms:
            call = asyncio.create_task(kms.unwrap(b"wrapped", CONTEXT))
            await server.called.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await kms.unwrap(b"wrapped", CONTEXT) == DATA_KEY
