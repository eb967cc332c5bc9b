"""No uninitialised memory ever shows: whatever numpy's fresh arrays hold, every answer is the same to the byte."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.column import Column
from sidecar.crypto.decryption import read_ciphertexts
from sidecar.crypto.format import RowFailure, Suite
from sidecar.crypto.rows import Rows
from sidecar.crypto.siv import ColumnSiv, Path
from tests.crypto.columns import PATHS, fixed, laid_out, ragged, rows_of

KEY_IDS = ("00000000000001", "00000000000002")
SECRET = 0xAA
"""What stands for other requests' bytes in memory that was not cleared."""


def fresh_memory_holds(monkeypatch: pytest.MonkeyPatch, byte: int) -> None:
    """Fill every array from ``numpy.empty`` and ``numpy.empty_like`` with a byte."""

    def poisoned(make: Callable[..., np.ndarray[Any, Any]]) -> Callable[..., np.ndarray[Any, Any]]:
        def made(*args: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
            array = make(*args, **kwargs)
            array.view(np.uint8).reshape(-1)[:] = byte
            return array

        return made

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(np, name, poisoned(getattr(np, name)))


def columns() -> list[Column]:
    """Columns of every kind: ragged, equal lengths, fixed widths, empty values, NULLs first, last and between."""
    lengths = [0, 1, 15, 16, 17, 31, 32, 33, 48, 100]
    mixed: list[bytes | None] = [bytes(range(1, n + 1)) for n in lengths * 12]
    with_nulls = [None, *(None if i % 7 == 3 else value for i, value in enumerate(mixed)), None]
    out = [ragged(mixed), ragged(with_nulls, b"beneath"), ragged([b""] * 5), ragged([None] * 5), ragged([])]
    for width in lengths[1:]:
        equal = [bytes([i + 1]) * width for i in range(90)]
        out += [ragged(equal), fixed(equal, width), fixed([None, *equal, None], width), fixed([None] * 3, width)]
    return out


def damaged(column: Column) -> Column:
    """Every fifth row with a flipped bit in its siv, every eleventh with an unknown suite."""
    data = column.data.copy()
    rows = column.rows
    for i in range(0, column.count, 5):
        if rows.lengths[i]:
            data[rows.starts[i] + rows.lengths[i] - 1] ^= 0x10
    for i in range(0, column.count, 11):
        if rows.lengths[i]:
            data[rows.starts[i]] = 0xFA
    return Column(data, column.count, column.offsets, column.width, column.null)


def shown(column: Column) -> tuple[bytes, list[int], list[bool]]:
    offsets = [] if column.offsets is None else column.offsets.tolist()
    return column.data.tobytes(), offsets, [] if column.null is None else column.null.tolist()


def everything(path: Path) -> list[object]:
    """What encrypting and decrypting every column gives, under a good key, a key that fails, and with damage."""
    out: list[object] = []
    ciphers = {key_id: DataKeyCipher(key_id, bytes.fromhex(key_id) + bytes(25), path=path) for key_id in KEY_IDS}
    for column in columns():
        for suite in Suite:
            sealed = ciphers[KEY_IDS[0]].encrypt(column, suite, b"memory", lambda n: bytes(range(16)) * (n // 16))
            out.append(shown(sealed))
            for key in (ciphers[KEY_IDS[0]], ciphers[KEY_IDS[1]], RowFailure.KEY_DISABLED):
                for each in (sealed, damaged(sealed)):
                    opened = read_ciphertexts(each).decrypt({KEY_IDS[0]: key}, b"memory")
                    out.append((shown(opened.column), opened.failures.tolist()))
    siv = ColumnSiv(bytes(range(64)), path=path)
    rows, offsets = siv.encrypt(*laid_out([bytes(n) for n in range(90)]), [])
    short = laid_out([bytes(n) for n in range(20)])
    out += [[part.tobytes() for part in siv.decrypt(*each, [])] for each in ((rows, offsets), short)]
    return out


@pytest.mark.parametrize("path", PATHS)
def test_no_answer_depends_on_what_fresh_memory_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fresh_memory_holds(patch, 0)
        expected = everything(path)
    fresh_memory_holds(monkeypatch, SECRET)
    assert np.empty(3, np.uint8).tolist() == [SECRET] * 3
    assert everything(path) == expected


def test_what_lies_behind_a_row_never_reaches_its_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    # Short rows are written in overlapping runs: neighbours of every pair of lengths must keep their first bytes.
    fresh_memory_holds(monkeypatch, SECRET)
    siv = ColumnSiv(bytes(range(64)), path=Path.PLANES)
    values = [bytes([i % 251 + 1]) * n for a in range(34) for b in range(34) for i, n in enumerate((a, b))]
    rows, offsets = siv.encrypt(*laid_out(values), [b"neighbours"])
    data, ends, ok = siv.decrypt(rows, offsets, [b"neighbours"])
    assert ok.all()
    assert data.tobytes() == b"".join(values)
    assert ends[-1] == data.size


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("lengths", [[33] * 90, [n % 70 for n in range(140)]])
def test_rows_that_fail_are_zeros_before_anything_else_is_done_with_them(lengths: list[int], path: Path) -> None:
    # Later steps drop such rows too; this one must not rely on them.
    cipher = DataKeyCipher(KEY_IDS[0], bytes(32), path=path)
    for suite in Suite:
        values = [b"\xff" * length for length in lengths]
        sealed = cipher.encrypt(ragged(values), suite, b"right", bytes)
        target = ragged([bytes([SECRET]) * length for length in lengths])
        out = Rows.ragged(target.data.copy(), np.array([0, *np.cumsum(lengths)]))
        assert not cipher.decrypt_rows(sealed.rows, out, suite, b"wrong").any()
        assert not out.data.any()
        assert cipher.decrypt_rows(sealed.rows, out, suite, b"right").all()
        assert out.data.tobytes() == b"".join(values)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("suite", list(Suite))
def test_a_good_ciphertext_beneath_a_null_is_not_shown(suite: Suite, path: Path) -> None:
    cipher = DataKeyCipher(KEY_IDS[0], bytes(32), path=path)
    sealed = cipher.encrypt(fixed([b"visible value", b"hidden value!"], 13), suite, b"", bytes)
    null = np.array([False, True])
    for column in (
        Column.fixed(sealed.data, 13 + suite.overhead_bytes, null),
        Column.ragged(sealed.data, np.arange(3) * (13 + suite.overhead_bytes), null),
    ):
        opened = read_ciphertexts(column).decrypt({KEY_IDS[0]: cipher}, b"")
        assert rows_of(opened.column) == [b"visible value", None]
        assert opened.column.data.tobytes().rstrip(b"\0") == b"visible value"
