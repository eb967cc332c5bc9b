"""How often the KMS is asked: once a data key when cold, however many ask at once, and never by a warm hot path."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.e2e.conftest import KmsApi
from tests.rpc.batches import Row, rows_of, values
from tests.rpc.running import Caller, Running, connected, running

PROBE = "0" * 14
CALLS = 400
KEYRINGS = ("default", "sales", "hr")


def _asked(kms_api: KmsApi) -> Counter[tuple[str, str]]:
    """Calls by operation and the key id in their encryption context."""
    targets = [target.removeprefix("TrentService.") for target in kms_api.loopback.targets]
    contexts = [json.loads(body)["EncryptionContext"] for body in kms_api.loopback.bodies]
    return Counter(zip(targets, (context["sidekey:key-id"] for context in contexts), strict=True))


async def _callers(it: Running, stack: AsyncExitStack) -> list[Caller]:
    return [await stack.enter_async_context(connected(it.address)) for _ in range(4)]


async def test_400_calls_on_a_cold_cache_make_one_decrypt_a_data_key_and_warm_ones_none(
    tmp_path: Path, kms_api: KmsApi
) -> None:
    settings: dict[str, Any] = {"keyrings": {"*": {}}}
    sealed: dict[str, list[Row]] = {}
    async with running(tmp_path / "data", settings, config=kms_api.config) as it:
        for keyring in KEYRINGS:
            sealed[keyring] = await it.caller.sealed(keyring.encode(), keyring=keyring)
    key_ids = {rows[0][1:8].hex() for rows in sealed.values() if rows[0]}
    assert len(key_ids) == len(KEYRINGS)

    async with running(tmp_path / "data", settings, config=kms_api.config) as it, AsyncExitStack() as stack:
        assert _asked(kms_api)["Decrypt", PROBE] == _asked(kms_api)["Encrypt", PROBE] == 2  # one a start
        kms_api.loopback.targets.clear()
        kms_api.loopback.bodies.clear()
        callers = await _callers(it, stack)

        async def call(number: int) -> None:
            caller, keyring = callers[number % len(callers)], KEYRINGS[number % len(KEYRINGS)]
            if number % 2:
                assert rows_of(await caller.decrypt(values(*sealed[keyring]))) == [keyring.encode()]
            else:
                assert len(await caller.sealed(b"v", keyring=keyring)) == 1

        await asyncio.gather(*map(call, range(CALLS)))
        assert _asked(kms_api) == {("Decrypt", key_id): 1 for key_id in key_ids}
        await asyncio.gather(*map(call, range(CALLS)))
        assert _asked(kms_api) == {("Decrypt", key_id): 1 for key_id in key_ids}
        assert await it.metric("sidekey_kms_calls_total", kms="awsKms", operation="unwrap", result="ok") == 1 + len(
            key_ids
        )
        assert await it.metric("sidekey_kms_calls_total", kms="awsKms", operation="wrap", result="ok") == 1


async def test_400_first_calls_of_a_new_keyring_make_one_data_key(tmp_path: Path, kms_api: KmsApi) -> None:
    async with running(tmp_path / "data", config=kms_api.config) as it:
        sealed = await asyncio.gather(*(it.caller.sealed(b"v") for _ in range(CALLS)))
        (key_id,) = {rows[0][1:8].hex() for rows in sealed if rows[0]}
        # A new data key is unwrapped once before it is used: a KMS that only wraps would cost every value.
        asked = {key: count for key, count in _asked(kms_api).items() if key[1] != PROBE}
        assert asked == {("Encrypt", key_id): 1, ("Decrypt", key_id): 1}


async def test_an_idle_sidecar_asks_the_kms_for_nothing(tmp_path: Path, kms_api: KmsApi) -> None:
    settings = {"cache.ttlSeconds": 0.2}
    async with running(tmp_path / "data", settings, config=kms_api.config) as it:
        await it.caller.still_serves()
        await asyncio.sleep(0.3)
        before = _asked(kms_api)
        await asyncio.sleep(0.7)
        assert _asked(kms_api) == before
        await it.caller.still_serves()
