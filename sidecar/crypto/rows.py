"""Where the rows of a column lie in its bytes. Checks that they lie inside before anything reads them."""

from dataclasses import dataclass

import numpy as np

from sidecar.crypto.blocks import Bytes, Index
from sidecar.errors import InvalidBatchError

Offsets = np.ndarray[tuple[int], np.dtype[np.int32]] | Index


@dataclass(frozen=True, slots=True)
class Rows:
    """``count`` rows in ``data``: row ``i`` is the ``lengths[i]`` bytes from ``starts[i]``.

    ``stride`` is set where all rows are equally long and equally far apart; the planes are then read without a gather.
    Made by the class methods alone, which have checked that every row lies inside ``data``.
    """

    data: Bytes
    starts: Index
    lengths: Index
    stride: int | None = None

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.starts.size

    @classmethod
    def uniform(cls, data: Bytes, *, start: int, stride: int, count: int, width: int) -> "Rows":
        """``count`` rows of ``width`` bytes, the first at ``start``, each ``stride`` bytes behind the one before."""
        if count and not (start >= 0 <= width <= stride and start + stride * (count - 1) + width <= data.size):
            raise InvalidBatchError("the rows of a fixed-width column do not fit its data")
        starts = np.arange(start, start + stride * count, stride) if stride else np.full(count, start)
        return cls(data, starts, np.full(count, width), stride)

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

    def select(self, index: Index) -> "Rows":
        """The rows of these numbers."""
        return Rows(self.data, self.starts[index], self.lengths[index])

    def part(self, begin: int, end: int) -> "Rows":
        """The rows from ``begin`` up to ``end``."""
        return Rows(self.data, self.starts[begin:end], self.lengths[begin:end], self.stride)

    def drop(self, lead: int) -> "Rows":
        """The same rows without their first ``lead`` bytes; every row must be at least so long."""
        return Rows(self.data, self.starts + lead, self.lengths - lead, self.stride)


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
