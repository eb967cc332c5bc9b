"""Columns for the tests: lists of values to buffers and back, and strategies that make them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sidecar.crypto.column import Column, Flags
from sidecar.crypto.rows import Offsets
from sidecar.crypto.siv import Path

Bytes = npt.NDArray[np.uint8]
PATHS = tuple(Path)


def bounded(examples: int) -> settings:
    """So many examples, whatever the machine's speed of the day."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Layout:
    """How values lie in their buffers: what stands around them, and whether offsets have 64 bits or 32."""

    front: bytes = b""
    behind: bytes = b""
    wide: bool = True


PLAIN = Layout()


def laid_out(values: Sequence[bytes], layout: Layout = PLAIN) -> tuple[Bytes, Offsets]:
    """Read-only data and offsets of a column of ``values``."""
    data = np.frombuffer(layout.front + b"".join(values) + layout.behind, np.uint8)
    ends = [*itertools.accumulate(map(len, values), initial=len(layout.front))]
    return data, np.array(ends, np.int64) if layout.wide else np.array(ends, np.int32)


def values_of(data: Bytes, offsets: Offsets) -> list[bytes]:
    """The rows between offsets."""
    raw, ends = data.tobytes(), offsets.tolist()
    return [raw[start:end] for start, end in itertools.pairwise(ends)]


def ragged(values: Sequence[bytes | None], beneath: bytes = b"") -> Column:
    """A variable-size column; ``beneath`` is what lies beneath each NULL."""
    data, offsets = laid_out([beneath if value is None else value for value in values])
    return Column.ragged(data, offsets, nulls_of(values))


def fixed(values: Sequence[bytes | None], width: int, beneath: bytes = b"\xee") -> Column:
    """A fixed-width column; ``beneath`` is repeated to fill each NULL."""
    filler = (beneath * width)[:width]
    data = np.frombuffer(b"".join(filler if value is None else value for value in values), np.uint8)
    return Column.fixed(data, width, nulls_of(values))


def nulls_of(values: Sequence[bytes | None]) -> Flags | None:
    """True where a value is None."""
    return np.array([value is None for value in values], np.bool_)


def rows_of(column: Column) -> list[bytes | None]:
    """A column's values; a NULL is None, and nothing may lie beneath it but zeros."""
    if column.width is None:
        assert column.offsets is not None
        values = values_of(column.data, column.offsets)
    else:
        raw, width = column.data.tobytes(), column.width
        values = [raw[i * width : (i + 1) * width] for i in range(column.count)]
    if column.null is None:
        return list(values)
    assert not any(any(value) for value, null in zip(values, column.null, strict=True) if null)
    return [None if null else value for value, null in zip(values, column.null, strict=True)]


layouts = st.builds(Layout, st.binary(max_size=40), st.binary(max_size=40), st.booleans())
"""With bytes before and behind the rows, so that offsets do not begin at 0 nor end where the data ends."""

components = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda size, seed: np.random.default_rng(seed).bytes(size),
            st.sampled_from([0, 15, 16, 17, 4096, 65_535, 65_536]) | st.integers(0, 65_536),
            st.integers(0, 9),
        ),
    ),
    max_size=3,
)
"""0 to 3 S2V components of 0 to 64 KiB."""


def _lengths(shape: str, count: int, longest: int, rng: np.random.Generator) -> list[int]:
    length = int(rng.integers(0, longest + 1))
    match shape:
        case "empty":
            return [0] * count
        case "equal" | "fixed":
            return [length] * count
        case "one long":
            lengths = rng.integers(0, min(longest, 20) + 1, count)
            lengths[rng.integers(count)] = 600
            return [int(n) for n in lengths]
        case _:
            return [int(n) for n in rng.integers(0, longest + 1, count)]


@st.composite
def many_values(draw: st.DrawFn) -> list[bytes]:
    """1 to 5,000 values of 0 to 600 bytes, drawn by shape and seed (drawing every byte would take too long)."""
    shape = draw(st.sampled_from(["equal", "empty", "mixed", "fixed", "one long"]))
    count = draw(st.integers(1, 80) | st.integers(1, 5000))
    longest = draw(st.integers(0, 600 if count <= 500 else 64))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = _lengths(shape, count, longest, rng)
    if shape == "equal":
        return [rng.bytes(lengths[0])] * count
    data = rng.bytes(sum(lengths))
    ends = np.cumsum(lengths).tolist()
    return [data[end - length : end] for length, end in zip(lengths, ends, strict=True)]


few_values = st.lists(st.binary(max_size=70), max_size=40)
"""Values that hypothesis can shrink."""
