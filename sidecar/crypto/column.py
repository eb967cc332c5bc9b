"""A column of bytes, variable-size or fixed-width, with NULLs: what goes into and comes out of the cipher."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sidecar.crypto.blocks import Bytes, Index
from sidecar.crypto.rows import Offsets, Rows, check_offsets
from sidecar.errors import InvalidBatchError

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """Rows of bytes; made by ``ragged`` or ``fixed``, which check that the buffers fit together.

    ``null`` holds True for NULL rows; None where there are none. The bytes of a NULL row mean nothing.
    """

    data: Bytes
    count: int
    offsets: Offsets | None
    width: int | None
    null: Flags | None = None

    @classmethod
    def ragged(cls, data: Bytes, offsets: Offsets, null: Flags | None = None) -> "Column":
        """Rows between offsets; the first must be 0 and the last the length of ``data``.

        Raises:
            InvalidBatchError: the offsets or the NULLs do not fit.
        """
        check_offsets(offsets, data.size)
        if int(offsets[0]) != 0:
            raise InvalidBatchError(f"offsets begin at {int(offsets[0])}; they must begin at 0")
        if int(offsets[-1]) != data.size:
            raise InvalidBatchError(
                f"offsets end at {int(offsets[-1])}, but data has {data.size} bytes; they must be equal"
            )
        return cls(data, offsets.size - 1, offsets, None, _checked(null, offsets.size - 1))

    @classmethod
    def fixed(cls, data: Bytes, width: int, null: Flags | None = None) -> "Column":
        """Rows of ``width`` bytes each, at least 1.

        Raises:
            InvalidBatchError: the width is no divisor of the data's length, or the NULLs do not fit.
        """
        if width < 1 or data.size % width:
            raise InvalidBatchError(f"byte_width {width} does not divide the data's {data.size} bytes into whole rows")
        return cls(data, data.size // width, None, width, _checked(null, data.size // width))

    @cached_property
    def rows(self) -> Rows:
        """Where the rows lie, NULL rows with what lies beneath them."""
        if self.width is not None:
            return Rows.uniform(self.data, start=0, stride=self.width, count=self.count, width=self.width)
        assert self.offsets is not None  # noqa: S101  (a column has offsets or a width)
        return Rows.checked(self.data, self.offsets)

    @cached_property
    def valid_count(self) -> int:
        """Rows that are not NULL."""
        return self.count if self.null is None else self.count - int(np.count_nonzero(self.null))

    @property
    def size_of_values(self) -> int:
        """Bytes of the rows that are not NULL, of a column that the cipher made: NULLs have bytes in a width alone."""
        return self.data.size if self.width is None else self.width * self.valid_count


def _checked(null: Flags | None, count: int) -> Flags | None:
    """NULL flags of the right number, or None where no row is NULL."""
    if null is None or not null.any():
        return None
    if null.size != count:
        raise InvalidBatchError(f"validity is for {null.size} rows, but the batch has {count}")
    return null


def live_rows(null: Flags | None) -> Index | None:
    """The numbers of the rows that are not NULL; None for all."""
    return None if null is None else np.flatnonzero(~null)
