"""Batches of the contract to columns and back. Owns the check of every length that comes from outside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sidekey.v1 import encryption_pb2 as pb

from sidecar.crypto.cipher import too_large
from sidecar.crypto.column import Column, Flags
from sidecar.crypto.format import MAX_VALUE_BYTES, Suite
from sidecar.crypto.rows import offsets_of
from sidecar.errors import InvalidBatchError, LimitExceededError
from sidecar.rpc.wire import column_answer, even_values, even_values_answer, validity_of

_FEW_VALUES = 24  # below, values one by one are faster than a column of them
_OFFSET_BYTES = 4
_VALIDITY_PADDING_BYTES = 64  # Arrow pads its buffers to so many bytes
_MAX_WIDTH = MAX_VALUE_BYTES + max(suite.overhead_bytes for suite in Suite)
_ENTRY_BYTES = 5  # tag and length of one entry of a ValueBatch, at most
_ROW_ERROR_BYTES = 12  # one RowError with its tag and length, at most
_ENVELOPE_BYTES = 64

Request = pb.EncryptRequest | pb.DecryptRequest | pb.ReencryptRequest | pb.QueryTokensRequest
Response = pb.EncryptResponse | pb.DecryptResponse | pb.ReencryptResponse


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one call may hold."""

    max_message_bytes: int
    max_rows: int

    def check_rows(self, rows: int) -> None:
        """Raise LimitExceededError for too many rows."""
        if rows > self.max_rows:
            raise LimitExceededError(f"the batch has {rows} rows; one call may have at most {self.max_rows}")

    def check_answer(self, column: Column, overhead_bytes: int, *, as_values: bool, copies: int = 1) -> None:
        """Raise LimitExceededError if the answer, each row ``overhead_bytes`` longer, would be too long to send.

        ``copies``: how many such batches the answer holds.
        """
        a_row = overhead_bytes + (_ENTRY_BYTES if as_values else _OFFSET_BYTES * (column.width is None))
        size = _ENVELOPE_BYTES + column.data.size + column.count * a_row + (column.count + 7) // 8
        self._check_answer_size(size * copies)

    def _check_answer_size(self, size: int) -> None:
        if size > self.max_message_bytes:
            raise LimitExceededError(
                f"the answer would have {size} bytes, and a message may have {self.max_message_bytes}: send fewer rows"
            )

    def check_few(self, values: Sequence[bytes]) -> int:
        """The size of few values in bytes; raises LimitExceededError for too many, or ValueTooLargeError."""
        self.check_rows(len(values))
        size = 0
        for row, value in enumerate(values):
            if len(value) > MAX_VALUE_BYTES:
                raise too_large(row, len(value))
            size += len(value)
        return size

    def check_few_answer(self, rows: int, size: int, overhead_bytes: int) -> None:
        """As ``check_answer``, for few values of ``size`` bytes together."""
        self._check_answer_size(_ENVELOPE_BYTES + size + rows * (overhead_bytes + _ENTRY_BYTES))

    def check_row_errors(self, column: Column, failures: int) -> None:
        """Raise LimitExceededError if so many row errors beside the values would be too long to send."""
        size = column.data.size + column.count * _ENTRY_BYTES + failures * _ROW_ERROR_BYTES
        if size > self.max_message_bytes:
            raise LimitExceededError(f"{failures} row errors do not fit into one message: send fewer rows")


def decode(request: Request, limits: BatchLimits) -> tuple[Column, bool]:
    """The batch of a request, and whether it is a ValueBatch.

    Raises:
        InvalidBatchError: there is no batch, or its buffers do not fit together.
        LimitExceededError: it has too many rows.
    """
    shape = request.WhichOneof("batch")
    if shape == "values":
        return _decode_values(request.values, limits), True
    if shape == "column":
        return _decode_column(request.column, limits), False
    raise InvalidBatchError("the request has no batch; set values or column")


def _decode_values(batch: pb.ValueBatch, limits: BatchLimits) -> Column:
    limits.check_rows(len(batch.values))
    even = even_values(batch)
    if even is not None:
        data, width = even
        return Column.ragged(data, np.arange(len(batch.values) + 1) * width)
    values = list(batch.values)
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    null = _decode_validity(batch.validity, len(values))
    return Column.ragged(np.frombuffer(b"".join(values), np.uint8), offsets_of(lengths), null)


def _decode_column(batch: pb.ColumnBatch, limits: BatchLimits) -> Column:
    data = np.frombuffer(batch.data, np.uint8)
    offsets, width = batch.offsets, batch.byte_width
    if offsets and width:
        raise InvalidBatchError("the column has offsets and byte_width; set one of them")
    if width:
        if width > _MAX_WIDTH:
            raise InvalidBatchError(f"byte_width {width} is more than the {_MAX_WIDTH} bytes that a row may have")
        limits.check_rows(data.size // width)
        return Column.fixed(data, width, _decode_validity(batch.validity, data.size // width))
    if not offsets:
        if data.size:
            raise InvalidBatchError("the column has data but neither offsets nor a byte_width above 0; set one of them")
        return Column.ragged(data, np.zeros(1, np.int64), _decode_validity(batch.validity, 0))
    if len(offsets) % _OFFSET_BYTES:
        raise InvalidBatchError(f"offsets have {len(offsets)} bytes; int32 takes a multiple of {_OFFSET_BYTES}")
    count = len(offsets) // _OFFSET_BYTES - 1
    limits.check_rows(count)
    return Column.ragged(data, np.frombuffer(offsets, "<i4"), _decode_validity(batch.validity, count))


def _decode_validity(validity: bytes, count: int) -> Flags | None:
    """Which rows are NULL; None where the bitmap is left out."""
    if not validity:
        return None
    needed = (count + 7) // 8
    if len(validity) < needed:
        raise InvalidBatchError(f"validity has {len(validity)} bytes; {count} rows need {needed}")
    if len(validity) > needed + _VALIDITY_PADDING_BYTES:
        raise InvalidBatchError(f"validity has {len(validity)} bytes, but {count} rows need only {needed}")
    bits = np.unpackbits(np.frombuffer(validity, np.uint8, needed), count=count, bitorder="little")
    null: Flags = bits == 0
    return null


def few_values(request: pb.EncryptRequest | pb.DecryptRequest) -> list[bytes] | None:
    """The values of a ValueBatch of few rows without NULLs; None for every other batch, which becomes a column."""
    if request.WhichOneof("batch") != "values" or len(request.values.values) > _FEW_VALUES or request.values.validity:
        return None
    return list(request.values.values)


def encode(column: Column, response: Response, *, as_values: bool) -> bytes:
    """A serialized response: the fields that ``response`` has, and the column in the shape of its question."""
    if not as_values:
        return column_answer(column, response.SerializeToString())
    answer = even_values_answer(column, response.SerializeToString())
    if answer is not None:
        return answer
    set_batch(response, column, as_values=True)
    return response.SerializeToString()


def set_batch(response: Response | pb.KeyTokens, column: Column, *, as_values: bool) -> None:
    """Give a message the column as its batch."""
    if as_values:
        # Set also where there are no values, so that the answer always has its question's shape.
        response.values.SetInParent()
        response.values.values.extend(_split(column))
        response.values.validity = validity_of(column)
        return
    response.column.data = column.data.tobytes()
    if column.offsets is None:
        response.column.byte_width = column.width or 0
    else:
        response.column.offsets = column.offsets.astype("<i4", copy=False).tobytes()
    response.column.validity = validity_of(column)


def _split(column: Column) -> list[bytes]:
    """The rows as bytes objects."""
    rows = column.rows
    data, ends = column.data.tobytes(), (rows.starts + rows.lengths).tolist()
    return [data[start:end] for start, end in zip(rows.starts.tolist(), ends, strict=True)]
