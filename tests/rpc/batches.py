"""Batches as a caller writes them by hand, and the rows in an answer, read strictly by the contract's words."""

import itertools
import struct
from collections.abc import Sequence

from sidekey.v1 import encryption_pb2 as pb

Row = bytes | None


def bitmap(present: Sequence[bool]) -> bytes:
    """Which rows are not NULL, least significant bit first."""
    packed = bytearray((len(present) + 7) // 8)
    for row, is_there in enumerate(present):
        packed[row // 8] |= is_there << row % 8
    return bytes(packed)


def offsets(*places: int) -> bytes:
    """int32, little-endian."""
    return struct.pack(f"<{len(places)}i", *places)


def values(*rows: Row) -> pb.ValueBatch:
    """A ValueBatch; a NULL row's entry is empty."""
    return pb.ValueBatch(values=[row or b"" for row in rows], validity=_validity(rows))


def ragged(*rows: Row) -> pb.ColumnBatch:
    """A column with offsets; a NULL row has no bytes."""
    places = [0]
    for row in rows:
        places.append(places[-1] + len(row or b""))
    data = b"".join(row or b"" for row in rows)
    return pb.ColumnBatch(data=data, offsets=offsets(*places), validity=_validity(rows))


def fixed(*rows: Row, width: int) -> pb.ColumnBatch:
    """A fixed-width column; what lies beneath a NULL row is noise."""
    data = b"".join(b"\xee" * width if row is None else row for row in rows)
    return pb.ColumnBatch(data=data, byte_width=width, validity=_validity(rows))


Answer = pb.EncryptResponse | pb.DecryptResponse | pb.ReencryptResponse | pb.KeyTokens


def rows_of(answer: Answer) -> list[Row]:
    """The rows of an answer; fails where its buffers do not fit together to the byte."""
    if answer.WhichOneof("batch") == "values":
        rows: list[bytes] = list(answer.values.values)
        validity = answer.values.validity
    else:
        assert answer.WhichOneof("batch") == "column"
        rows, validity = _rows_of_column(answer.column), answer.column.validity
    if not validity:
        return list(rows)
    assert len(validity) == (len(rows) + 7) // 8
    present = [bool(validity[row // 8] >> row % 8 & 1) for row in range(len(rows))]
    for row, is_there in zip(rows, present, strict=True):
        assert is_there or not any(row)
    return [row if is_there else None for row, is_there in zip(rows, present, strict=True)]


def _rows_of_column(column: pb.ColumnBatch) -> list[bytes]:
    data, width = column.data, column.byte_width
    if width:
        assert not column.offsets
        assert not len(data) % width
        return [data[at : at + width] for at in range(0, len(data), width)]
    places = [place for (place,) in struct.iter_unpack("<i", column.offsets)]
    assert places[0] == 0
    assert places[-1] == len(data)
    return [data[start:end] for start, end in itertools.pairwise(places)]


def _validity(rows: Sequence[Row]) -> bytes:
    return bitmap([row is not None for row in rows]) if None in rows else b""
