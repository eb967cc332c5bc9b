"""Columns to and from the contract's ColumnBatch, in numpy; knows no pyarrow and touches no row by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import grpc
import numpy as np
import numpy.typing as npt

from sidekey import _plan
from sidekey._exchange import Answer, too_large, unfit
from sidekey._terms import Query, Terms
from sidekey.errors import InvalidArgumentError
from sidekey.v1 import encryption_pb2 as pb

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Offsets = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column:
    """A column to send: variable-size with ``offsets``, fixed-width without."""

    rows: int
    data: Bytes = field(repr=False)
    offsets: npt.NDArray[Any] | None
    """int32 or int64, shape (rows + 1,), into ``data``; they need not begin at 0. NULL rows have no bytes."""
    width: int
    """Bytes a row where there are no offsets; then at least 1, and data has rows * width bytes."""
    valid: Mask | None
    """Shape (rows,); None where no row is NULL."""

    def check_lengths(self, limit: int) -> None:
        """Raises InvalidArgumentError naming the first row that is longer than ``limit`` bytes."""
        if self.offsets is None:
            if self.rows and self.width > limit:
                raise too_large(0, self.width, limit)
            return
        long = np.diff(self.offsets) > limit
        if long.any():
            row = int(long.argmax())
            raise too_large(row, int(self.offsets[row + 1] - self.offsets[row]), limit)

    def size(self, rows: int) -> int:
        """The bytes of the first ``rows`` rows."""
        if self.offsets is None:
            return rows * self.width
        return int(self.offsets[rows]) - int(self.offsets[0])

    def batch(self, start: int, stop: int) -> pb.ColumnBatch:
        """Rows ``start`` to ``stop``, offsets beginning at 0."""
        validity = b"" if self.valid is None else pack(self.valid[start:stop])
        if self.offsets is None:
            data = self.data[start * self.width : stop * self.width]
            return pb.ColumnBatch(data=data.tobytes(), byte_width=self.width, validity=validity)
        offsets = self.offsets[start : stop + 1]
        data = self.data[int(offsets[0]) : int(offsets[-1])]
        rebased = (offsets - offsets[0]).astype("<i4")
        return pb.ColumnBatch(data=data.tobytes(), offsets=rebased.tobytes(), validity=validity)


@dataclass(frozen=True, slots=True)
class Piece:
    """One checked answer: rows ``start`` to ``stop``."""

    start: int
    stop: int
    data: Bytes = field(repr=False)
    offsets: npt.NDArray[np.int32] | None
    width: int
    valid: Mask | None

    @classmethod
    def of(cls, start: int, stop: int, answer: pb.ColumnBatch, valid: Mask | None) -> Piece:
        """Raises SidekeyError where the buffers contradict each other, or other rows than expected are NULL."""
        rows = stop - start
        data = np.frombuffer(answer.data, np.uint8)
        if not np.array_equal(_unpack(answer.validity, rows), np.ones(rows, np.bool_) if valid is None else valid):
            raise unfit("other rows are NULL")
        if not answer.offsets:
            if answer.byte_width == 0 or len(data) != rows * answer.byte_width:
                raise unfit("data and width do not match")
            return cls(start, stop, data, None, answer.byte_width, valid)
        if answer.byte_width or len(answer.offsets) != 4 * (rows + 1):
            raise unfit("offsets of another length")
        offsets = np.frombuffer(answer.offsets, "<i4")
        lengths = np.diff(offsets)
        if offsets[0] != 0 or offsets[-1] != len(data) or (lengths < 0).any():
            raise unfit("offsets that fall or overrun")
        if valid is not None and lengths[~valid].any():
            raise unfit("a NULL row has bytes")
        return cls(start, stop, data, offsets, 0, valid)

    def row_width(self) -> int:
        """The length of the first row that is not NULL; there must be one."""
        if self.offsets is None:
            return self.width
        row = 0 if self.valid is None else int(self.valid.argmax())
        return int(self.offsets[row + 1] - self.offsets[row])


@dataclass(frozen=True, slots=True)
class Pieces:
    """All answers to one column, in order."""

    rows: int
    pieces: Sequence[Piece]

    def valid(self) -> Mask | None:
        """Shape (rows,); None where no row is NULL."""
        if all(piece.valid is None for piece in self.pieces):
            return None
        whole = np.ones(self.rows, np.bool_)
        for piece in self.pieces:
            if piece.valid is not None:
                whole[piece.start : piece.stop] = piece.valid
        return whole

    def width(self, otherwise: int) -> int:
        """How wide the rows are that are not NULL; where all are, as the answers are, or ``otherwise``.

        Raises InvalidArgumentError where a message's rows are of another width than those before.
        """
        found: int | None = None
        for piece in self.pieces:
            if piece.valid is not None and not piece.valid.any():
                continue
            width = piece.row_width()
            if found is not None and width != found:
                raise _mismatch(piece.start, width, found, "the rows before it")
            found = width
        if found is None:
            return next((piece.width for piece in self.pieces if piece.width), otherwise)
        return found

    def fixed(self, width: int, wanted: str) -> Bytes:
        """Rows of ``width`` bytes, NULL rows zero; shape (rows * width,).

        Raises InvalidArgumentError naming ``wanted`` and the width found where a row is not that wide.
        """
        whole = np.zeros((self.rows, width), np.uint8)
        for piece in self.pieces:
            target = whole[piece.start : piece.stop]
            if piece.offsets is not None:
                _check_lengths(piece, width, wanted)
                present = slice(None) if piece.valid is None else piece.valid
                target[present] = piece.data.reshape(len(target[present]), width)
            elif piece.width == width:
                target[:] = piece.data.reshape(len(target), width)
            elif piece.valid is None or piece.valid.any():
                raise _mismatch(piece.start, piece.width, width, wanted)
        return whole.reshape(-1)

    def variable(self) -> tuple[Bytes, Offsets]:
        """Data, and offsets of shape (rows + 1,)."""
        offsets = np.zeros(self.rows + 1, np.int64)
        base = 0
        for piece in self.pieces:
            target = offsets[piece.start + 1 : piece.stop + 1]
            if piece.offsets is None:
                target[:] = base + piece.width * np.arange(1, len(target) + 1, dtype=np.int64)
            else:
                target[:] = base + piece.offsets[1:].astype(np.int64)
            base += len(piece.data)
        data = np.concatenate([piece.data for piece in self.pieces]) if self.pieces else np.empty(0, np.uint8)
        return data, offsets


class _Sent:
    """The rows of one operation on a column, on their way out. Raises InvalidArgumentError for a row too long."""

    def __init__(self, column: Column, terms: Terms | Query) -> None:
        column.check_lengths(terms.max_value_bytes)
        self._column = column
        self._per_row = terms.overhead + _plan.ROW_FRAMING

    @property
    def rows(self) -> int:
        return self._column.rows

    def cost(self, rows: int) -> int:
        return self._column.size(rows) + rows * self._per_row

    def batch(self, start: int, stop: int) -> pb.ColumnBatch:
        return self._column.batch(start, stop)

    def _valid(self, start: int, stop: int) -> Mask | None:
        return None if self._column.valid is None else self._column.valid[start:stop]


class ColumnPayload(_Sent, Generic[T]):
    """The rows of one operation on a column; see ``Payload``. ``finish`` makes the result of all answers."""

    def __init__(self, column: Column, terms: Terms, finish: Callable[[Pieces], T]) -> None:
        super().__init__(column, terms)
        self._finish = finish
        self._pieces: dict[int, Piece] = {}

    def accept(self, start: int, stop: int, answer: Answer, failed: Sequence[int]) -> None:
        if answer.WhichOneof("batch") != "column":
            raise unfit("another shape")
        valid = self._valid(start, stop)
        if failed:
            valid = np.ones(stop - start, np.bool_) if valid is None else valid.copy()
            valid[failed] = False
        self._pieces[start] = Piece.of(start, stop, answer.column, valid)

    def result(self) -> T:
        return self._finish(Pieces(self.rows, [self._pieces[start] for start in sorted(self._pieces)]))


@dataclass(frozen=True, slots=True)
class Tokens:
    """One checked answer for query tokens: a piece for each data key, the newest first, all beginning at row 0."""

    rows: int
    valid: Mask | None
    by_key: Sequence[Piece]


class TokenPayload(_Sent, Generic[T]):
    """The rows of one question for query tokens; ``finish`` makes the result of all answers, in order."""

    def __init__(self, column: Column, terms: Query, finish: Callable[[Sequence[Tokens]], T]) -> None:
        super().__init__(column, terms)
        self._finish = finish
        self._answers: dict[int, Tokens] = {}

    def accept(self, start: int, stop: int, answer: pb.QueryTokensResponse) -> None:
        rows, valid = stop - start, self._valid(start, stop)
        if any(tokens.WhichOneof("batch") != "column" for tokens in answer.tokens):
            raise unfit("another shape")
        by_key = [Piece.of(0, rows, tokens.column, valid) for tokens in answer.tokens]
        self._answers[start] = Tokens(rows, valid, by_key)

    def result(self) -> T:
        return self._finish([self._answers[start] for start in sorted(self._answers)])


def pack(mask: Mask) -> bytes:
    """A bitmap, least significant bit first."""
    return np.packbits(mask, bitorder="little").tobytes()


def _unpack(validity: bytes, rows: int) -> Mask:
    if not validity:
        return np.ones(rows, np.bool_)
    if len(validity) != (rows + 7) // 8:
        raise unfit("a validity bitmap of another length")
    return np.unpackbits(np.frombuffer(validity, np.uint8), count=rows, bitorder="little").view(np.bool_)


def _check_lengths(piece: Piece, width: int, wanted: str) -> None:
    lengths = np.diff(piece.offsets) if piece.offsets is not None else np.empty(0, np.int32)
    wrong = lengths != width
    if piece.valid is not None:
        wrong &= piece.valid
    if wrong.any():
        row = int(wrong.argmax())
        raise _mismatch(piece.start + row, int(lengths[row]), width, wanted)


def _mismatch(row: int, found: int, width: int, wanted: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"row {row} has {found} bytes, and {wanted} has {width}: ask for the type that was encrypted",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="TYPE_MISMATCH",
    )
