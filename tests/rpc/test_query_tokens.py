"""QueryTokens: what Encrypt gives deterministically, under every live data key, the newest first."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sidekey.v1 import encryption_pb2 as pb
from sidekey.v1 import keyring_pb2

from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.rpc.batches import Row, fixed, ragged, rows_of, values
from tests.rpc.running import Batch, Caller, Running, refusal, running

SETTINGS: dict[str, Any] = {
    "server.manageKeys": True,
    "keyrings": {"default": {}, "other": {}, "closed": {"allowDeterministic": False}},
}
ROWS: list[Row] = [b"12345678", None, b"abcdefgh", b"12345678"]
SHAPES = pytest.mark.parametrize(
    ("batch", "times"),
    [
        (values(*ROWS), 1),
        (values(*ROWS * 30), 30),
        (values(*ROWS[2:]), 0),
        (ragged(*ROWS), 1),
        (fixed(*ROWS, width=8), 1),
    ],
    ids=["values", "many values", "few values", "ragged", "fixed"],
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[Running, MemoryKeystore]]:
    """A sidecar that lets its keyrings be rotated."""
    keystore = MemoryKeystore()
    async with running(tmp_path, SETTINGS, kms=FakeKms(), keystore=keystore) as it:
        yield it, keystore
        await it.caller.still_serves()
        assert await it.metric("sidekey_bytes_in_flight") == 0


async def deterministic(caller: Caller, batch: Batch, **fields: Any) -> list[Row]:
    return rows_of(await caller.encrypt(batch, mode=pb.MODE_DETERMINISTIC, **fields))


@SHAPES
async def test_every_live_data_key_gives_what_it_gave_when_it_was_the_primary(
    world: tuple[Running, MemoryKeystore], batch: Batch, times: int
) -> None:
    caller = world[0].caller
    history = [await deterministic(caller, batch, associated_data=b"users.ssn")]
    for _ in range(3):
        await caller.rotate()
        history.insert(0, await deterministic(caller, batch, associated_data=b"users.ssn"))
    answer = await caller.query_tokens(batch, associated_data=b"users.ssn")
    assert [rows_of(tokens) for tokens in answer.tokens] == history
    assert [tokens.generation for tokens in answer.tokens] == [4, 3, 2, 1]
    for tokens, rows in zip(answer.tokens, history, strict=True):
        assert {row[1:8].hex() for row in rows if row is not None} == {tokens.key_id}
        assert tokens.WhichOneof("batch") == ("values" if isinstance(batch, pb.ValueBatch) else "column")
        assert tokens.column.byte_width == (32 if batch == fixed(*ROWS, width=8) else 0)
        assert len(rows) == (4 * times or 2)


async def test_a_disabled_data_key_gives_none_until_it_is_enabled_again(
    world: tuple[Running, MemoryKeystore],
) -> None:
    caller = world[0].caller
    await caller.sealed(b"v")
    await caller.rotate()
    newest, oldest = [tokens.key_id for tokens in (await caller.query_tokens(values(b"v"))).tokens]
    for state, live in ((keyring_pb2.KEY_STATE_DISABLED, [newest]), (keyring_pb2.KEY_STATE_ENABLED, [newest, oldest])):
        await caller.keyrings.SetKeyState(keyring_pb2.SetKeyStateRequest(key_id=oldest, state=state), timeout=20)
        assert [tokens.key_id for tokens in (await caller.query_tokens(values(b"v"))).tokens] == live


@pytest.mark.parametrize(
    "batch", [values(), values(None), ragged(), ragged(None, None), fixed(width=5), fixed(None, width=5)]
)
async def test_nothing_and_nulls_alone_keep_their_shape(world: tuple[Running, MemoryKeystore], batch: Batch) -> None:
    caller = world[0].caller
    await caller.sealed(b"v")
    await caller.rotate()
    answer = await caller.query_tokens(batch)
    assert len(answer.tokens) == 2
    for tokens in answer.tokens:
        assert rows_of(tokens) == await deterministic(caller, batch)
        assert tokens.WhichOneof("batch") == ("values" if isinstance(batch, pb.ValueBatch) else "column")


@pytest.mark.parametrize(
    ("batch", "fields", "code", "reason"),
    [
        (None, {}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_BATCH"),
        (values(b"x"), {"keyring": "No"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        (values(b"x"), {"associated_data": bytes(2**16 + 1)}, grpc.StatusCode.INVALID_ARGUMENT, "VALUE_TOO_LARGE"),
        (values(bytes(2**23 + 1)), {}, grpc.StatusCode.INVALID_ARGUMENT, "VALUE_TOO_LARGE"),
        (values(b"x"), {"keyring": "closed"}, grpc.StatusCode.INVALID_ARGUMENT, "MODE_NOT_ALLOWED"),
        (values(b"x"), {"keyring": "unheard"}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_KEYRING"),
    ],
)
async def test_what_does_not_hold_together_is_refused(
    world: tuple[Running, MemoryKeystore],
    batch: Batch | None,
    fields: dict[str, Any],
    code: grpc.StatusCode,
    reason: str,
) -> None:
    refused = await refusal(world[0].caller.query_tokens(batch, **fields))
    assert (refused.code, refused.reason) == (code, reason)


async def test_an_answer_that_would_be_too_long_is_refused_before_any_work(tmp_path: Path) -> None:
    settings = {**SETTINGS, "server.maxMessageBytes": 2**20}
    batch = fixed(*[b"12345678"] * 20_000, width=8)
    async with running(tmp_path, settings, kms=FakeKms()) as it:
        assert len((await it.caller.query_tokens(batch)).tokens) == 1
        await it.caller.rotate()
        refused = await refusal(it.caller.query_tokens(batch))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert await it.metric("sidekey_values_total", direction="query", mode="deterministic") == 20_000


async def test_a_query_is_traffic_but_no_use_of_a_data_key(tmp_path: Path) -> None:
    keystore = MemoryKeystore()
    async with running(tmp_path, SETTINGS, kms=FakeKms(), keystore=keystore) as it:
        await it.caller.sealed(b"value")
        await it.caller.rotate()
        for batch in (values(b"value", None), ragged(b"value", None), fixed(b"value", None, width=5)):
            await it.caller.query_tokens(batch)
        assert await it.metric("sidekey_values_total", direction="query", mode="deterministic") == 6
        assert await it.metric("sidekey_value_bytes_total", direction="query", mode="deterministic") == 30
    counted = {row.generation: (row.values_encrypted, row.values_decrypted) for row in keystore.rows.values()}
    assert counted == {1: (1, 0), 2: (0, 0)}


async def test_the_keyrings_default_mode_is_what_a_request_without_one_gets(tmp_path: Path) -> None:
    settings = {"keyrings": {"default": {}, "joined": {"defaultMode": "deterministic"}}}
    async with running(tmp_path, settings, kms=FakeKms()) as it:
        for rows in ([b"v"], [b"v", None], [b"v"] * 60):
            for keyring, suite in (("default", 0xF9), ("joined", 0xF8)):
                sealed = await it.caller.sealed(*rows, keyring=keyring)
                assert {row[0] for row in sealed if row} == {suite}
            randomized = await it.caller.sealed(*rows, keyring="joined", mode=pb.MODE_RANDOMIZED)
            assert {row[0] for row in randomized if row} == {0xF9}
