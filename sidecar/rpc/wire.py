"""Columns on the wire: read and written with one copy, where protobuf's messages take three, or an object a value.

Protobuf's wire format, for columns and for values that are all equally long; everything else is left to the stubs.
Field numbers are read from the contract, and tests hold what is written and read here to the stubs.
"""

import numpy as np
from google.protobuf.message import Message
from sidekey.v1 import encryption_pb2 as pb

from sidecar.crypto import blocks
from sidecar.crypto.blocks import Bytes
from sidecar.crypto.column import Column

_VARINT, _LENGTH_DELIMITED = 0, 2


def _tag(message: type[Message], field: str, wire_type: int) -> bytes:
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | wire_type)


def _varint(number: int) -> bytes:
    """Base 128, least significant group first; the high bit says that more follows."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_MOST_IN_ONE_BYTE = 0x7F
_VALUES = _tag(pb.EncryptResponse, "values", _LENGTH_DELIMITED)
_VALUE = _tag(pb.ValueBatch, "values", _LENGTH_DELIMITED)
_VALUES_VALIDITY = _tag(pb.ValueBatch, "validity", _LENGTH_DELIMITED)
_COLUMN = _tag(pb.EncryptResponse, "column", _LENGTH_DELIMITED)
for _answer in (pb.DecryptResponse, pb.ReencryptResponse):  # one writer serves all answers
    assert _tag(_answer, "values", _LENGTH_DELIMITED) == _VALUES  # noqa: S101
    assert _tag(_answer, "column", _LENGTH_DELIMITED) == _COLUMN  # noqa: S101
_DATA = _tag(pb.ColumnBatch, "data", _LENGTH_DELIMITED)
_OFFSETS = _tag(pb.ColumnBatch, "offsets", _LENGTH_DELIMITED)
_BYTE_WIDTH = _tag(pb.ColumnBatch, "byte_width", _VARINT)
_VALIDITY = _tag(pb.ColumnBatch, "validity", _LENGTH_DELIMITED)


def column_answer(column: Column, others: bytes = b"") -> bytes:
    """A response whose batch is the column; ``others``: its other fields, serialized (concatenation merges)."""
    parts: list[bytes | memoryview] = [_DATA, _varint(column.data.size), column.data.data]
    if column.offsets is None:
        parts += [_BYTE_WIDTH, _varint(column.width or 0)]
    else:
        offsets = column.offsets.astype("<i4", copy=False)
        parts += [_OFFSETS, _varint(offsets.nbytes), offsets.view(np.uint8).data]
    validity = validity_of(column)
    if validity:
        parts += [_VALIDITY, _varint(len(validity)), validity]
    return b"".join([_COLUMN, _varint(sum(map(len, parts))), *parts, others])


def even_values(batch: pb.ValueBatch) -> tuple[Bytes, int] | None:
    """The data and the width of values that are all equally long, 1 to 127 bytes; None for any others.

    As serialized, each of them is a tag, a length and as many bytes. Where every ``width + 2`` bytes begin with that
    tag and length, value begins behind value from the first to the last, so nothing else can be meant.
    """
    count = len(batch.values)
    width = len(batch.values[0]) if count else 0
    if not 0 < width <= _MOST_IN_ONE_BYTE or batch.validity:
        return None
    raw = batch.SerializeToString()
    head = _VALUE + _varint(width)
    stride = len(head) + width
    if len(raw) != count * stride:
        return None
    entries = np.frombuffer(raw, np.uint8)
    heads = blocks.items(entries, len(head), start=0, stride=stride, count=count)
    if (np.array(heads).view("<u2") != int.from_bytes(head, "little")).any():
        return None
    return np.array(blocks.items(entries, width, start=len(head), stride=stride, count=count)).view(np.uint8), width


def even_values_answer(column: Column, others: bytes = b"") -> bytes | None:
    """A response whose batch is the column's rows as values, as ``even_values``; None where they are not so."""
    rows = column.rows
    if rows.stride is None or not rows.count or not 0 < rows.width <= _MOST_IN_ONE_BYTE:
        return None
    head = _VALUE + _varint(rows.width)
    stride = len(head) + rows.width
    entries = np.empty(stride * rows.count, np.uint8)
    blocks.items(entries, len(head), start=0, stride=stride, count=rows.count)[:] = np.void(head)
    target = blocks.items(entries, rows.width, start=len(head), stride=stride, count=rows.count)
    target[:] = column.data.view(f"V{rows.width}")
    parts: list[bytes | memoryview] = [entries.data]
    validity = validity_of(column)
    if validity:
        parts += [_VALUES_VALIDITY, _varint(len(validity)), validity]
    return b"".join([_VALUES, _varint(sum(map(len, parts))), *parts, others])


def validity_of(column: Column) -> bytes:
    """Which rows are not NULL, as the contract's bitmap; empty where none is."""
    return b"" if column.null is None else np.packbits(~column.null, bitorder="little").tobytes()
