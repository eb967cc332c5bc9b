"""What is measured: the grid of cases, and the plaintext of each. Pure; knows no server, no clock and no protobuf."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

MESSAGE_LIMIT = 16 * 1024 * 1024
"""The longest message, in bytes, that the sidecar takes or gives unless it is told otherwise."""

SEED = 20_240_229


class Direction(StrEnum):
    """Which call is measured."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"


class Mode(StrEnum):
    """How the values are encrypted."""

    DETERMINISTIC = "deterministic"
    RANDOMIZED = "randomized"

    @property
    def overhead(self) -> int:
        """How many bytes longer than its value a ciphertext is: header and SIV, and a nonce where randomized."""
        return 24 if self is Mode.DETERMINISTIC else 40


class Shape(StrEnum):
    """Which of the two batches carries the rows."""

    VALUES = "values"
    COLUMN = "column"


@dataclass(frozen=True, slots=True)
class Size:
    """How long the values are, in bytes: uniformly between two lengths, both included."""

    name: str
    shortest: int
    longest: int

    @property
    def fixed(self) -> bool:
        """Whether all values are of one length."""
        return self.shortest == self.longest


B16 = Size("16B", 16, 16)
B32 = Size("32B", 32, 32)
RAGGED = Size("1-64B", 1, 64)
KIB = Size("1KiB", 1024, 1024)

SIZES = (B16, B32, RAGGED, KIB)
ROWS = (1, 10, 100, 1_000, 10_000, 65_536)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of call."""

    size: Size
    rows: int
    shape: Shape
    mode: Mode
    direction: Direction

    @property
    def name(self) -> str:
        """For example ``encrypt/deterministic/column/32B/10000``; what ``--only`` is matched against."""
        return f"{self.direction}/{self.mode}/{self.shape}/{self.size.name}/{self.rows}"

    @property
    def message_bytes(self) -> int:
        """At most how long the longer message of the call is: the one with the ciphertexts."""
        framing = {Shape.VALUES: 6, Shape.COLUMN: 0 if self.size.fixed else 4}[self.shape]
        return self.rows * (self.size.longest + self.mode.overhead + framing) + 256

    @property
    def fits(self) -> bool:
        """Whether the call stays within the message limit."""
        return self.message_bytes <= MESSAGE_LIMIT


@dataclass(frozen=True, slots=True)
class Rows:
    """The plaintext of a case in both of its shapes."""

    data: bytes
    offsets: NDArray[np.int32]
    """One more than there are rows."""

    @property
    def values(self) -> list[bytes]:
        """One bytes object a row."""
        ends = self.offsets.tolist()
        return [self.data[start:end] for start, end in pairwise(ends)]


def rows_of(size: Size, rows: int) -> Rows:
    """The same random rows whenever it is asked for the same size and number."""
    rng = np.random.default_rng(SEED)
    lengths = rng.integers(size.shortest, size.longest, size=rows, endpoint=True)
    offsets = np.zeros(rows + 1, "<i4")
    np.cumsum(lengths, out=offsets[1:])
    return Rows(rng.bytes(int(offsets[-1])), offsets)


def grid(rows: Iterable[int] = ROWS, sizes: Iterable[Size] = SIZES) -> Iterator[Case]:
    """Every combination, those that do not fit in a message included; sizes change slowest."""
    for size, count, shape, mode, direction in product(sizes, rows, Shape, Mode, Direction):
        yield Case(size, count, shape, mode, direction)


def quick_grid() -> Iterator[Case]:
    """The cases that the targets are about, and a few beside them, for a run of about a minute."""
    yield from (case for case in grid((1, 1_000), (B32,)) if case.shape is Shape.VALUES)
    yield from (case for case in grid((10_000,), (B32, RAGGED)) if case.shape is Shape.COLUMN)


def select(cases: Iterable[Case], pattern: str | None) -> tuple[list[Case], list[Case]]:
    """The cases whose name matches a shell pattern (or holds it), as those to measure and those too long to send."""
    named = [case for case in cases if pattern is None or fnmatch(case.name, pattern) or pattern in case.name]
    return [case for case in named if case.fits], [case for case in named if not case.fits]
