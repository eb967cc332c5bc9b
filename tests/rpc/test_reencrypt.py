"""Reencrypt: what decrypting and encrypting give, in every shape, with bad rows, and counted on both sides."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sidekey.v1 import encryption_pb2 as pb

from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.rpc.batches import Row, fixed, ragged, rows_of, values
from tests.rpc.running import Batch, Caller, Refusal, Running, refusal, running

SETTINGS: dict[str, Any] = {
    "server.manageKeys": True,
    "keyrings": {"default": {}, "other": {}, "closed": {"allowDeterministic": False}},
}
VALUE = b"a good value"
WIDTHS = {pb.MODE_DETERMINISTIC: len(VALUE) + 24, pb.MODE_RANDOMIZED: len(VALUE) + 40}
MODES = tuple(WIDTHS)
SHAPES = pytest.mark.parametrize("shape", ["values", "many values", "ragged", "fixed"])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[Running, MemoryKeystore]]:
    """A sidecar that lets its keyrings be rotated."""
    keystore = MemoryKeystore()
    async with running(tmp_path, SETTINGS, kms=FakeKms(), keystore=keystore) as it:
        yield it, keystore
        await it.caller.still_serves()
        assert await it.metric("sidekey_bytes_in_flight") == 0


def shaped(shape: str, rows: list[Row]) -> Batch:
    """The rows, some of them often enough to be no small batch, ragged, or as wide as the first of them."""
    if shape == "ragged":
        return ragged(*rows)
    if shape == "fixed":
        return fixed(*rows, width=len(next(row for row in rows if row is not None)))
    return values(*rows * (1 if shape == "values" else 30))


async def opened(caller: Caller, answer: pb.ReencryptResponse, **fields: Any) -> list[Row]:
    """The values in an answer."""
    batch = answer.values if answer.WhichOneof("batch") == "values" else answer.column
    return rows_of(await caller.decrypt(batch, **fields))


def key_ids(rows: list[Row]) -> set[str]:
    return {row[1:8].hex() for row in rows if row is not None}


@SHAPES
@pytest.mark.parametrize("mode", MODES)
async def test_rows_from_before_a_rotation_come_back_under_the_primary_and_the_others_as_they_are(
    world: tuple[Running, MemoryKeystore], shape: str, mode: pb.Mode
) -> None:
    caller = world[0].caller
    old = await caller.sealed(VALUE, VALUE, mode=mode)
    primary = await caller.rotate()
    new = await caller.sealed(VALUE, mode=mode)
    batch = shaped(shape, [old[0], None, new[0], old[1]])
    answer = await caller.reencrypt(batch)
    assert answer.WhichOneof("batch") == ("values" if "values" in shape else "column")
    assert answer.column.byte_width == (WIDTHS[mode] if shape == "fixed" else 0)
    rows = rows_of(answer)
    assert key_ids(rows) == {primary.key_id}
    assert [row and len(row) for row in rows[:4]] == [WIDTHS[mode], None, WIDTHS[mode], WIDTHS[mode]]
    assert rows[2] == new[0]
    assert answer.unchanged == len(rows) // 4
    assert not answer.row_errors
    assert await opened(caller, answer) == [VALUE, None, VALUE, VALUE] * (len(rows) // 4)
    again = await caller.reencrypt(shaped("ragged", rows))
    assert (rows_of(again), again.unchanged) == (rows, 3 * len(rows) // 4)


@SHAPES
@pytest.mark.parametrize(("mode", "to"), [MODES, MODES[::-1]])
async def test_another_mode_changes_the_width_and_nothing_else(
    world: tuple[Running, MemoryKeystore], shape: str, mode: pb.Mode, to: pb.Mode
) -> None:
    caller = world[0].caller
    rows = [*await caller.sealed(VALUE, VALUE, mode=mode), None]
    answer = await caller.reencrypt(shaped(shape, rows), to_mode=to)
    assert {len(row) for row in rows_of(answer) if row is not None} == {WIDTHS[to]}
    assert answer.column.byte_width == (WIDTHS[to] if shape == "fixed" else 0)
    assert answer.unchanged == 0
    assert (await opened(caller, answer))[:3] == [VALUE, VALUE, None]


async def test_modes_stand_together_and_each_row_keeps_its_own(world: tuple[Running, MemoryKeystore]) -> None:
    caller = world[0].caller
    rows = [row for mode in MODES for row in await caller.sealed(b"", b"x" * 40, mode=mode)]
    await caller.rotate()
    answer = await caller.reencrypt(ragged(*rows))
    assert [row[0] for row in rows_of(answer) if row] == [row[0] for row in rows if row]
    assert await opened(caller, answer) == [b"", b"x" * 40] * 2


@pytest.mark.parametrize(
    ("fields", "keyring", "associated_data"),
    [
        ({}, "default", b"old"),
        ({"to_associated_data": b"new"}, "default", b"new"),
        ({"to_associated_data": b""}, "default", b""),
        ({"keyring": "default"}, "default", b"old"),
        ({"to_keyring": "other"}, "other", b"old"),
        ({"keyring": "default", "to_keyring": "other", "to_associated_data": b"new"}, "other", b"new"),
    ],
)
async def test_the_answer_is_bound_to_what_was_asked_for(
    world: tuple[Running, MemoryKeystore], fields: dict[str, Any], keyring: str, associated_data: bytes
) -> None:
    caller, keystore = world[0].caller, world[1]
    rows = await caller.sealed(VALUE, None, associated_data=b"old")
    answer = await caller.reencrypt(values(*rows), associated_data=b"old", **fields)
    assert {keystore.rows[key_id].keyring for key_id in key_ids(rows_of(answer))} == {keyring}
    assert answer.unchanged == ((keyring, associated_data) == ("default", b"old"))
    assert await opened(caller, answer, associated_data=associated_data) == [VALUE, None]


async def test_rows_of_a_named_keyring_stay_in_it(world: tuple[Running, MemoryKeystore]) -> None:
    caller = world[0].caller
    rows = await caller.sealed(VALUE, keyring="other")
    primary = await caller.rotate("other")
    answer = await caller.reencrypt(values(*rows), keyring="other")
    assert key_ids(rows_of(answer)) == {primary.key_id}
    assert await refusal(caller.reencrypt(values(*rows), keyring="default")) == Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        "WRONG_KEYRING",
        "1 rows cannot be decrypted (row 0: WRONG_KEYRING)",
    )


@SHAPES
async def test_bad_rows_are_listed_and_null_or_fail_the_call(world: tuple[Running, MemoryKeystore], shape: str) -> None:
    caller = world[0].caller
    (good,) = await caller.sealed(VALUE)
    assert good is not None
    await caller.rotate()
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    unknown = good[:1] + os.urandom(7) + good[8:]
    batch = shaped(shape, [good, flipped, None, b"\x00" + good[1:], unknown])
    answer = await caller.reencrypt(batch, on_error=pb.ON_ERROR_REPORT)
    listed = [(it.row, it.code, it.retryable) for it in answer.row_errors]
    assert listed[:3] == [
        (1, pb.ROW_ERROR_CODE_AUTHENTICATION_FAILED, False),
        (3, pb.ROW_ERROR_CODE_MALFORMED, False),
        (4, pb.ROW_ERROR_CODE_UNKNOWN_KEY, False),
    ]
    assert (await opened(caller, answer))[:5] == [VALUE, None, None, None, None]
    refused = await refusal(caller.reencrypt(batch))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "DECRYPT_FAILED")
    assert "row 1: AUTHENTICATION_FAILED, row 3: MALFORMED, row 4: UNKNOWN_KEY" in refused.text


@pytest.mark.parametrize("bad_row", [None, 1])
async def test_a_row_under_the_primary_that_is_damaged_is_no_unchanged_row(
    world: tuple[Running, MemoryKeystore], bad_row: int | None
) -> None:
    caller = world[0].caller
    rows = await caller.sealed(*[VALUE] * 3)
    if bad_row is not None:
        rows[bad_row] = (rows[bad_row] or b"")[:-1] + b"\0\0"
    answer = await caller.reencrypt(ragged(*rows), on_error=pb.ON_ERROR_REPORT)
    assert [it.row for it in answer.row_errors] == ([] if bad_row is None else [bad_row])
    assert answer.unchanged == 3 - len(answer.row_errors)


async def test_a_keyring_that_forbids_the_deterministic_mode_takes_no_such_row(
    world: tuple[Running, MemoryKeystore],
) -> None:
    caller = world[0].caller
    (deterministic,) = await caller.sealed(VALUE, mode=pb.MODE_DETERMINISTIC)
    (randomized,) = await caller.sealed(VALUE)
    both = ragged(randomized, deterministic)
    for batch, fields in (
        (both, {}),
        (values(deterministic), {}),
        (values(randomized), {"to_mode": pb.MODE_DETERMINISTIC}),
    ):
        refused = await refusal(caller.reencrypt(batch, to_keyring="closed", **fields))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MODE_NOT_ALLOWED")
    answer = await caller.reencrypt(both, to_keyring="closed", to_mode=pb.MODE_RANDOMIZED)
    assert await opened(caller, answer, keyring="closed") == [VALUE, VALUE]


@pytest.mark.parametrize(
    ("batch", "fields", "reason"),
    [
        (None, {}, "INVALID_BATCH"),
        (values(b"x"), {"to_mode": 9}, "UNKNOWN_MODE"),
        (values(b"x"), {"on_error": 9}, "UNKNOWN_MODE"),
        (values(b"x"), {"keyring": "No"}, "INVALID_REQUEST"),
        (values(b"x"), {"to_keyring": "No"}, "INVALID_REQUEST"),
        (values(b"x"), {"associated_data": bytes(2**16 + 1)}, "VALUE_TOO_LARGE"),
        (values(b"x"), {"to_associated_data": bytes(2**16 + 1)}, "VALUE_TOO_LARGE"),
        (values(b"x"), {"to_keyring": "unheard"}, "UNKNOWN_KEYRING"),
    ],
)
async def test_what_does_not_hold_together_is_refused(
    world: tuple[Running, MemoryKeystore], batch: Batch | None, fields: dict[str, Any], reason: str
) -> None:
    assert (await refusal(world[0].caller.reencrypt(batch, **fields))).reason == reason


@SHAPES
async def test_nothing_and_nulls_alone_keep_their_shape(world: tuple[Running, MemoryKeystore], shape: str) -> None:
    caller = world[0].caller
    empty: list[list[Row]] = [[], [None], [None] * 40]
    for rows in empty:
        batch = fixed(*rows, width=41) if shape == "fixed" else shaped(shape, rows)
        for to in (pb.MODE_UNSPECIFIED, *MODES):
            answer = await caller.reencrypt(batch, to_mode=to)
            assert rows_of(answer) == rows * (30 if shape == "many values" else 1)
            assert answer.WhichOneof("batch") == ("values" if "values" in shape else "column")
            assert answer.column.byte_width == (41 if shape == "fixed" else 0)


async def test_an_answer_that_would_be_too_long_is_refused_before_any_work(tmp_path: Path) -> None:
    keystore = MemoryKeystore()
    settings = {**SETTINGS, "server.maxMessageBytes": 2**20}
    async with running(tmp_path, settings, kms=FakeKms(), keystore=keystore) as it:
        batch = await it.caller.encrypt(fixed(*[b"12345678"] * 30_000, width=8), mode=pb.MODE_DETERMINISTIC)
        asked = keystore.calls.get("get", 0)
        refused = await refusal(it.caller.reencrypt(batch.column, to_mode=pb.MODE_RANDOMIZED, to_keyring="other"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert keystore.calls.get("get", 0) == asked
        assert {row.keyring for row in keystore.rows.values()} == {"default"}
        answer = await it.caller.reencrypt(batch.column)
        assert answer.unchanged == 30_000


async def test_both_data_keys_uses_and_the_traffic_are_counted(tmp_path: Path) -> None:
    keystore = MemoryKeystore()
    async with running(tmp_path, SETTINGS, kms=FakeKms(), keystore=keystore) as it:
        old = await it.caller.sealed(*[VALUE] * 5, None)
        await it.caller.rotate()
        new = await it.caller.sealed(*[VALUE] * 3)
        bad = (old[0] or b"")[:-1] + b"\0\0"
        await it.caller.reencrypt(ragged(*old, *new, bad), on_error=pb.ON_ERROR_REPORT)
        labels = {"direction": "reencrypt", "mode": "randomized"}
        assert await it.metric("sidekey_values_total", **labels) == 8
        assert await it.metric("sidekey_value_bytes_total", **labels) == 8 * len(VALUE)
        assert await it.metric("sidekey_row_errors_total", code="AUTHENTICATION_FAILED") == 1
    counted = {row.generation: (row.values_encrypted, row.values_decrypted) for row in keystore.rows.values()}
    assert counted == {1: (5, 5), 2: (3 + 5, 3)}


async def test_decrypted_values_are_counted_by_data_key(tmp_path: Path) -> None:
    keystore = MemoryKeystore()
    async with running(tmp_path, SETTINGS, kms=FakeKms(), keystore=keystore) as it:
        old = await it.caller.sealed(*[VALUE] * 5, None)
        await it.caller.rotate()
        new = await it.caller.sealed(*[VALUE] * 3)
        for batch in (values(*old[:5], *new), values(*old, *new), ragged(*new, None), fixed(*old, width=52)):
            await it.caller.decrypt(batch)
        await it.caller.decrypt(values(*new, b"noise"), on_error=pb.ON_ERROR_REPORT)
    counted = {row.generation: (row.values_encrypted, row.values_decrypted) for row in keystore.rows.values()}
    assert counted == {1: (5, 15), 2: (3, 12)}
