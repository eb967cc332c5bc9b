"""Decrypting a column: its rows decrypted by data key and put back in order.

Two steps, because data keys may have to be fetched between them: ``read_ciphertexts`` reads and checks every header,
``Ciphertexts.decrypt`` decrypts with the ciphers that could be had.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sidecar.crypto.blocks import Index
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.column import Column, Flags
from sidecar.crypto.format import RowFailure, Suite
from sidecar.crypto.parsing import Codes, Group, parse
from sidecar.crypto.rows import Rows, keep_rows, offsets_of, room_for

Keys = Mapping[str, DataKeyCipher | RowFailure]


@dataclass(frozen=True, slots=True)
class Decrypted:
    """The plaintexts, and for each row 0 or its ``RowFailure``; a row that failed is NULL."""

    column: Column
    failures: Codes


@dataclass(frozen=True, slots=True)
class Ciphertexts:
    """A ciphertext column whose headers were read."""

    column: Column
    groups: tuple[Group, ...]
    failures: Codes

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The data keys that the column needs, each once."""
        return tuple(dict.fromkeys(group.key_id for group in self.groups))

    def decrypt(self, keys: Keys, associated_data: bytes) -> Decrypted:
        """Decrypt with the ciphers in ``keys``; a ``RowFailure`` in place of a cipher is the failure of its rows."""
        if self.column.width is not None:
            return self._decrypt_fixed(keys, associated_data, self.column.width)
        target, offsets = self._room(keys)
        failures = self._decrypt_groups(keys, associated_data, target)
        data = target.data
        if failures.any():
            data, lengths = keep_rows(data, np.diff(offsets), failures == 0)
            offsets = offsets_of(lengths)
            target.data.fill(0)  # who must not leave plaintext behind (reencryption) cannot reach this copy
        return Decrypted(Column(data, self.column.count, offsets, None, self._null(failures)), failures)

    def _room(self, keys: Keys) -> tuple[Rows, Index]:
        """Room for the values of the rows that have a cipher, which writes every byte of it, and its offsets."""
        rows = self.column.rows
        alike = len(self.groups) == 1 and self.groups[0].index is None
        if alike and isinstance(keys[self.groups[0].key_id], DataKeyCipher):
            return room_for(rows, -self.groups[0].suite.overhead_bytes)
        lengths = np.zeros(self.column.count, np.int64)
        for group in self.groups:
            if isinstance(keys[group.key_id], DataKeyCipher):
                index = _index(group)
                lengths[index] = rows.lengths[index] - group.suite.overhead_bytes
        offsets = offsets_of(lengths)
        return Rows(np.empty(int(offsets[-1]), np.uint8), offsets[:-1], lengths), offsets

    def _decrypt_fixed(self, keys: Keys, associated_data: bytes, width: int) -> Decrypted:
        count = self.column.count
        suite = self.groups[0].suite if self.groups else Suite.DETERMINISTIC
        out_width = max(0, width - suite.overhead_bytes)
        out = np.zeros(out_width * count, np.uint8)
        target = Rows.uniform(out, start=0, stride=out_width, count=count, width=out_width)
        failures = self._decrypt_groups(keys, associated_data, target)
        null = self._null(failures)
        if not out_width:  # no bytes a row: byte_width could not say how many rows there are, so the answer has offsets
            return Decrypted(Column(out, count, np.zeros(count + 1, np.int64), None, null), failures)
        if null is not None:
            out.reshape(count, out_width)[null] = 0
        return Decrypted(Column(out, count, None, out_width, null), failures)

    def _decrypt_groups(self, keys: Keys, associated_data: bytes, target: Rows) -> Codes:
        """Write every group's plaintexts to ``target``; returns the failures of all rows."""
        failures = self.failures.copy()
        rows = self.column.rows
        for group in self.groups:
            key = keys[group.key_id]
            if isinstance(key, RowFailure):
                failures[_index(group)] = key
                continue
            source, place = (
                (rows, target) if group.index is None else (rows.select(group.index), target.select(group.index))
            )
            ok = key.decrypt_rows(source, place, group.suite, associated_data)
            if not ok.all():
                failures[_index(group)] = np.where(ok, 0, RowFailure.AUTHENTICATION_FAILED)
        if self.column.null is not None:
            failures[self.column.null] = 0
        return failures

    def _null(self, failures: Codes) -> Flags | None:
        failed: Flags = failures != 0
        null = failed if self.column.null is None else failed | self.column.null
        return null if null.any() else None


def read_ciphertexts(column: Column) -> Ciphertexts:
    """Read the headers of a ciphertext column.

    Raises:
        LimitExceededError: the batch names more data keys than one call may use.
    """
    groups, failures = parse(column)
    return Ciphertexts(column, groups, failures)


def _index(group: Group) -> slice | Index:
    return slice(None) if group.index is None else group.index
