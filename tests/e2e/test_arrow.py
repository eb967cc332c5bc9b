"""The client library against the real sidecar: every Arrow type comes back equal."""

import asyncio
import datetime as dt
import decimal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import sidekey

from tests.rpc.running import Running, running

# Which type an array has is only known when it is there; the stubs want to know it before.
pa: Any = pyarrow

_TEXT = ["ä", None, "", "text " * 50, "b"]
_BYTES = [b"\0", None, b"", b"\xff" * 500, b"b"]
ARRAYS: list[Any] = [
    pa.array(_BYTES, pa.binary()),
    pa.array(_BYTES, pa.large_binary()),
    pa.array(_BYTES, pa.binary_view()),
    pa.array(_TEXT, pa.string()),
    pa.array(_TEXT, pa.large_string()),
    pa.array(_TEXT, pa.string_view()),
    pa.array([b"12345", None, b"abcde"], pa.binary(5)),
    pa.array([b"", None], pa.binary(0)),
    pa.array([True, None, False], pa.bool_()),
    *(pa.array([0, None, 1, 100], pa.type_for_alias(f"{kind}{bits}")) for kind in ("int", "uint") for bits in (8, 64)),
    *(pa.array([-1, None, 30_000], pa.type_for_alias(f"int{bits}")) for bits in (16, 32)),
    *(pa.array([1, None, 60_000], pa.type_for_alias(f"uint{bits}")) for bits in (16, 32)),
    pa.array([np.float16(1.5), None, np.float16(-0.0)], pa.float16()),
    pa.array([1.5, None, -0.0, float("inf")], pa.float32()),
    pa.array([1e300, None, -0.0, 5e-324], pa.float64()),
    pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-99999.99")], pa.decimal128(7, 2)),
    pa.array([decimal.Decimal("1.25"), None], pa.decimal256(50, 2)),
    pa.array([dt.date(1970, 1, 1), None, dt.date(9999, 12, 31)], pa.date32()),
    pa.array([dt.date(1970, 1, 1), None], pa.date64()),
    pa.array([0, None, 86_399], pa.time32("s")),
    pa.array([0, None, 86_399_999_999_999], pa.time64("ns")),
    pa.array([-1, None, 2**62], pa.timestamp("us")),
    pa.array([-1, None, 2**62], pa.timestamp("ns", "Europe/Berlin")),
    pa.array([-1, None, 5], pa.duration("ms")),
    pa.array(["a", None, "b", "a"]).dictionary_encode(),
]


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Running]:
    """The embedded default."""
    async with running(tmp_path) as it:
        yield it


def _check(client: sidekey.Client, array: Any, mode: Any) -> None:
    encrypted = client.encrypt_array(array, mode=mode, associated_data=b"column")
    encrypted.validate(full=True)
    assert encrypted.null_count == array.null_count
    decrypted = client.decrypt_array(encrypted, type=array.type, associated_data=b"column")
    decrypted.validate(full=True)
    assert decrypted.type == array.type
    if pa.types.is_dictionary(array.type):  # two dictionaries may say the same in different orders
        array, decrypted = array.cast(array.type.value_type), decrypted.cast(array.type.value_type)
    assert decrypted.equals(array)


@pytest.mark.parametrize("mode", ["randomized", "deterministic"])
async def test_every_type_comes_back_equal_whole_sliced_chunked_empty_and_all_null(sidecar: Running, mode: str) -> None:
    def check_all(client: sidekey.Client) -> None:
        for array in ARRAYS:
            for case in (array, array[1:], array[:0], pa.chunked_array([array, array[1:2], array[:0]])):
                _check(client, case, mode)
            _check(client, pa.nulls(9, array.type), mode)

    with sidekey.Client(sidecar.address) as client:
        # The sidecar serves on this test's loop, so the blocking client works on a thread.
        await asyncio.to_thread(check_all, client)


async def test_columns_of_many_messages_come_back_in_order_by_both_clients(sidecar: Running) -> None:
    numbers = pa.array(np.arange(200_000, dtype=np.int64), mask=np.arange(200_000) % 7 == 0)
    words = pa.array([f"word {row}" * (row % 5) for row in range(50_000)])
    with sidekey.Client(sidecar.address, message_bytes=100_000) as client:
        for column in (numbers, words):
            await asyncio.to_thread(_check, client, column, "randomized")
    async with sidekey.AsyncClient(sidecar.address, message_bytes=100_000) as client:
        for column in (numbers, words):
            encrypted = await client.encrypt_array(column, mode="deterministic")
            assert (await client.decrypt_array(encrypted, type=column.type)).equals(column)


async def test_a_bad_row_in_a_long_column_is_reported_by_its_own_number(sidecar: Running) -> None:
    async with sidekey.AsyncClient(sidecar.address, message_bytes=10_000) as client:
        rows = await client.encrypt([b"%d" % row for row in range(2_000)])
        rows[1_234] = b"no ciphertext"
        opened, errors = await client.decrypt_with_errors(rows)
        assert [(error.row, error.code) for error in errors] == [(1_234, "MALFORMED")]
        assert opened == [b"%d" % row if row != 1_234 else None for row in range(2_000)]
        with pytest.raises(sidekey.DecryptionError) as caught:
            await client.decrypt(rows)
        assert [(error.row, error.code) for error in caught.value.rows] == [(1_234, "MALFORMED")]
