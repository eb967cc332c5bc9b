"""One data key, ready to work: encrypts columns and decrypts rows. Owns how a suite's rows are framed."""

from collections.abc import Sequence

import numpy as np

from sidecar.crypto import blocks, key_schedule
from sidecar.crypto.blocks import BLOCK, Planes
from sidecar.crypto.column import Column, Flags, live_rows
from sidecar.crypto.format import HEADER_BYTES, MAX_VALUE_BYTES, NONCE_BYTES, Suite, header
from sidecar.crypto.framing import Frame
from sidecar.crypto.nonces import RandomBytes, random_nonces
from sidecar.crypto.rows import Rows, offsets_of, room_for
from sidecar.crypto.siv import ColumnSiv, Path
from sidecar.errors import ValueTooLargeError


class DataKeyCipher:
    """The ready cipher objects of one data key; holds no key bytes of its own. Not for use by two threads at once.

    Args:
        key_id: 14 lower-case hex digits.
        data_key: 32 bytes; not kept, the caller overwrites them.
        path: which AES-SIV implementation to use.
    """

    def __init__(self, key_id: str, data_key: bytes | bytearray, *, path: Path = Path.AUTO) -> None:
        self.key_id = key_id
        self._sivs = {suite: ColumnSiv(key_schedule.suite_key(data_key, suite), path=path) for suite in Suite}
        self._headers = {suite: header(suite, key_id) for suite in Suite}

    def __repr__(self) -> str:
        return f"DataKeyCipher({self.key_id})"

    def encrypt(self, column: Column, suite: Suite, associated_data: bytes, random: RandomBytes) -> Column:
        """Encrypt every row that is not NULL; a fixed-width column gives a fixed-width one.

        Args:
            random: the operating system's CSPRNG, asked once for all rows.

        Raises:
            ValueTooLargeError: a value is longer than 8 MiB.
        """
        live = live_rows(column.null) if column.width is None else None
        rows = column.rows if live is None else column.rows.select(live)
        _check_sizes(rows, live)
        if column.width is not None:
            width = column.width + suite.overhead_bytes
            out = np.empty(width * column.count, np.uint8)
            target = Rows.uniform(out, start=0, stride=width, count=column.count, width=width)
            self.encrypt_rows(rows, target, suite, associated_data, random)
            if column.null is not None:
                out.reshape(column.count, width)[column.null] = 0
            return Column(out, column.count, None, width, column.null)
        target, offsets = room_for(rows, suite.overhead_bytes)
        self.encrypt_rows(rows, target, suite, associated_data, random)
        if live is not None:
            # NULL rows have no bytes: the room is the same, and only the offsets know of them.
            lengths = np.zeros(column.count, np.int64)
            lengths[live] = target.lengths
            offsets = offsets_of(lengths)
        return Column(target.data, column.count, offsets, None, column.null)

    def encrypt_rows(self, rows: Rows, target: Rows, suite: Suite, associated_data: bytes, random: RandomBytes) -> None:
        """Encrypt rows of at most 8 MiB to ``target``, whose rows are ``overhead_bytes`` longer."""
        randomized = suite is Suite.RANDOMIZED
        nonces = np.frombuffer(random_nonces(rows.count, random), BLOCK) if randomized else None
        front = self._headers[suite]
        self._sivs[suite].encrypt_rows(rows, target, [front + associated_data], nonces, Frame(front, randomized))

    def encrypt_values(
        self, values: Sequence[bytes], suite: Suite, associated_data: bytes, random: RandomBytes
    ) -> list[bytes]:
        """Encrypt few values of at most 8 MiB, one by one; ``random`` is asked once for all nonces."""
        siv, front = self._sivs[suite], self._headers[suite]
        bound = front + associated_data
        if suite is Suite.DETERMINISTIC:
            return [front + siv.encrypt_value(value, (bound,)) for value in values]
        pool = random_nonces(len(values), random)
        nonces = (pool[at : at + NONCE_BYTES] for at in range(0, len(pool), NONCE_BYTES))
        return [
            front + nonce + siv.encrypt_value(value, (bound, nonce))
            for value, nonce in zip(values, nonces, strict=True)
        ]

    def decrypt_value(self, ciphertext: bytes, suite: Suite, associated_data: bytes) -> bytes | None:
        """Decrypt one ciphertext that has this key's header of ``suite`` and is long enough; None: not authentic."""
        terms = [self._headers[suite] + associated_data]
        if suite is Suite.RANDOMIZED:
            terms.append(ciphertext[HEADER_BYTES : suite.lead_bytes])
        return self._sivs[suite].decrypt_value(memoryview(ciphertext)[suite.lead_bytes :], terms)

    def decrypt_rows(self, rows: Rows, target: Rows, suite: Suite, associated_data: bytes) -> Flags:
        """Decrypt rows that begin with this key's header of ``suite`` and are long enough for it.

        Returns:
            Which rows are authentic; the others become zeros in ``target``, whose rows are ``overhead_bytes`` shorter.
        """
        nonces = _nonces(rows) if suite is Suite.RANDOMIZED else None
        terms = [self._headers[suite] + associated_data]
        return self._sivs[suite].decrypt_rows(rows.drop(suite.lead_bytes), target, terms, nonces)


def _nonces(rows: Rows) -> Planes:
    """The nonce of each row, which stands behind its header."""
    if rows.stride is None:
        return blocks.windows(rows.data, NONCE_BYTES)[rows.starts + HEADER_BYTES]
    start = rows.start + HEADER_BYTES
    return blocks.items(rows.data, NONCE_BYTES, start=start, stride=rows.stride, count=rows.count)


def _check_sizes(rows: Rows, live: np.ndarray[tuple[int], np.dtype[np.int64]] | None) -> None:
    if rows.longest <= MAX_VALUE_BYTES:
        return
    at = int(rows.lengths.argmax())
    row = at if live is None else int(live[at])
    size = int(rows.lengths[at])
    raise too_large(row, size)


def too_large(row: int, size: int) -> ValueTooLargeError:
    """The error for a value over the limit."""
    return ValueTooLargeError(f"row {row} has {size} bytes; a value may have at most {MAX_VALUE_BYTES}")
