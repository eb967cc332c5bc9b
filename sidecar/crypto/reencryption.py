"""Reencrypting a column: its rows decrypted, and encrypted again where they are not yet as they should be.

The plaintext column lives for one call of ``reencrypt`` and is zeroed before its memory is let go. What is not: the
cipher's temporaries, up to a megabyte that the next batch overwrites, and values that OpenSSL gives back one by one.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sidecar.crypto.blocks import Index
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.column import Column, Flags
from sidecar.crypto.decryption import Ciphertexts, Decrypted, Keys
from sidecar.crypto.format import Suite
from sidecar.crypto.nonces import RandomBytes
from sidecar.crypto.parsing import Codes, Group
from sidecar.crypto.rows import Rows, offsets_of


@dataclass(frozen=True, slots=True)
class Destination:
    """How rows are to be encrypted: under which data key, with which associated data, and in which mode.

    ``suite`` None: each row keeps its own.
    """

    cipher: DataKeyCipher
    associated_data: bytes
    suite: Suite | None

    def suite_of(self, group: Group) -> Suite:
        """How the rows of a group are to be encrypted."""
        return group.suite if self.suite is None else self.suite


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """The ciphertexts, for each row 0 or its ``RowFailure`` (such a row is NULL), and what was done.

    ``verified``: values that were decrypted, by data key. ``values`` and ``value_bytes``: their number and plaintext
    bytes by the mode in which they come back. ``unchanged``: rows that come back as the same bytes.
    """

    column: Column
    failures: Codes
    verified: Counter[str]
    values: Counter[Suite]
    value_bytes: Counter[Suite]
    unchanged: int


def suites_needed(ciphertexts: Ciphertexts, suite: Suite | None) -> set[Suite]:
    """The modes in which rows will be encrypted; ``suite`` as in ``Destination``."""
    return {suite or group.suite for group in ciphertexts.groups}


def most_growth(ciphertexts: Ciphertexts, suite: Suite | None) -> int:
    """By how many bytes a row of the answer may be longer than its question; at least 0."""
    groups = ciphertexts.groups
    return max([0, *((suite or group.suite).overhead_bytes - group.suite.overhead_bytes for group in groups)])


def reencrypt(
    ciphertexts: Ciphertexts, keys: Keys, associated_data: bytes, destination: Destination, random: RandomBytes
) -> Reencrypted:
    """Decrypt every row and encrypt it for ``destination``; fixed-width in gives fixed-width out.

    Rows that are under the destination's data key, mode and associated data already are decrypted all the same, so that
    they are verified, and come back as the bytes that they are.

    Args:
        keys: for each data key of ``ciphertexts`` its cipher, or a ``RowFailure`` for its rows.
        associated_data: what the rows were encrypted with.
        random: the operating system's CSPRNG.
    """
    decrypted = ciphertexts.decrypt(keys, associated_data)
    try:
        return _Work(ciphertexts, decrypted, associated_data, destination, random).done()
    finally:
        decrypted.column.data.fill(0)


class _Work:
    """One column on its way; sorts its good rows into those that stay and those that are encrypted."""

    def __init__(
        self,
        ciphertexts: Ciphertexts,
        decrypted: Decrypted,
        associated_data: bytes,
        destination: Destination,
        random: RandomBytes,
    ) -> None:
        self._source = ciphertexts.column
        self._plain = decrypted.column
        self._failures = decrypted.failures
        self._to = destination
        self._random = random
        self._same_associated_data = associated_data == destination.associated_data
        self._groups = ciphertexts.groups
        self._suites: Codes = np.zeros(self._source.count, np.uint8)
        """The suite byte of each good row's answer."""
        self._stays: Flags = np.zeros(self._source.count, np.bool_)
        self._verified: Counter[str] = Counter()

    def done(self) -> Reencrypted:
        """The answer."""
        for group, index in self._good_rows():
            self._suites[index] = self._to.suite_of(group)
            self._stays[index] = self._is_done(group)
            self._verified[group.key_id] += self._suites[index].size
        unchanged = int(np.count_nonzero(self._stays))
        used = [suite for suite in Suite if bool((self._suites == suite).any())]
        values, value_bytes = self._sizes(used)
        column = self._column(used, unchanged)
        return Reencrypted(column, self._failures, self._verified, values, value_bytes, unchanged)

    def _good_rows(self) -> Iterator[tuple[Group, slice | Index]]:
        """Every group with those of its rows that are neither NULL nor failed."""
        null = self._plain.null
        for group in self._groups:
            if group.index is None:
                yield group, slice(None) if null is None else np.flatnonzero(~null)
            else:
                yield group, group.index if null is None else group.index[~null[group.index]]

    def _is_done(self, group: Group) -> bool:
        at_home = group.key_id == self._to.cipher.key_id
        return at_home and self._same_associated_data and group.suite is self._to.suite_of(group)

    def _sizes(self, used: list[Suite]) -> tuple[Counter[Suite], Counter[Suite]]:
        values: Counter[Suite] = Counter()
        value_bytes: Counter[Suite] = Counter()
        for suite in used:
            rows = self._suites == suite
            values[suite] = int(np.count_nonzero(rows))
            value_bytes[suite] = int(self._plain.rows.lengths[rows].sum())
        return values, value_bytes

    def _column(self, used: list[Suite], unchanged: int) -> Column:
        if unchanged == self._source.count:
            return self._source
        one_shape = (self._source.width is None) == (self._plain.width is None)
        if len(used) == 1 and not unchanged and one_shape:
            return self._to.cipher.encrypt(self._plain, used[0], self._to.associated_data, self._random)
        return self._assembled(used)

    def _assembled(self, used: list[Suite]) -> Column:
        """Rows of several modes, or of which some stay: each written to its place."""
        target, offsets, width = self._room(used)
        for suite in used:
            index = np.flatnonzero((self._suites == suite) & ~self._stays)
            if index.size:
                rows, place = self._plain.rows.select(index), target.select(index)
                self._to.cipher.encrypt_rows(rows, place, suite, self._to.associated_data, self._random)
        _copy_rows(self._source.rows, target, self._stays)
        return Column(target.data, self._source.count, None if width else offsets, width, self._plain.null)

    def _room(self, used: list[Suite]) -> tuple[Rows, Index, int | None]:
        """Room for the answer, zeros beneath the NULLs of a fixed width, with its offsets and that width."""
        count, width = self._source.count, self._source.width
        if width is not None:
            if used:  # a fixed width is of one mode; where no row says which, the width stays as it is
                width = int(self._plain.rows.longest) + used[0].overhead_bytes
            lengths = np.full(count, width)
        else:
            overheads = np.zeros(256, np.int64)
            for suite in used:
                overheads[suite] = suite.overhead_bytes
            lengths = self._plain.rows.lengths + overheads[self._suites]
        offsets = offsets_of(lengths)
        return Rows(np.zeros(int(offsets[-1]), np.uint8), offsets[:-1], lengths), offsets, width


def _copy_rows(source: Rows, target: Rows, which: Flags) -> None:
    """Copy rows to where they are as long; both columns' rows lie one behind the other and fill their data."""
    if which.any():
        target.data[np.repeat(which, target.lengths)] = source.data[np.repeat(which, source.lengths)]
