"""AES blocks by the column: how rows become block planes and come back. Owns all strided views; knows no cipher.

A *plane* is an array of ``g`` AES blocks (dtype ``BLOCK``, 16 opaque bytes), one a row; ``k`` planes hold ``g`` rows
of up to ``16 * k`` bytes, zero-padded. Plane-major order makes every step of CMAC and CTR one contiguous pass over all
rows.

numpy moves a run of bytes with one ``memcpy`` a row when the run is an item of a void dtype, whatever its address;
byte-wise fancy indexing costs 20 times as much. Every view here is made by ``numpy.ndarray(buffer=...)``, which checks
that it lies inside its buffer, and is indexed by fancy indexing, which checks every index: a wrong length is an
exception, never a stray read.
"""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]
Planes = npt.NDArray[np.void]

BLOCK_BYTES = 16
BLOCK = np.dtype("V16")


def empty_planes(k: int, g: int) -> Planes:
    """An uninitialised (k, g) array of blocks, with the 16 spare bytes behind it that ``words`` and AES may touch."""
    raw = np.empty((k * g + 1) * BLOCK_BYTES, np.uint8)
    return np.ndarray((k, g), BLOCK, buffer=raw)


def words(planes: Planes) -> npt.NDArray[np.uint64]:
    """The same memory as one flat run of 64-bit words, two a block."""
    return planes.reshape(-1).view(np.uint64)


def windows(data: Bytes, size: int) -> npt.NDArray[np.void]:
    """Every run of ``size`` bytes in ``data``, as overlapping items: item ``i`` begins at byte ``i``."""
    return np.ndarray((data.size - size + 1,), f"V{size}", buffer=data, strides=(1,))


def items(data: Bytes, size: int, *, start: int, stride: int, count: int) -> npt.NDArray[np.void]:
    """``count`` runs of ``size`` bytes, the first at ``start``, each ``stride`` bytes behind the one before."""
    if count and not data.size:  # numpy takes an empty buffer for one that is as long as it must be
        raise ValueError("there are no rows in no bytes")
    return np.ndarray((count,), f"V{size}", buffer=data, offset=start, strides=(stride,))


def block_count(lengths: Index) -> Index:
    """ceil(n / 16) for each length."""
    return (lengths + (BLOCK_BYTES - 1)) >> 4


def read_rows(data: Bytes, starts: Index, k: int, *, lead: int = 0) -> Planes:
    """Read rows of up to ``lead + 16 * k`` bytes into ``lead // 16 + k`` planes.

    What lies behind a shorter row is read too, and masked by the caller; rows near the end of ``data`` need
    ``padded(data)``. ``lead`` is 0 or 16.
    """
    size = lead + BLOCK_BYTES * k
    rows = windows(data, size)[starts]
    return to_planes(rows.view(np.uint8), starts.size, size)


def to_planes(rows: Bytes, g: int, size: int) -> Planes:
    """Split ``g`` rows of ``size`` bytes (a multiple of 16, contiguous) into planes."""
    k = size // BLOCK_BYTES
    planes = empty_planes(k, g)
    for i in range(k):
        planes[i] = items(rows, BLOCK_BYTES, start=i * BLOCK_BYTES, stride=size, count=g)
    return planes


def read_uniform(data: Bytes, *, start: int, stride: int, count: int, width: int) -> Planes:
    """Read ``count`` rows of exactly ``width`` bytes into ceil(width / 16) zero-padded planes."""
    whole, rest = divmod(width, BLOCK_BYTES)
    planes = empty_planes(whole + (rest > 0), count)
    for i in range(whole):
        planes[i] = items(data, BLOCK_BYTES, start=start + i * BLOCK_BYTES, stride=stride, count=count)
    if rest:
        last = planes[whole]
        words(last)[:] = 0
        begin = start + whole * BLOCK_BYTES
        flat = last.view(np.uint8)
        items(flat, rest, start=0, stride=BLOCK_BYTES, count=count)[:] = items(
            data, rest, start=begin, stride=stride, count=count
        )
    return planes


def write_uniform(planes: Planes, data: Bytes, *, start: int, stride: int, width: int) -> None:
    """Write the first ``width`` bytes of each row to ``data``, the first row at ``start``, ``stride`` bytes apart."""
    whole, rest = divmod(width, BLOCK_BYTES)
    count = planes.shape[1]
    for i in range(whole):
        items(data, BLOCK_BYTES, start=start + i * BLOCK_BYTES, stride=stride, count=count)[:] = planes[i]
    if rest:
        begin = start + whole * BLOCK_BYTES
        last = items(planes[whole].view(np.uint8), rest, start=0, stride=BLOCK_BYTES, count=count)
        items(data, rest, start=begin, stride=stride, count=count)[:] = last


def write_rows(rows: Bytes, size: int, data: Bytes, starts: Index, lengths: Index, shortest: int) -> None:
    """Write the first ``lengths[i]`` bytes of row ``i`` to ``data`` at ``starts[i]``, and not one byte more.

    ``rows`` holds rows of ``size`` bytes; every length is at least ``shortest`` and at most ``2 * shortest`` or
    ``shortest + 16``: a row is written as two runs that may overlap, one from its front and one up to its end.
    """
    if not shortest:
        return
    g = lengths.size
    tail = min(shortest, BLOCK_BYTES)
    windows(data, shortest)[starts] = items(rows, shortest, start=0, stride=size, count=g)
    ends = lengths - tail
    windows(data, tail)[starts + ends] = windows(rows, tail)[np.arange(0, g * size, size) + ends]


def padded(data: Bytes, spare: int) -> Bytes:
    """A copy of ``data`` with ``spare`` zero bytes behind it, so that a window over the last row stays inside."""
    copy = np.empty(data.size + spare, np.uint8)
    copy[: data.size] = data
    copy[data.size :] = 0
    return copy
