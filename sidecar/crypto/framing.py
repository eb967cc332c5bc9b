"""Rows to planes and back: reading values, and writing ciphertexts or plaintexts where they belong.

Owns the shape of a framed row and the clearing of what lies behind a row's end; knows no cipher.
"""

from dataclasses import dataclass

import numpy as np

from sidecar.crypto import blocks
from sidecar.crypto.blocks import BLOCK, BLOCK_BYTES, Index, Planes, words
from sidecar.crypto.rows import Rows

# Entry r keeps the first r bytes of a block.
_MASKS = np.frombuffer(b"".join((b"\xff" * r).ljust(BLOCK_BYTES, b"\0") for r in range(BLOCK_BYTES + 1)), BLOCK)
# Values under 16 bytes are written in two runs of a power of two that may overlap: (run, shortest, longest).
_SHORT_RUNS = ((1, 1), (2, 3), (4, 7), (8, 15), (16, 16))


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before ``siv || ct`` in a row that is written: a constant header, and its nonce or nothing."""

    header: bytes = b""
    with_nonce: bool = False

    @property
    def size(self) -> int:
        """Bytes before the siv."""
        return len(self.header) + BLOCK_BYTES * self.with_nonce


def read(rows: Rows, k: int) -> tuple[Planes, Index | int]:
    """Rows as zero-padded planes (at least one), with their lengths: one int where the width is fixed."""
    if rows.stride is not None:
        if not rows.width:
            return np.zeros((1, rows.count), BLOCK), 0
        planes = blocks.read_uniform(
            rows.data, start=rows.start, stride=rows.stride, count=rows.count, width=rows.width
        )
        return planes, rows.width
    if not k:
        return np.zeros((1, rows.count), BLOCK), rows.lengths
    data = rows.data
    overrun = int(rows.starts.max()) + BLOCK_BYTES * k - data.size
    if overrun > 0:
        data = blocks.padded(data, overrun)
    planes = blocks.read_rows(data, rows.starts, k)
    clear_behind(planes, rows.lengths)
    return planes, rows.lengths


def clear_behind(planes: Planes, lengths: Index | int) -> None:
    """Zero what lies behind each row's end in its last block."""
    rest = lengths - BLOCK_BYTES * (planes.shape[0] - 1)
    if isinstance(rest, int):
        if rest < BLOCK_BYTES:
            words(planes[-1])[:] &= words(np.full(planes.shape[1], _MASKS[rest], BLOCK))
        return
    words(planes[-1])[:] &= words(_MASKS.take(rest))


def write_ciphertexts(planes: Planes, tags: Planes, nonces: Planes | None, frame: Frame, target: Rows) -> None:
    """Write ``header || nonce || siv || ct``: straight to a fixed-width target, by padded rows to a ragged one."""
    k, g = planes.shape
    lead = frame.size + BLOCK_BYTES
    uniform = target.stride is not None
    size = target.stride or lead + BLOCK_BYTES * k
    out = target.data if uniform else np.empty(g * size, np.uint8)
    at = target.start
    if frame.header:
        blocks.items(out, len(frame.header), start=at, stride=size, count=g)[:] = np.broadcast_to(
            np.void(frame.header), g
        )
        at += len(frame.header)
    if frame.with_nonce:
        blocks.items(out, BLOCK_BYTES, start=at, stride=size, count=g)[:] = nonces
        at += BLOCK_BYTES
    blocks.items(out, BLOCK_BYTES, start=at, stride=size, count=g)[:] = tags
    width = target.width - lead if uniform else BLOCK_BYTES * k
    if k:
        blocks.write_uniform(planes, out, start=at + BLOCK_BYTES, stride=size, width=width)
    if not uniform:
        shortest = lead + BLOCK_BYTES * max(k - 1, 0)
        blocks.write_rows(out, size, target.data, target.starts, target.lengths, shortest)


def write_plaintexts(planes: Planes, target: Rows) -> None:
    """Write plaintext rows, without a byte behind any row's end."""
    k, g = planes.shape
    if target.stride is not None:
        blocks.write_uniform(planes, target.data, start=target.start, stride=target.stride, width=target.width)
        return
    if k > 1:
        size = BLOCK_BYTES * k
        rows = np.empty(g * size, np.uint8)
        blocks.write_uniform(planes, rows, start=0, stride=size, width=size)
        blocks.write_rows(rows, size, target.data, target.starts, target.lengths, size - BLOCK_BYTES)
        return
    for shortest, longest in _SHORT_RUNS:
        index = np.flatnonzero((target.lengths >= shortest) & (target.lengths <= longest))
        if index.size:
            rows = planes[0][index].view(np.uint8)
            blocks.write_rows(rows, BLOCK_BYTES, target.data, target.starts[index], target.lengths[index], shortest)
