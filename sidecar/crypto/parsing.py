"""Reading the headers of a ciphertext column: which rows are under which data key.

Owns the bounds on ciphertext rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sidecar.crypto import blocks
from sidecar.crypto.blocks import Index
from sidecar.crypto.column import Column
from sidecar.crypto.format import HEADER_BYTES, MAX_VALUE_BYTES, RowFailure, Suite
from sidecar.crypto.rows import Rows
from sidecar.errors import LimitExceededError

Codes = npt.NDArray[np.uint8]
_Headers = npt.NDArray[np.uint64]

MAX_KEYS_IN_BATCH = 4096
"""A column of noise must not become a lookup in the keystore for every row."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one suite under one data key; ``index`` None: every row of the column."""

    suite: Suite
    key_id: str
    index: Index | None


def parse(column: Column) -> tuple[tuple[Group, ...], Codes]:
    """Group a column's rows by their headers.

    Returns:
        The groups, whose rows are all long enough for their suite, and a code for every row: 0, or ``MALFORMED`` where
        the row is no ciphertext and in no group. In a fixed-width column the suite of most rows gives the width of the
        plaintexts; rows of the other suite are malformed. NULL rows have code 0; in a fixed-width column they may be
        part of a group, where their bytes mean nothing.

    Raises:
        LimitExceededError: the batch names more data keys than one call may use.
    """
    rows, null = column.rows, column.null
    headers = _headers(rows)
    if null is not None and column.width is not None:
        headers[null] = headers[~null][0] if column.valid_count else 0
    if column.count and (null is None or column.width is not None) and bool((headers == headers[0]).all()):
        group = _alike(int(headers[0]), rows)
        if group is not None:
            return (group,), np.zeros(column.count, np.uint8)
    return _mixed(column, headers)


def _headers(rows: Rows) -> _Headers:
    """The first 8 bytes of each row as a little-endian number: the suite is its low byte. 0 where a row is shorter."""
    if rows.stride is not None and rows.width >= HEADER_BYTES:
        runs = blocks.items(rows.data, HEADER_BYTES, start=rows.start, stride=rows.stride, count=rows.count)
        return np.array(runs).view("<u8")  # a copy: the headers of NULL rows are replaced
    headers = np.zeros(rows.count, "<u8")
    index = np.flatnonzero(rows.lengths >= HEADER_BYTES)
    if index.size:
        headers[index] = blocks.windows(rows.data, HEADER_BYTES)[rows.starts[index]].view("<u8")
    return headers


def _alike(value: int, rows: Rows) -> Group | None:
    """The one group of a column whose headers are all the same; None where a row is malformed."""
    suite = Suite.of(value & 0xFF)
    if suite is None or not value >> 8:
        return None
    if not suite.overhead_bytes <= rows.shortest <= rows.longest <= MAX_VALUE_BYTES + suite.overhead_bytes:
        return None
    return Group(suite, _key_id(value), None)


def _mixed(column: Column, headers: _Headers) -> tuple[tuple[Group, ...], Codes]:
    suites = (headers & np.uint64(0xFF)).astype(np.uint8)
    lengths = column.rows.lengths
    good = np.zeros(column.count, np.bool_)
    of_suite = {}
    for suite in Suite:
        fits = (suites == suite) & (lengths >= suite.overhead_bytes)
        of_suite[suite] = fits & (lengths <= MAX_VALUE_BYTES + suite.overhead_bytes) & (headers >> np.uint64(8) != 0)
        if column.null is not None:
            of_suite[suite] &= ~column.null
        good |= of_suite[suite]
    if column.width is not None:
        good = max(of_suite.values(), key=np.count_nonzero)
    failures = np.where(good, 0, RowFailure.MALFORMED).astype(np.uint8)
    if column.null is not None:
        failures[column.null] = 0
    return _grouped(headers, np.flatnonzero(good)), failures


def _grouped(headers: _Headers, index: Index) -> tuple[Group, ...]:
    """Groups of the rows ``index`` by equal headers."""
    order = index[np.argsort(headers[index], kind="stable")]
    values = headers[order]
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    if cuts.size >= MAX_KEYS_IN_BATCH:
        raise LimitExceededError(
            f"the batch names {cuts.size + 1} data keys; one call may use at most {MAX_KEYS_IN_BATCH}: send fewer rows"
        )
    parts = np.split(order, cuts) if order.size else []
    values_of_parts = (int(headers[part[0]]) for part in parts)
    return tuple(Group(Suite(v & 0xFF), _key_id(v), p) for v, p in zip(values_of_parts, parts, strict=True))


def _key_id(value: int) -> str:
    return value.to_bytes(HEADER_BYTES, "little")[1:].hex()
