"""What is written to the wire by hand is what the stubs would have written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sidekey.v1 import encryption_pb2 as pb

from sidecar.crypto.column import Column
from sidecar.rpc.wire import column_answer, even_values, even_values_answer


def _column(lengths: list[int], width: int | None, null: list[bool]) -> Column:
    count = len(lengths)
    flags = np.array(null[:count] + [False] * (count - len(null[:count])), np.bool_)
    if width is not None:
        return Column.fixed(np.arange(width * count, dtype=np.uint64).astype(np.uint8), width, flags)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return Column.ragged(np.arange(int(offsets[-1]), dtype=np.uint64).astype(np.uint8), offsets, flags)


def _message(column: Column) -> pb.ColumnBatch:
    batch = pb.ColumnBatch(data=column.data.tobytes())
    if column.offsets is None:
        batch.byte_width = column.width or 0
    else:
        batch.offsets = column.offsets.astype("<i4").tobytes()
    if column.null is not None:
        batch.validity = np.packbits(~column.null, bitorder="little").tobytes()
    return batch


@settings(deadline=None, max_examples=200)
@given(
    lengths=st.lists(st.integers(0, 300), max_size=300),
    width=st.none() | st.integers(1, 300),
    null=st.lists(st.booleans(), max_size=300),
    failed=st.lists(st.integers(0, 2**32 - 1), max_size=5),
)
def test_a_column_answer_parses_as_the_message_that_was_meant(
    lengths: list[int], width: int | None, null: list[bool], failed: list[int]
) -> None:
    column = _column(lengths, width, null)
    errors = [pb.RowError(row=row, code=pb.ROW_ERROR_CODE_MALFORMED) for row in failed]
    others = pb.DecryptResponse(row_errors=errors)
    answer = column_answer(column, others.SerializeToString())
    assert pb.DecryptResponse.FromString(answer) == pb.DecryptResponse(column=_message(column), row_errors=errors)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 9_000_000])
def test_lengths_of_every_size_are_written_right(size: int) -> None:
    column = Column.ragged(np.zeros(size, np.uint8), np.array([0, size]))
    answer = pb.EncryptResponse.FromString(column_answer(column))
    assert answer.WhichOneof("batch") == "column"
    assert len(answer.column.data) == size


def test_a_column_without_rows_is_a_column_all_the_same() -> None:
    answer = pb.EncryptResponse.FromString(column_answer(Column.ragged(np.zeros(0, np.uint8), np.zeros(1, np.int64))))
    assert answer == pb.EncryptResponse(column=pb.ColumnBatch(offsets=bytes(4)))


@settings(deadline=None, max_examples=300)
@given(values=st.lists(st.binary(max_size=5), max_size=40) | st.lists(st.binary(min_size=3, max_size=3), max_size=40))
def test_even_values_are_read_as_the_stubs_read_them_and_no_others(values: list[bytes]) -> None:
    even = even_values(pb.ValueBatch(values=values))
    lengths = set(map(len, values))
    assert (even is not None) == (len(lengths) == 1 and lengths != {0})
    if even is not None:
        data, width = even
        assert [data[at : at + width].tobytes() for at in range(0, data.size, width)] == values


def test_values_that_look_like_tags_and_lengths_are_not_mistaken_for_even_ones() -> None:
    # Together as long as even ones, and with every byte that a tag or a length may be at every place.
    for first in (b"\n\x02", b"\x02\n", b"\n\n", b"\x02\x02"):
        assert even_values(pb.ValueBatch(values=[first, first * 2, b""])) is None
        even = even_values(pb.ValueBatch(values=[first, first]))
        assert even is not None
        assert even[0].tobytes() == first * 2


@settings(deadline=None, max_examples=200)
@given(width=st.integers(1, 130), null=st.lists(st.booleans(), min_size=1, max_size=60))
def test_even_values_are_written_as_the_stubs_write_them(width: int, null: list[bool]) -> None:
    column = _column([width] * len(null), None, null)
    errors = [pb.RowError(row=1, code=pb.ROW_ERROR_CODE_MALFORMED)]
    answer = even_values_answer(column, pb.DecryptResponse(row_errors=errors).SerializeToString())
    assert (answer is not None) == (width <= 127)
    if answer is not None:
        data = column.data.tobytes()
        values = [data[at : at + width] for at in range(0, len(data), width)]
        validity = np.packbits(~np.array(null), bitorder="little").tobytes() if any(null) else b""
        batch = pb.ValueBatch(values=values, validity=validity)
        assert pb.DecryptResponse.FromString(answer) == pb.DecryptResponse(values=batch, row_errors=errors)
