"""AES-SIV (RFC 5297) over planes of blocks: S2V and CTR for many values at once. Owns the mode, knows no rows.

Every step of CMAC (NIST SP 800-38B) and of CTR is one ECB pass of OpenSSL's AES over the blocks of all values; the rest
is XOR. That this equals OpenSSL's AES-SIV is proved by the start-up self-test and by differential tests.
"""

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from sidecar.crypto.blocks import BLOCK, BLOCK_BYTES, Index, Planes, empty_planes, items, windows, words

_MASK64 = (1 << 64) - 1
_POLYNOMIAL = 0x87  # x^128 + x^7 + x^2 + x + 1: RFC 5297 section 2.3
_CTR_MASK = np.uint64(_MASK64 ^ (0x80 | 0x80 << 32))  # bits 31 and 63 of Q, in bytes 8 and 12: RFC 5297 section 2.6


def double(block: bytes) -> bytes:
    """Multiply by x in GF(2^128): ``dbl`` of RFC 5297 section 2.3."""
    n = int.from_bytes(block) << 1
    return ((n & ((1 << 128) - 1)) ^ (_POLYNOMIAL if n >> 128 else 0)).to_bytes(BLOCK_BYTES)


def xor(a: bytes, b: bytes) -> bytes:
    """XOR of two strings of equal length."""
    return (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(len(a))


class _Aes:
    """One AES key as a bare permutation of blocks."""

    def __init__(self, key: bytes) -> None:
        # ECB is only the permutation under CMAC and CTR here; nothing is ever encrypted in ECB mode.
        self._context: CipherContext = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305

    def __call__(self, planes: Planes) -> Planes:
        """Encrypt every block, into new planes."""
        k, g = planes.shape if planes.ndim == 2 else (1, planes.shape[0])
        # update_into asks for 15 spare bytes behind its output; block aligned input fills exactly the first k * g * 16.
        raw = np.empty((k * g + 1) * BLOCK_BYTES, np.uint8)
        self._context.update_into(planes.reshape(-1).view(np.uint8).data, raw.data)
        return np.ndarray(planes.shape, BLOCK, buffer=raw)


class PlaneSiv:
    """AES-SIV under one key, on planes; not for use by two threads at once."""

    def __init__(self, key: bytes) -> None:
        half = len(key) // 2
        self._mac_key = algorithms.AES(key[:half])
        self._mac = _Aes(key[:half])
        self._ctr = _Aes(key[half:])
        self._zero_mac = self._cmac(bytes(BLOCK_BYTES))
        zero = self._mac(np.frombuffer(bytes(BLOCK_BYTES), BLOCK)).tobytes()
        k1 = double(zero)
        k2 = double(k1)
        self._k1 = np.frombuffer(k1, np.uint64)
        padding = [b"\x80".rjust(n + 1, b"\0").ljust(BLOCK_BYTES, b"\0") for n in range(BLOCK_BYTES)]
        # A value of n < 16 bytes is padded by S2V itself and is then a whole block to CMAC: K1, never K2.
        self._short = np.frombuffer(b"".join([xor(p, k1) for p in padding] + [k1]), np.uint64)
        # A value of n >= 16 bytes is padded by CMAC: r bytes in its last block, 10* and K2, or K1 where r is 16.
        front = bytes(BLOCK_BYTES)
        self._long = np.frombuffer(b"".join([front + xor(p, k2) for p in padding] + [front + k1]), np.uint64)

    def _cmac(self, data: bytes) -> bytes:
        mac = CMAC(self._mac_key)
        mac.update(data)
        return mac.finalize()

    def associate(self, components: Sequence[bytes]) -> bytes:
        """S2V's running value after the components that all values share (RFC 5297 section 2.4)."""
        d = self._zero_mac
        for component in components:
            d = xor(double(d), self._cmac(component))
        return d

    def associate_nonces(self, d: bytes, nonces: Planes) -> Planes:
        """S2V's running value of each value, after its nonce as the last component; ``nonces`` is one plane."""
        macs = np.array(nonces)
        _xor_constant(macs, self._k1)
        macs = self._mac(macs)
        _xor_constant(macs, np.frombuffer(double(d), np.uint64))
        return macs

    def tags(self, planes: Planes, lengths: Index | int, d: bytes | Planes) -> Planes:
        """The synthetic IVs of ``g`` values: S2V's last step.

        Args:
            planes: (k, g) blocks, zero-padded; k at least 1.
            lengths: of all values, each with k as its block count (0 counts as 1); one int where they are all equal.
            d: the running value before the plaintext: 16 bytes for all values, or one plane with a block for each.
        """
        k = planes.shape[0]
        if k == 1:
            return self._mac(self._finish_short(planes[0], lengths, d))
        before_last, last = self._finish_long(planes[-2], planes[-1], lengths - BLOCK_BYTES * (k - 1), d)
        chain: Planes | None = None
        for block in [*planes[:-2], before_last, last]:
            chain = self._mac(block) if chain is None else self._mac(_xor_new(chain, block))
        assert chain is not None  # noqa: S101  (k >= 2: there were blocks)
        return chain

    def _finish_short(self, block: Planes, lengths: Index | int, d: bytes | Planes) -> Planes:
        """dbl(D) xor pad(P) (or P xorend D for 16 bytes), with the CMAC subkey: the only block of a short value."""
        if isinstance(d, bytes):
            table = self._short ^ np.frombuffer(double(d) * BLOCK_BYTES + d, np.uint64)
            return _xor_new(block, _pick(table.view(BLOCK), lengths, block.size))
        out = _xor_new(block, _pick(self._short.view(BLOCK), lengths, block.size))
        words(out)[:] ^= words(_double_short(d, lengths))
        return out

    def _finish_long(
        self, before_last: Planes, last: Planes, rest: Index | int, d: bytes | Planes
    ) -> tuple[Planes, Planes]:
        """Xorend of D, 10* padding and the CMAC subkey on the last two blocks; ``rest`` is 1 … 16 bytes in the last."""
        g = last.size
        if isinstance(d, bytes):
            row = np.frombuffer(bytes(BLOCK_BYTES) + d + bytes(BLOCK_BYTES), np.uint8)
            # Entry r holds D shifted r bytes into two blocks: the window that begins 16 - r bytes into (0, D, 0).
            shifts = np.ascontiguousarray(windows(row, 2 * BLOCK_BYTES)[::-1]).view(np.uint64)
            table = (self._long ^ shifts).view(BLOCK)
            if isinstance(rest, int) and rest == BLOCK_BYTES:  # D and K1 lie in the last block alone
                return before_last, _xor_new(last, _pick(table[1::2], rest, g))
            return (
                _xor_new(before_last, _pick(table[0::2], rest, g)),
                _xor_new(last, _pick(table[1::2], rest, g)),
            )
        table = self._long.view(BLOCK)
        if isinstance(rest, int) and rest == BLOCK_BYTES:
            back = _xor_new(last, d)
            _xor_constant(back, table[2 * rest + 1 :].view(np.uint64))
            return before_last, back
        front, back = _shifted(d, rest)
        words(front)[:] ^= words(before_last)
        words(back)[:] ^= words(last)
        words(back)[:] ^= words(_pick(table[1::2], rest, g))
        return front, back

    def keystream(self, tags: Planes, k: int) -> Planes:
        """The CTR keystream of each value: E(Q), E(Q + 1), … (RFC 5297 section 2.5)."""
        g = tags.size
        counters = empty_planes(k, g)
        counters[:] = tags
        words(counters)[1::2] &= _CTR_MASK
        # Q's bit 31 is clear and k is far below 2^31, so the counter never carries out of its low 32 bits.
        if k > 1:
            low = words(counters).view(np.uint32).reshape(k, g, 4)[:, :, 3]
            count = low[0].byteswap() + np.arange(1, k, dtype=np.uint32)[:, None]
            low[1:] = count.byteswap(inplace=True)
        return self._ctr(counters)


def _xor_new(a: Planes, b: Planes) -> Planes:
    out: Planes = (words(a) ^ words(b)).view(BLOCK)
    return out


def _xor_constant(blocks: Planes, constant: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
    flat = words(blocks)
    flat[0::2] ^= constant[0]
    flat[1::2] ^= constant[1]


def _pick(table: Planes, index: Index | int, count: int) -> Planes:
    """``table[index]``, once for each row."""
    if isinstance(index, int):
        return np.full(count, table[index], BLOCK)
    picked: Planes = table[index]
    return picked


def _double_short(d: Planes, lengths: Index | int) -> Planes:
    """dbl(D) for values under 16 bytes, D itself for those of 16."""
    if isinstance(lengths, int):
        return d if lengths == BLOCK_BYTES else _double_plane(d)
    out = _double_plane(d)
    whole = np.flatnonzero(lengths == BLOCK_BYTES)
    out[whole] = d[whole]
    return out


def _double_plane(d: Planes) -> Planes:
    """``double`` of every block."""
    halves = words(d)
    high, low = halves[0::2].byteswap(), halves[1::2].byteswap()
    out = np.empty_like(halves)
    carry = high >> np.uint64(63)
    out[0::2] = ((high << np.uint64(1)) | (low >> np.uint64(63))).byteswap()
    out[1::2] = ((low << np.uint64(1)) ^ (carry * np.uint64(_POLYNOMIAL))).byteswap()
    doubled: Planes = out.view(BLOCK)
    return doubled


def _shifted(d: Planes, rest: Index | int) -> tuple[Planes, Planes]:
    """Each block of ``d`` shifted ``rest`` bytes into a pair of blocks, which comes back as two planes."""
    g = d.size
    size = 3 * BLOCK_BYTES
    rows = np.zeros(g * size, np.uint8)
    items(rows, BLOCK_BYTES, start=BLOCK_BYTES, stride=size, count=g)[:] = d
    if isinstance(rest, int):
        start = BLOCK_BYTES - rest
        front = items(rows, BLOCK_BYTES, start=start, stride=size, count=g)
        back = items(rows, BLOCK_BYTES, start=start + BLOCK_BYTES, stride=size, count=g)
        return np.array(front), np.array(back)
    pairs = windows(rows, 2 * BLOCK_BYTES)[np.arange(0, g * size, size) + (BLOCK_BYTES - rest)].view(np.uint8)
    return (
        np.array(items(pairs, BLOCK_BYTES, start=0, stride=2 * BLOCK_BYTES, count=g)),
        np.array(items(pairs, BLOCK_BYTES, start=BLOCK_BYTES, stride=2 * BLOCK_BYTES, count=g)),
    )
