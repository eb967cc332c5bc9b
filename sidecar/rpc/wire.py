"""A column on the wire: the answer's bytes written with one copy, where protobuf's own message takes three.

Protobuf's wire format, for the two messages that hold whole columns; everything else is serialized by the stubs. Their
field numbers are read from the contract, and tests parse what is written here with the stubs.
"""

import numpy as np
from google.protobuf.message import Message
from sidekey.v1 import encryption_pb2 as pb

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


_COLUMN = _tag(pb.EncryptResponse, "column", _LENGTH_DELIMITED)
assert _tag(pb.DecryptResponse, "column", _LENGTH_DELIMITED) == _COLUMN  # noqa: S101  (one writer serves both answers)
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


def validity_of(column: Column) -> bytes:
    """Which rows are not NULL, as the contract's bitmap; empty where none is."""
    return b"" if column.null is None else np.packbits(~column.null, bitorder="little").tobytes()
