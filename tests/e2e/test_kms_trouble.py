"""A KMS that denies, is disabled, throttles, hangs, breaks or is not there: at the start, and while values are served.

The KMS is moto's, through the real HTTP API; the trouble is put before it.
"""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e.conftest import KmsApi
from tests.kms.loopback import Answer, error, hang, reset
from tests.rpc.batches import rows_of, values
from tests.rpc.running import Running, refusal, running, until

TROUBLE: dict[str, tuple[Answer, grpc.StatusCode, str]] = {
    "denied": (error(400, "AccessDeniedException"), grpc.StatusCode.PERMISSION_DENIED, "KMS_ACCESS_DENIED"),
    "disabled": (error(400, "DisabledException"), grpc.StatusCode.FAILED_PRECONDITION, "KMS_KEY_DISABLED"),
    "throttled": (error(400, "ThrottlingException"), grpc.StatusCode.UNAVAILABLE, "KMS_THROTTLED"),
    "hanging": (hang, grpc.StatusCode.UNAVAILABLE, "KMS_UNAVAILABLE"),
    "reset": (reset, grpc.StatusCode.UNAVAILABLE, "KMS_UNAVAILABLE"),
    "broken": (error(500, "KMSInternalException"), grpc.StatusCode.UNAVAILABLE, "KMS_UNAVAILABLE"),
}
IN_TROUBLE = pytest.mark.parametrize(("answer", "code", "reason"), TROUBLE.values(), ids=TROUBLE)


def _settings(answer: Answer | None = None, more: dict[str, Any] | None = None) -> dict[str, Any]:
    # A throttled call is tried once more, after up to a second; one that hangs need not take longer than the test.
    return {
        "keyrings": {"*": {}},
        "kms.deadlineSeconds": 0.3 if answer is hang else 3.0,
        "cache.unknownKeySeconds": 0.05,
        **(more or {}),
    }


async def _serving(it: Running) -> bool:
    return await it.caller.status() == "SERVING"


async def _readiness(it: Running) -> tuple[int, str]:
    status, text = await it.page("/readyz")
    return status, json.loads(text)["kms"]


@IN_TROUBLE
async def test_a_start_in_trouble_is_alive_and_not_ready_until_the_kms_is_back(
    tmp_path: Path, kms_api: KmsApi, answer: Answer, code: grpc.StatusCode, reason: str
) -> None:
    kms_api.loopback.answer = answer
    async with running(tmp_path / "data", _settings(answer), config=kms_api.config) as it:
        assert await it.caller.status("") == "SERVING"
        assert await it.caller.status() == "NOT_SERVING"
        assert await it.page("/livez") == (200, "ok")
        assert (await _readiness(it))[0] == 503
        refused = await refusal(it.caller.encrypt(values(b"v")))
        assert (refused.code, refused.reason) == (code, reason)
        assert "vendor-text" not in refused.text
        kms_api.loopback.answer = kms_api.forward
        await until(lambda: _serving(it))
        assert await _readiness(it) == (200, "ok")
        await it.caller.still_serves()


@IN_TROUBLE
async def test_trouble_while_serving_spares_warm_keys_and_tells_the_truth_of_cold_ones(
    tmp_path: Path, kms_api: KmsApi, answer: Answer, code: grpc.StatusCode, reason: str
) -> None:
    async with running(tmp_path / "data", _settings(answer), config=kms_api.config) as it:
        (cold,) = await it.caller.sealed(b"cold", keyring="cold")
    async with running(tmp_path / "data", _settings(answer), config=kms_api.config) as it:
        await it.caller.still_serves()
        kms_api.loopback.answer = answer
        refused = await refusal(it.caller.decrypt(values(cold)))
        # What a row says of an outage is that its data key is unavailable; what an operator must do is kept apart.
        of_row = {"KMS_KEY_DISABLED": "KEY_DISABLED", "KMS_ACCESS_DENIED": "KMS_ACCESS_DENIED"}
        assert (refused.code, refused.reason) == (code, of_row.get(reason, "KEY_UNAVAILABLE"))
        assert "vendor-text" not in refused.text
        await it.caller.still_serves()
        assert await it.caller.status() == "SERVING"
        assert (await it.page("/readyz"))[0] == 200
        kms_api.loopback.answer = kms_api.forward
        await asyncio.sleep(1.0)  # as long as a failure that may pass is remembered, and longer than a refusal is
        assert rows_of(await it.caller.decrypt(values(cold))) == [b"cold"]


async def test_a_kms_that_is_not_there_at_all_is_unavailable(
    tmp_path: Path, kms_api: KmsApi, aws_environment: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    aws_environment.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{port}")
    async with running(tmp_path / "data", _settings(), config=kms_api.config) as it:
        assert await it.caller.status() == "NOT_SERVING"
        refused = await refusal(it.caller.encrypt(values(b"v")))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "KMS_UNAVAILABLE")
        assert str(port) not in refused.text
        assert await it.page("/livez") == (200, "ok")


async def test_an_access_that_is_taken_away_ends_within_the_ttl(tmp_path: Path, kms_api: KmsApi) -> None:
    settings = _settings(more={"cache.ttlSeconds": 0.6, "cache.jitterFraction": 0.0})
    async with running(tmp_path / "data", settings, config=kms_api.config) as it:
        sealed = await it.caller.sealed(b"v")
        kms_api.loopback.answer = error(400, "AccessDeniedException")

        async def is_denied() -> bool:
            try:
                await it.caller.decrypt(values(*sealed))
            except grpc.aio.AioRpcError as refused:
                return refused.code() is grpc.StatusCode.PERMISSION_DENIED
            return False

        await until(is_denied, 2)
        assert await it.metric("sidekey_cache_size") == 0

        async def not_serving() -> bool:
            return not await _serving(it)

        await until(not_serving, 2)
        kms_api.loopback.answer = kms_api.forward
        await until(lambda: _serving(it))
        assert rows_of(await it.caller.decrypt(values(*sealed))) == [b"v"]


async def test_a_busy_key_outlives_an_outage_shorter_than_its_ttl_without_one_failed_call(
    tmp_path: Path, kms_api: KmsApi
) -> None:
    settings = _settings(more={"cache.ttlSeconds": 8.0, "cache.refreshAfterFraction": 0.03})
    async with running(tmp_path / "data", settings, config=kms_api.config) as it:
        sealed = await it.caller.sealed(b"v")
        kms_api.loopback.answer = error(500, "KMSInternalException")
        for _ in range(8):
            await asyncio.sleep(0.05)
            assert rows_of(await it.caller.decrypt(values(*sealed))) == [b"v"]

        async def was_stale() -> bool:
            assert rows_of(await it.caller.decrypt(values(*sealed))) == [b"v"]
            return await it.metric("sidekey_cache_lookups_total", result="stale") > 0

        await until(was_stale, 4)
        kms_api.loopback.answer = kms_api.forward
