"""AES-SIV (RFC 5297) over whole columns. Owns the stable interface ``ColumnSiv`` and the choice of path for every row.

Two paths give the same bytes: OpenSSL's AES-SIV value by value, and the planes, which need few calls for many values.
Small batches and long values go to OpenSSL, the rest to the planes; ``Path`` forces either.
"""

from collections.abc import Iterator, Sequence
from enum import Enum

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sidecar.crypto import blocks
from sidecar.crypto.blocks import BLOCK, BLOCK_BYTES, Bytes, Index, Planes, words
from sidecar.crypto.framing import Frame, clear_behind, read, write_ciphertexts, write_plaintexts
from sidecar.crypto.planes import PlaneSiv
from sidecar.crypto.rows import Offsets, Rows, keep_rows, offsets_of, room_for
from sidecar.errors import InvalidBatchError

Flags = npt.NDArray[np.bool_]

_CHUNK_BYTES = 512 * 1024  # of plaintext planes: a chunk and its temporaries stay in a core's L2 cache
_MOST_BLOCKS = 512  # longer values always go to OpenSSL, which is then as fast and needs no memory


class Path(Enum):
    """Which implementation encrypts and decrypts."""

    AUTO = "auto"
    OPENSSL = "openssl"
    PLANES = "planes"


def _openssl_is_faster(k: int, g: int) -> bool:
    """Whether ``g`` values of ``k`` blocks cost less one by one; microseconds, fitted to measurements."""
    one_by_one = g * (2.3 + 0.02 * k)
    planes = 50 + 6 * k + g * (0.03 + 0.012 * k)
    return one_by_one < planes


class ColumnSiv:
    """AES-SIV over columns in Arrow's variable-size binary layout; not for use by two threads at once.

    Args:
        key: 64 bytes (32 and 48 as well, as RFC 5297 allows): the CMAC key, then the CTR key.
        path: which implementation to use; both give the same bytes.
    """

    def __init__(self, key: bytes, *, path: Path = Path.AUTO) -> None:
        self._aead = AESSIV(key)
        self._planes = PlaneSiv(key)
        self._path = path

    def encrypt(
        self,
        data: Bytes,
        offsets: Offsets,
        associated_data: Sequence[bytes],
        nonces: npt.NDArray[np.uint8] | None = None,
    ) -> tuple[Bytes, Index]:
        """Encrypt every row.

        Args:
            data: uint8, the rows' bytes.
            offsets: int32 or int64, n + 1 entries: row i is ``data[offsets[i]:offsets[i + 1]]``.
            associated_data: the S2V components before the nonce.
            nonces: (n, 16) uint8, the last S2V component of each row; or None.

        Returns:
            The rows ``siv || ct`` and their n + 1 int64 offsets.

        Raises:
            InvalidBatchError: offsets or nonces do not fit.
        """
        rows = Rows.ragged(data, offsets)
        target, out_offsets = room_for(rows, BLOCK_BYTES)
        self.encrypt_rows(rows, target, associated_data, as_plane(nonces, rows.count), Frame())
        return target.data, out_offsets

    def decrypt(
        self,
        data: Bytes,
        offsets: Offsets,
        associated_data: Sequence[bytes],
        nonces: npt.NDArray[np.uint8] | None = None,
    ) -> tuple[Bytes, Index, Flags]:
        """Decrypt every row ``siv || ct``; arguments as in ``encrypt``.

        Returns:
            The plaintext rows, their n + 1 int64 offsets, and n booleans: a row that is not ok comes back empty.

        Raises:
            InvalidBatchError: offsets or nonces do not fit.
        """
        rows = Rows.ragged(data, offsets)
        plane = as_plane(nonces, rows.count)
        if not rows.count or rows.shortest >= BLOCK_BYTES:
            target, offsets = room_for(rows, -BLOCK_BYTES)
            ok = self.decrypt_rows(rows, target, associated_data, plane)
        else:
            index = np.flatnonzero(rows.lengths >= BLOCK_BYTES)
            offsets = offsets_of(np.maximum(rows.lengths - BLOCK_BYTES, 0))
            target = Rows(np.empty(int(offsets[-1]), np.uint8), offsets[:-1], np.diff(offsets))
            ok = np.zeros(rows.count, np.bool_)
            ok[index] = self.decrypt_rows(
                rows.select(index), target.select(index), associated_data, None if plane is None else plane[index]
            )
        if ok.all():
            return target.data, offsets, ok
        kept, lengths = keep_rows(target.data, np.diff(offsets), ok)
        return kept, offsets_of(lengths), ok

    def encrypt_value(self, value: bytes | memoryview, components: Sequence[bytes]) -> bytes:
        """Encrypt one value with OpenSSL's AES-SIV; ``components``: all of S2V's before the value."""
        return self._aead.encrypt(value, list(components))

    def decrypt_value(self, row: bytes | memoryview, components: Sequence[bytes]) -> bytes | None:
        """Decrypt one row ``siv || ct`` of at least 16 bytes; None where it is not authentic."""
        try:
            return self._aead.decrypt(row, list(components))
        except InvalidTag:
            return None

    # --- rows in place: what the column cipher builds on

    def encrypt_rows(
        self, rows: Rows, target: Rows, associated_data: Sequence[bytes], nonces: Planes | None, frame: Frame
    ) -> None:
        """Encrypt ``rows`` and write ``frame || siv || ct`` to ``target``; every target row has just that length."""
        d: bytes | None = None
        for index, k in self._pieces(rows):
            piece, piece_target = _take(rows, index), _take(target, index)
            piece_nonces = None if nonces is None else nonces[index]
            if self._one_by_one(k, piece.count):
                self._encrypt_each(piece, piece_target, associated_data, piece_nonces, frame)
                continue
            d = d or self._planes.associate(associated_data)
            planes, lengths = read(piece, k)
            self._encrypt_planes(planes, lengths, d, piece_nonces, frame, piece_target)

    def decrypt_rows(self, rows: Rows, target: Rows, associated_data: Sequence[bytes], nonces: Planes | None) -> Flags:
        """Decrypt rows ``siv || ct``, each of at least 16 bytes, to ``target``; rows that fail become zeros."""
        ok = np.zeros(rows.count, np.bool_)
        d: bytes | None = None
        for index, k in self._pieces(target):
            piece, piece_target = _take(rows, index), _take(target, index)
            piece_nonces = None if nonces is None else nonces[index]
            if self._one_by_one(k, piece.count):
                ok[index] = self._decrypt_each(piece, piece_target, associated_data, piece_nonces)
                continue
            d = d or self._planes.associate(associated_data)
            ok[index] = self._decrypt_planes(piece, k, d, piece_nonces, piece_target)
        return ok

    def _one_by_one(self, k: int, g: int) -> bool:
        if self._path is Path.AUTO:
            return k > _MOST_BLOCKS or _openssl_is_faster(k, g)
        return self._path is Path.OPENSSL

    def _pieces(self, values: Rows) -> Iterator[tuple[slice | Index, int]]:
        """Row numbers that are worked on together, with their block count."""
        count = values.count
        if not count:
            return
        if self._path is Path.OPENSSL:
            yield slice(0, count), 0
            return
        if values.stride is not None:
            k = -(-values.width // BLOCK_BYTES)
            step = max(1, _CHUNK_BYTES // (BLOCK_BYTES * max(k, 1)))
            for begin in range(0, count, step):
                yield slice(begin, min(begin + step, count)), k
            return
        yield from self._groups(values.lengths)

    def _groups(self, lengths: Index) -> Iterator[tuple[Index, int]]:
        """Row numbers by block count, in chunks; values too long for the planes come as one group of one by one."""
        counts = blocks.block_count(lengths)
        if self._path is Path.AUTO:
            counts = np.minimum(counts, _MOST_BLOCKS + 1)
        small = counts.astype(np.uint16) if int(counts.max()) < 1 << 16 else counts  # 16 bits sort by radix
        order = np.argsort(small, kind="stable")
        ks, firsts = np.unique(small[order], return_index=True)
        for k, begin, end in zip(ks.tolist(), firsts, [*firsts[1:], counts.size], strict=True):
            step = max(1, _CHUNK_BYTES // (BLOCK_BYTES * max(k, 1)))
            for at in range(begin, end, step):
                yield order[at : min(at + step, end)], k

    # --- one by one: OpenSSL's AES-SIV

    def _encrypt_each(
        self, rows: Rows, target: Rows, associated_data: Sequence[bytes], nonces: Planes | None, frame: Frame
    ) -> None:
        components = [*associated_data]
        out = target.data.data
        source = rows.data.data
        spots = zip(rows.starts.tolist(), rows.lengths.tolist(), target.starts.tolist(), strict=True)
        for i, (start, length, at) in enumerate(spots):
            nonce = b"" if nonces is None else nonces[i].tobytes()
            terms = [*components, nonce] if nonce else components
            row = frame.header + nonce * frame.with_nonce
            row += self.encrypt_value(source[start : start + length], terms)
            out[at : at + len(row)] = row

    def _decrypt_each(self, rows: Rows, target: Rows, associated_data: Sequence[bytes], nonces: Planes | None) -> Flags:
        components = [*associated_data]
        ok = np.ones(rows.count, np.bool_)
        out = target.data.data
        source = rows.data.data
        spots = zip(rows.starts.tolist(), rows.lengths.tolist(), target.starts.tolist(), strict=True)
        for i, (start, length, at) in enumerate(spots):
            terms = components if nonces is None else [*components, nonces[i].tobytes()]
            value = self.decrypt_value(source[start : start + length], terms)
            if value is None:
                ok[i] = False
                value = bytes(length - BLOCK_BYTES)
            out[at : at + len(value)] = value
        return ok

    # --- many at once: planes

    def _encrypt_planes(
        self, planes: Planes, lengths: Index | int, d: bytes, nonces: Planes | None, frame: Frame, target: Rows
    ) -> None:
        terms = d if nonces is None else self._planes.associate_nonces(d, nonces)
        tags = self._planes.tags(planes, lengths, terms)
        # Rows of nothing have a plane of zeros for their tags, and no ciphertext.
        k = planes.shape[0] if target.longest > frame.size + BLOCK_BYTES else 0
        if k:
            words(planes)[:] ^= words(self._planes.keystream(tags, k))
        write_ciphertexts(planes[:k], tags, nonces, frame, target)

    def _decrypt_planes(self, rows: Rows, k: int, d: bytes, nonces: Planes | None, target: Rows) -> Flags:
        tags_and_planes, _ = read(rows, k + 1)
        tags, planes = tags_and_planes[0], tags_and_planes[1:]
        lengths: Index | int = target.lengths if target.stride is None else target.width
        if k:
            words(planes)[:] ^= words(self._planes.keystream(tags, k))
            clear_behind(planes, lengths)
        else:
            planes = np.zeros((1, rows.count), BLOCK)
        terms = d if nonces is None else self._planes.associate_nonces(d, nonces)
        # All rows are compared at once and in full: nothing here depends on where two tags differ.
        difference = words(self._planes.tags(planes, lengths, terms)) ^ words(tags)
        ok: Flags = (difference[0::2] | difference[1::2]) == 0
        if not ok.all():
            planes[:, ~ok] = np.zeros((), BLOCK)  # no byte of a row that failed is released
        if k:
            write_plaintexts(planes, target)
        return ok


def as_plane(nonces: npt.NDArray[np.uint8] | None, count: int) -> Planes | None:
    """(n, 16) bytes as one plane."""
    if nonces is None:
        return None
    if nonces.shape != (count, BLOCK_BYTES) or nonces.dtype != np.uint8:
        raise InvalidBatchError(f"nonces must be a uint8 array of shape ({count}, {BLOCK_BYTES})")
    return np.ascontiguousarray(nonces).reshape(-1).view(BLOCK)


def _take(rows: Rows, index: slice | Index) -> Rows:
    return rows.part(index.start, index.stop) if isinstance(index, slice) else rows.select(index)
