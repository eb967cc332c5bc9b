"""What a caller gets for a request that does not hold together: INVALID_ARGUMENT, a reason, words that say where."""

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from sidekey.v1 import encryption_pb2 as pb

from tests.rpc.batches import fixed, offsets, ragged, rows_of, values
from tests.rpc.running import Batch, Caller, Refusal, refusal, running

ENCRYPT = "/sidekey.v1.EncryptionService/Encrypt"
DECRYPT = "/sidekey.v1.EncryptionService/Decrypt"
SECRET = b"marked value, never quoted"


def _column(**fields: Any) -> pb.ColumnBatch:
    return pb.ColumnBatch(**fields)


BAD_BATCHES: dict[str, tuple[Batch | None, str]] = {
    "no batch": (None, "the request has no batch; set values or column"),
    "offsets and byte_width": (
        _column(data=SECRET, offsets=offsets(0, 26), byte_width=26),
        "the column has offsets and byte_width; set one of them",
    ),
    "data alone": (
        _column(data=SECRET),
        "the column has data but neither offsets nor a byte_width above 0; set one of them",
    ),
    "zero byte_width with data": (
        _column(data=SECRET, byte_width=0),
        "the column has data but neither offsets nor a byte_width above 0; set one of them",
    ),
    "absurd byte_width": (
        _column(byte_width=2**32 - 1),
        "byte_width 4294967295 is more than the 8388648 bytes that a row may have",
    ),
    "byte_width that does not divide": (
        _column(data=SECRET, byte_width=4),
        "byte_width 4 does not divide the data's 26 bytes into whole rows",
    ),
    "byte_width longer than the data": (
        _column(data=b"abc", byte_width=4),
        "byte_width 4 does not divide the data's 3 bytes into whole rows",
    ),
    "odd offsets": (
        _column(data=b"abc", offsets=b"\0\0\0\0\3\0\0"),
        "offsets have 7 bytes; int32 takes a multiple of 4",
    ),
    "offsets that fall": (
        _column(data=b"abcdef", offsets=offsets(0, 4, 2, 6)),
        "offsets fall at row 1; each must be at least the one before",
    ),
    "offsets that overrun and come back": (
        _column(data=b"abcdef", offsets=offsets(0, 2**31 - 1, 6)),
        "offsets fall at row 1; each must be at least the one before",
    ),
    "offsets that overrun": (
        _column(data=b"abc", offsets=offsets(0, 1, 2**31 - 1)),
        "offsets reach outside the data's 3 bytes",
    ),
    "offsets one past the end": (
        _column(data=b"abc", offsets=offsets(0, 4)),
        "offsets reach outside the data's 3 bytes",
    ),
    "negative offsets": (
        _column(data=b"abc", offsets=offsets(-1, 3)),
        "offsets reach outside the data's 3 bytes",
    ),
    "offsets that begin late": (
        _column(data=b"abc", offsets=offsets(1, 3)),
        "offsets begin at 1; they must begin at 0",
    ),
    "offsets that end early": (
        _column(data=b"abc", offsets=offsets(0, 2)),
        "offsets end at 2, but data has 3 bytes; they must be equal",
    ),
    "one offset and data": (
        _column(data=b"abc", offsets=offsets(0)),
        "offsets end at 0, but data has 3 bytes; they must be equal",
    ),
    "bitmap too short for values": (
        pb.ValueBatch(values=[b"v"] * 9, validity=b"\xff"),
        "validity has 1 bytes; 9 rows need 2",
    ),
    "bitmap too short for offsets": (
        _column(data=b"a" * 17, offsets=offsets(*range(18)), validity=b"\xff\xff"),
        "validity has 2 bytes; 17 rows need 3",
    ),
    "bitmap too short for byte_width": (
        _column(data=b"a" * 17, byte_width=1, validity=b"\xff\xff"),
        "validity has 2 bytes; 17 rows need 3",
    ),
    "bitmap too long": (
        pb.ValueBatch(values=[b"v"], validity=b"\xff" * 66),
        "validity has 66 bytes, but 1 rows need only 1",
    ),
    "bitmap for an empty column": (
        _column(validity=b"\xff" * 65),
        "validity has 65 bytes, but 0 rows need only 0",
    ),
}


@pytest.mark.parametrize(("batch", "text"), BAD_BATCHES.values(), ids=BAD_BATCHES)
async def test_a_batch_that_contradicts_itself_is_refused_and_says_where(
    caller: Caller, batch: Batch | None, text: str
) -> None:
    expected = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_BATCH", text)
    assert await refusal(caller.encrypt(batch)) == expected
    assert await refusal(caller.decrypt(batch, on_error=pb.ON_ERROR_REPORT)) == expected


async def test_of_two_batches_on_the_wire_the_last_one_counts(caller: Caller) -> None:
    """That is protobuf's rule for a oneof; a request object cannot even hold both."""
    one = pb.EncryptRequest(values=values(b"first")).SerializeToString()
    two = pb.EncryptRequest(column=ragged(b"second", b"row")).SerializeToString()
    answer = pb.EncryptResponse.FromString(await caller.raw(ENCRYPT, one + two))
    assert answer.WhichOneof("batch") == "column"
    assert rows_of(await caller.decrypt(answer.column)) == [b"second", b"row"]
    answer = pb.EncryptResponse.FromString(await caller.raw(ENCRYPT, two + one))
    assert rows_of(await caller.decrypt(answer.values)) == [b"first"]


@pytest.mark.parametrize(
    "name", ["Upper", "-begins", ".begins", "has space", "a" * 64, "../up", "a/b", "naïve", "nul\0", "line\n", "*", " "]
)
async def test_a_name_that_no_keyring_can_have_is_refused_without_being_quoted(caller: Caller, name: str) -> None:
    for call in (caller.encrypt, caller.decrypt):
        refused = await refusal(call(values(b"v"), keyring=name))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert re.fullmatch(r"the keyring's name must be 1 to 63 of .* begin with a letter or digit", refused.text)


@pytest.mark.parametrize("number", [3, 99, 2**31 - 1, -1])
async def test_a_mode_or_on_error_of_the_future_is_refused(caller: Caller, number: int) -> None:
    refused = await refusal(caller.encrypt(values(b"v"), mode=number))
    text = f"mode {number} is unknown; use MODE_RANDOMIZED or MODE_DETERMINISTIC"
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_MODE", text)
    refused = await refusal(caller.decrypt(values(b"v"), on_error=number))
    text = f"on_error {number} is unknown; use ON_ERROR_REPORT or leave it out"
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_MODE", text)


async def test_associated_data_over_64_kib_is_refused(caller: Caller) -> None:
    text = "associated_data has 65537 bytes; it may have at most 65536"
    expected = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "VALUE_TOO_LARGE", text)
    assert await refusal(caller.encrypt(values(b"v"), associated_data=bytes(65_537))) == expected
    assert await refusal(caller.decrypt(values(b"v"), associated_data=bytes(65_537))) == expected


@pytest.mark.parametrize("shape", ["values", "ragged", "fixed"])
async def test_a_value_over_8_mib_is_refused_by_its_rows_number(caller: Caller, shape: str) -> None:
    large = bytes((8 << 20) + 1)
    batches: dict[str, tuple[Batch, int]] = {
        "values": (values(b"a", None, large), 2),
        "ragged": (ragged(None, large, b"a"), 1),
        "fixed": (fixed(large, width=len(large)), 0),
    }
    batch, row = batches[shape]
    text = f"row {row} has 8388609 bytes; a value may have at most 8388608"
    expected = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "VALUE_TOO_LARGE", text)
    assert await refusal(caller.encrypt(batch)) == expected


async def test_a_keyring_that_may_not_be_made_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path, {"keyrings": {"default": {}, "sales-*": {}}}) as it:
        refused = await refusal(it.caller.encrypt(values(b"v"), keyring="hr"))
        text = (
            "no keyring 'hr', and the configuration's keyrings let none of this name be made on first use: "
            "run 'sidekey keyrings create hr', or name it under keyrings"
        )
        assert refused == Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_KEYRING", text)
        assert len(await it.caller.sealed(b"v", keyring="sales-emea")) == 1
        # To decrypt, the name is a condition on the rows and not a place to look them up in.
        sealed = await it.caller.sealed(b"v")
        refused = await refusal(it.caller.decrypt(values(*sealed), keyring="hr"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_KEYRING")
        await it.caller.still_serves()


@pytest.mark.parametrize("method", [ENCRYPT, DECRYPT])
@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff\xff", b"\x0a\x02\xff\xfe\x12\x02\xff\xfe", b"\x22\x7f" + SECRET, b"\x12\xff\xff\xff\xff\x0f", b"\x0b"],
    ids=["no tag", "no UTF-8", "cut off", "a length beyond the end", "a group without an end"],
)
async def test_bytes_that_are_no_message_are_the_callers_error_without_the_parsers_text(
    caller: Caller, method: str, garbage: bytes
) -> None:
    refused = await refusal(caller.raw(method, garbage))
    text = "the request is not a message of this method"
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", text)


@pytest.mark.parametrize("method", ["/sidekey.v1.EncryptionService/Exfiltrate", "/other.Service/Encrypt", "/x", "//"])
async def test_an_unknown_method_is_unimplemented_and_not_quoted(caller: Caller, method: str) -> None:
    refused = await refusal(caller.raw(method, SECRET))
    assert refused == Refusal(grpc.StatusCode.UNIMPLEMENTED, "", "Method not found!")
