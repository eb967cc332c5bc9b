"""Rows that cannot be decrypted: reported beside the rows that can, or the one error of an all-or-nothing call."""

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from sidekey.v1 import encryption_pb2 as pb

from sidecar.errors import CorruptKeyError, KmsDeniedError, KmsDisabledError, KmsThrottledError, SidekeyError
from sidecar.keystore.port import KeyState
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.rpc.batches import Row, fixed, ragged, rows_of, values
from tests.rpc.running import Batch, Caller, Refusal, refusal, running

GOOD = b"a good value"
WIDTH = len(GOOD) + 24
KEYRINGS = ("good", "other", "disabled", "destroyed", "denied", "kms-disabled", "throttled", "corrupt")

# From the worst on: what no retry and no operator can mend comes first.
BY_RANK = (
    ("corrupt", grpc.StatusCode.DATA_LOSS, "CORRUPT_KEY"),
    ("malformed", grpc.StatusCode.DATA_LOSS, "DECRYPT_FAILED"),
    ("other", grpc.StatusCode.FAILED_PRECONDITION, "WRONG_KEYRING"),
    ("destroyed", grpc.StatusCode.FAILED_PRECONDITION, "KEY_DESTROYED"),
    ("disabled", grpc.StatusCode.FAILED_PRECONDITION, "KEY_DISABLED"),
    ("denied", grpc.StatusCode.PERMISSION_DENIED, "KMS_ACCESS_DENIED"),
    ("throttled", grpc.StatusCode.UNAVAILABLE, "KEY_UNAVAILABLE"),
)


class ChoosyKms(FakeKms):
    """Refuses to unwrap the data keys of some keyrings."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, SidekeyError] = {}

    async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
        error = self.refused.get(encryption_context["sidekey:keyring"])
        if error is not None:
            raise error
        return await super().unwrap(wrapped_key, encryption_context)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[Caller, dict[str, bytes]]]:
    """A sidecar that was started again after its data keys met every fate, and a ciphertext for each."""
    keystore, kms = MemoryKeystore(), ChoosyKms()
    settings: dict[str, Any] = {"keyrings": {"*": {}}}
    rows: dict[str, bytes] = {}
    async with running(tmp_path, settings, kms=kms, keystore=keystore) as it:
        for keyring in KEYRINGS:
            (ciphertext,) = await it.caller.sealed(GOOD, keyring=keyring, mode=pb.MODE_DETERMINISTIC)
            assert ciphertext is not None
            rows[keyring] = ciphertext
    for key_id, record in keystore.rows.items():
        if record.keyring in ("disabled", "destroyed"):
            keystore.rows[key_id] = replace(record, state=KeyState(record.keyring))
    kms.refused = {
        "denied": KmsDeniedError("denied"),
        "kms-disabled": KmsDisabledError("disabled"),
        "throttled": KmsThrottledError("throttled"),
        "corrupt": CorruptKeyError("corrupt"),
    }
    rows["flipped"] = rows["good"][:-1] + bytes([rows["good"][-1] ^ 1])
    rows["unknown"] = rows["good"][:1] + os.urandom(7) + rows["good"][8:]
    rows["malformed"] = b"\xfa" + rows["good"][1:]
    async with running(tmp_path, settings, kms=kms, keystore=keystore) as it:
        yield it.caller, rows
        await it.caller.serves_again()


def _shaped(shape: str, rows: list[Row]) -> Batch:
    """The rows as values, as enough values to be no small batch, ragged, or of fixed width."""
    if shape == "ragged":
        return ragged(*rows)
    if shape == "fixed":
        return fixed(*rows, width=WIDTH)
    return values(*rows, *rows[:1] * (40 if shape == "many values" else 0))


SHAPES = pytest.mark.parametrize("shape", ["values", "many values", "ragged", "fixed"])


@SHAPES
async def test_bad_rows_are_listed_and_null_and_good_rows_come_back(
    world: tuple[Caller, dict[str, bytes]], shape: str
) -> None:
    caller, rows = world
    names = ["good", "malformed", "unknown", "disabled", "destroyed", "throttled", "flipped", "denied", "corrupt"]
    batch = _shaped(shape, [rows["good"], None, *(rows[name] for name in names), rows["kms-disabled"], rows["good"]])
    answer = await caller.decrypt(batch, on_error=pb.ON_ERROR_REPORT)
    opened = rows_of(answer)
    assert opened[:13] == [GOOD, None, GOOD, *[None] * 9, GOOD]
    assert opened[13:] == ([GOOD] * 40 if shape == "many values" else [])
    listed = [(it.row, pb.RowErrorCode.Name(it.code), it.retryable) for it in answer.row_errors]
    assert listed == [
        (3, "ROW_ERROR_CODE_MALFORMED", False),
        (4, "ROW_ERROR_CODE_UNKNOWN_KEY", False),
        (5, "ROW_ERROR_CODE_KEY_DISABLED", False),
        (6, "ROW_ERROR_CODE_KEY_DESTROYED", False),
        (7, "ROW_ERROR_CODE_KEY_UNAVAILABLE", True),
        (8, "ROW_ERROR_CODE_AUTHENTICATION_FAILED", False),
        (9, "ROW_ERROR_CODE_PERMISSION_DENIED", False),
        (10, "ROW_ERROR_CODE_KEY_UNAVAILABLE", False),  # corrupt, which no retry mends
        (11, "ROW_ERROR_CODE_KEY_DISABLED", False),
    ]


@SHAPES
async def test_a_row_of_another_keyring_is_an_error_where_a_keyring_was_named(
    world: tuple[Caller, dict[str, bytes]], shape: str
) -> None:
    caller, rows = world
    batch = _shaped(shape, [rows["good"], rows["other"], rows["good"]])
    answer = await caller.decrypt(batch, keyring="good", on_error=pb.ON_ERROR_REPORT)
    assert rows_of(answer)[:3] == [GOOD, None, GOOD]
    assert [(it.row, it.code) for it in answer.row_errors] == [(1, pb.ROW_ERROR_CODE_WRONG_KEYRING)]
    assert rows_of(await caller.decrypt(batch))[:3] == [GOOD] * 3


@pytest.mark.parametrize("rank", range(len(BY_RANK)), ids=[name for name, _, _ in BY_RANK])
async def test_an_all_or_nothing_call_fails_with_the_worst_of_its_rows(
    world: tuple[Caller, dict[str, bytes]], rank: int
) -> None:
    caller, rows = world
    _, code, reason = BY_RANK[rank]
    present = [name for name, _, _ in reversed(BY_RANK[rank:])]
    for batch in (values(rows["good"], *(rows[name] for name in present)), ragged(*(rows[name] for name in present))):
        refused = await refusal(caller.decrypt(batch, keyring="good"))
        assert (refused.code, refused.reason) == (code, reason)
        assert refused.text.startswith(f"{len(present)} rows cannot be decrypted (row ")


@SHAPES
async def test_the_error_of_a_call_names_the_first_ten_rows(world: tuple[Caller, dict[str, bytes]], shape: str) -> None:
    caller, rows = world
    refused = await refusal(caller.decrypt(_shaped(shape, [rows["good"], None, *[rows["flipped"]] * 12])))
    named = ", ".join(f"row {row}: AUTHENTICATION_FAILED" for row in range(2, 12))
    text = f"12 rows cannot be decrypted ({named}, and 2 more)"
    assert refused == Refusal(grpc.StatusCode.DATA_LOSS, "DECRYPT_FAILED", text)


MALFORMED = {
    "empty": b"",
    "a byte": b"\xf8",
    "a header alone": b"\xf8" + b"\x01" * 7,
    "one byte short of an empty value": b"\xf8" + b"\x01" * 22,
    "one byte short, randomized": b"\xf9" + b"\x01" * 38,
    "suite 0": bytes(40),
    "a reserved suite": b"\xfa" + b"\x01" * 60,
    "text": b"some text that nobody has encrypted yet, but somebody decrypts",
    "key id of zeros": b"\xf8" + bytes(7) + b"\x01" * 40,
}


@pytest.mark.parametrize("row", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_ciphertext_is_malformed_and_its_neighbours_are_fine(caller: Caller, row: bytes) -> None:
    (good,) = await caller.sealed(GOOD)
    for batch in (values(good, row, good), ragged(good, row, good), values(*[good] * 40, row)):
        answer = await caller.decrypt(batch, on_error=pb.ON_ERROR_REPORT)
        (error,) = answer.row_errors
        assert (error.code, error.retryable) == (pb.ROW_ERROR_CODE_MALFORMED, False)
        opened = rows_of(answer)
        assert opened.pop(error.row) is None
        assert set(opened) == {GOOD}
    refused = await refusal(caller.decrypt(values(good, row)))
    text = "1 rows cannot be decrypted (row 1: MALFORMED)"
    assert refused == Refusal(grpc.StatusCode.DATA_LOSS, "DECRYPT_FAILED", text)


@SHAPES
async def test_a_value_under_other_associated_data_is_not_authentic(caller: Caller, shape: str) -> None:
    sealed = await caller.sealed(*[GOOD] * 2, associated_data=b"table/a", mode=pb.MODE_DETERMINISTIC)
    for other in (b"", b"table/b", b"table/a\0", b"table/"):
        answer = await caller.decrypt(_shaped(shape, sealed), associated_data=other, on_error=pb.ON_ERROR_REPORT)
        assert {it.code for it in answer.row_errors} == {pb.ROW_ERROR_CODE_AUTHENTICATION_FAILED}
        assert set(rows_of(answer)) == {None}
        assert len(answer.row_errors) == len(rows_of(answer))


async def test_every_way_to_cut_a_ciphertext_fails_that_row_alone(caller: Caller) -> None:
    (whole,) = await caller.sealed(GOOD, mode=pb.MODE_DETERMINISTIC)
    assert whole is not None
    cuts: list[Row] = [whole[:size] for size in range(len(whole))]
    answer = await caller.decrypt(ragged(whole, *cuts), on_error=pb.ON_ERROR_REPORT)
    assert rows_of(answer) == [GOOD, *[None] * len(cuts)]
    codes = [it.code for it in answer.row_errors]
    assert codes == [pb.ROW_ERROR_CODE_MALFORMED] * 24 + [pb.ROW_ERROR_CODE_AUTHENTICATION_FAILED] * len(GOOD)


async def test_null_rows_are_never_errors_whatever_lies_beneath_them(caller: Caller) -> None:
    column = pb.ColumnBatch(data=b"noise" * 3, byte_width=5, validity=b"\0")
    for batch in (column, pb.ValueBatch(values=[b"noise"] * 3, validity=b"\0"), ragged(None, None, None)):
        answer = await caller.decrypt(batch)
        assert rows_of(answer) == [None] * 3
        assert not answer.row_errors
