"""Where the rows of a column lie in its bytes. Checks that they lie inside before anything reads them."""

import numpy as np

from sidecar.crypto.blocks import Bytes, Index
from sidecar.errors import InvalidBatchError

Offsets = np.ndarray[tuple[int], np.dtype[np.int32]] | Index


class Rows:
    """``count`` rows in ``data``: row ``i`` is the ``lengths[i]`` bytes from ``starts[i]``.

    Uniform rows are all ``width`` bytes long, the first at ``start``, each ``stride`` bytes behind the one before: they
    are read and written without a gather, and their ``starts`` and ``lengths`` are made only when asked for. Of other
    rows ``stride`` is None. Made from offsets or widths that were checked: every row lies inside ``data``.
    """

    def __init__(self, data: Bytes, starts: Index, lengths: Index) -> None:
        self.data = data
        self.count = starts.size
        self.start = 0
        self.stride: int | None = None
        self.width = 0
        self._starts: Index | None = starts
        self._lengths: Index | None = lengths

    @classmethod
    def uniform(cls, data: Bytes, *, start: int, stride: int, count: int, width: int) -> "Rows":
        """``count`` rows of ``width`` bytes; raises InvalidBatchError where they do not lie inside ``data``."""
        if count and not (start >= 0 <= width <= stride and start + stride * (count - 1) + width <= data.size):
            raise InvalidBatchError("the rows of a fixed-width column do not fit its data")
        rows = cls.__new__(cls)
        rows.data, rows.count, rows.start, rows.stride, rows.width = data, count, start, stride, width
        rows._starts = rows._lengths = None
        return rows

    @classmethod
    def ragged(cls, data: Bytes, offsets: Offsets) -> "Rows":
        """Rows one behind the other: row ``i`` lies between ``offsets[i]`` and ``offsets[i + 1]``."""
        check_offsets(offsets, data.size)
        return cls.checked(data, offsets)

    @classmethod
    def checked(cls, data: Bytes, offsets: Offsets) -> "Rows":
        """As ``ragged``, for offsets that ``check_offsets`` has let through."""
        wide = offsets.astype(np.int64, copy=False)
        lengths = np.diff(wide)
        count = lengths.size
        if count and lengths[0] > 0 and bool((lengths == lengths[0]).all()):
            width = int(lengths[0])
            return cls.uniform(data, start=int(wide[0]), stride=width, count=count, width=width)
        return cls(data, wide[:-1], lengths)

    @property
    def starts(self) -> Index:
        """Where each row begins."""
        if self._starts is None:
            self._starts = self.start + np.arange(self.count) * (self.stride or 0)
        return self._starts

    @property
    def lengths(self) -> Index:
        """The length of each row."""
        if self._lengths is None:
            self._lengths = np.full(self.count, self.width)
        return self._lengths

    @property
    def longest(self) -> int:
        """The length of the longest row; 0 where there is none."""
        if self.stride is not None or not self.count:
            return self.width
        return int(self.lengths.max())

    @property
    def shortest(self) -> int:
        """The length of the shortest row; 0 where there is none."""
        if self.stride is not None or not self.count:
            return self.width
        return int(self.lengths.min())

    def select(self, index: Index) -> "Rows":
        """The rows of these numbers."""
        return Rows(self.data, self.starts[index], self.lengths[index])

    def part(self, begin: int, end: int) -> "Rows":
        """The rows from ``begin`` up to ``end``."""
        if self.stride is None:
            return Rows(self.data, self.starts[begin:end], self.lengths[begin:end])
        start = self.start + self.stride * begin
        return Rows.uniform(self.data, start=start, stride=self.stride, count=end - begin, width=self.width)

    def drop(self, lead: int) -> "Rows":
        """The same rows without their first ``lead`` bytes; every row must be at least so long."""
        if self.stride is None:
            return Rows(self.data, self.starts + lead, self.lengths - lead)
        start, width = self.start + lead, self.width - lead
        return Rows.uniform(self.data, start=start, stride=self.stride, count=self.count, width=width)


def room_for(rows: Rows, grow: int) -> tuple[Rows, Index]:
    """Uninitialised room for rows that are ``grow`` bytes longer, one behind the other, and its offsets."""
    if rows.stride is None:
        lengths = rows.lengths + grow
        offsets = offsets_of(lengths)
        return Rows(np.empty(int(offsets[-1]), np.uint8), offsets[:-1], lengths), offsets
    width = rows.width + grow
    data = np.empty(width * rows.count, np.uint8)
    return Rows.uniform(data, start=0, stride=width, count=rows.count, width=width), np.arange(rows.count + 1) * width


def check_offsets(offsets: Offsets, size: int) -> None:
    """Raise InvalidBatchError unless the offsets rise and stay inside ``size`` bytes."""
    if not offsets.size:
        raise InvalidBatchError("offsets must hold one entry more than there are rows: at least one")
    if int(offsets[0]) < 0 or int(offsets[-1]) > size:
        raise InvalidBatchError(f"offsets reach outside the data's {size} bytes")
    fall = np.flatnonzero(offsets[1:] < offsets[:-1])
    if fall.size:
        raise InvalidBatchError(f"offsets fall at row {int(fall[0])}; each must be at least the one before")


def offsets_of(lengths: Index) -> Index:
    """Offsets of rows of these lengths, laid one behind the other from 0."""
    offsets = np.zeros(lengths.size + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def keep_rows(data: Bytes, lengths: Index, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Bytes, Index]:
    """Data and lengths with the rows that are not kept made empty; rows lie one behind the other."""
    return data[np.repeat(keep, lengths)], np.where(keep, lengths, 0)
