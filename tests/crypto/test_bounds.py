"""Buffers that contradict each other are refused with the documented error, and nothing reads outside of them."""

from collections.abc import Sequence

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from sidecar.crypto import blocks
from sidecar.crypto.column import Column
from sidecar.crypto.rows import Offsets, Rows
from sidecar.crypto.siv import ColumnSiv, Path
from sidecar.errors import InvalidBatchError
from tests.crypto.columns import PATHS, Bytes, bounded, laid_out, rows_of, values_of

KEY = bytes(range(64))
REFERENCE = AESSIV(KEY)
SIVS = {path: ColumnSiv(KEY, path=path) for path in PATHS}
DATA = np.frombuffer(bytes(range(100, 140)), np.uint8)


def offsets_of(entries: Sequence[int], *, wide: bool = True) -> Offsets:
    return np.array(entries, np.int64) if wide else np.array(entries, np.int32)


def fit(entries: Sequence[int], size: int) -> bool:
    """Whether offsets hold an entry, rise, and stay inside ``size`` bytes."""
    return bool(entries) and entries[0] >= 0 and [*entries] == sorted(entries) and entries[-1] <= size


any_offsets = st.one_of(
    st.lists(st.integers(-3, 45), max_size=8),
    st.lists(st.integers(0, 40), min_size=1, max_size=60).map(sorted),
    st.lists(st.sampled_from([-(2**31), -1, 0, 1, 16, 40, 41, 2**31 - 1]), max_size=5),
)


def buried(data: bytes, surroundings: int) -> Bytes:
    """``data`` as a view into a larger array: what a stray read would see around it is one byte, repeated."""
    whole = np.full(len(data) + 4096, surroundings, np.uint8)
    whole[2048 : 2048 + len(data)] = np.frombuffer(data, np.uint8)
    return whole[2048 : 2048 + len(data)]


@bounded(400)
@given(any_offsets, st.booleans())
def test_any_offsets_are_refused_or_encrypted_right(entries: list[int], wide: bool) -> None:
    offsets = offsets_of(entries, wide=wide)
    for siv in SIVS.values():
        if not fit(entries, DATA.size):
            with pytest.raises(InvalidBatchError, match=r"^offsets "):
                siv.encrypt(DATA, offsets, [b"bounds"])
            continue
        rows = values_of(*siv.encrypt(buried(DATA.tobytes(), 0xEE), offsets, [b"bounds"]))
        assert rows == [REFERENCE.encrypt(value, [b"bounds"]) for value in values_of(DATA, offsets)]


@bounded(400)
@given(any_offsets, st.booleans(), st.integers(0, 20))
def test_any_offsets_are_refused_or_decrypted_right(entries: list[int], wide: bool, length: int) -> None:
    # One row's length is right with luck alone: what matters is that nothing else is ever taken for a value.
    sealed = REFERENCE.encrypt(bytes(length), [b"bounds"])
    data = buried(sealed.ljust(40, b"\1"), 0xEE)
    offsets = offsets_of(entries, wide=wide)
    for siv in SIVS.values():
        if not fit(entries, data.size):
            with pytest.raises(InvalidBatchError, match=r"^offsets "):
                siv.decrypt(data, offsets, [b"bounds"])
            continue
        opened, ends, ok = siv.decrypt(data, offsets, [b"bounds"])
        rows = values_of(data, offsets)
        assert ok.tolist() == [row == sealed for row in rows]
        assert values_of(opened, ends) == [bytes(length) if row == sealed else b"" for row in rows]


@bounded(200)
@given(any_offsets, st.booleans())
def test_a_column_is_refused_unless_its_offsets_begin_at_0_and_end_where_its_data_ends(
    entries: list[int], wide: bool
) -> None:
    offsets = offsets_of(entries, wide=wide)
    if fit(entries, DATA.size) and entries[0] == 0 and entries[-1] == DATA.size:
        assert rows_of(Column.ragged(DATA, offsets)) == values_of(DATA, offsets)
        return
    with pytest.raises(InvalidBatchError, match=r"^offsets "):
        Column.ragged(DATA, offsets)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([], "offsets must hold one entry more than there are rows: at least one"),
        ([-1, 40], "offsets reach outside the data's 40 bytes"),
        ([0, 41], "offsets reach outside the data's 40 bytes"),
        ([0, 50, 40], "offsets fall at row 1; each must be at least the one before"),
        ([0, -5, 40], "offsets fall at row 0; each must be at least the one before"),
        ([30, 20], "offsets fall at row 0; each must be at least the one before"),
        ([1, 40], "offsets begin at 1; they must begin at 0"),
        ([0, 39], "offsets end at 39, but data has 40 bytes; they must be equal"),
    ],
)
def test_refused_offsets_say_where_and_what_would_be_right(entries: list[int], text: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        Column.ragged(DATA, offsets_of(entries))
    assert str(caught.value) == text


@pytest.mark.parametrize("width", [-1, 0, 3, 39, 41, 2**40])
def test_a_width_that_does_not_divide_the_data_is_refused(width: int) -> None:
    with pytest.raises(InvalidBatchError, match=rf"^byte_width {width} does not divide the data's 40 bytes"):
        Column.fixed(DATA, width)


@pytest.mark.parametrize("count", [1, 9, 11])
def test_null_flags_for_another_number_of_rows_are_refused(count: int) -> None:
    null = np.ones(count, np.bool_)
    with pytest.raises(InvalidBatchError, match=f"^validity is for {count} rows, but the batch has 10$"):
        Column.fixed(DATA, 4, null)
    with pytest.raises(InvalidBatchError, match=f"^validity is for {count} rows, but the batch has 10$"):
        Column.ragged(DATA, np.arange(0, 41, 4), null)


@pytest.mark.parametrize(
    "nonces",
    [
        np.zeros((1, 16), np.uint8),
        np.zeros((3, 16), np.uint8),
        np.zeros((2, 15), np.uint8),
        np.zeros((2, 17), np.uint8),
        np.zeros(32, np.uint8),
        np.zeros((2, 16), np.uint16),
        np.zeros((16, 2), np.uint8),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_nonces_of_another_shape_or_type_are_refused(nonces: Bytes, path: Path) -> None:
    data, offsets = laid_out([b"one", b"two"])
    with pytest.raises(InvalidBatchError, match=r"^nonces must be a uint8 array of shape \(2, 16\)$"):
        SIVS[path].encrypt(data, offsets, [], nonces)
    with pytest.raises(InvalidBatchError, match=r"^nonces must be a uint8 array of shape \(2, 16\)$"):
        SIVS[path].decrypt(data, offsets, [], nonces)


@pytest.mark.parametrize("path", PATHS)
def test_nonces_may_be_a_view_of_any_layout(path: Path) -> None:
    nonces = np.random.default_rng(5).integers(0, 256, (16, 90), np.uint8)
    values = [bytes(n) for n in range(90)]
    rows = values_of(*SIVS[path].encrypt(*laid_out(values), [b"view"], nonces.T))
    assert rows == [REFERENCE.encrypt(v, [b"view", n.tobytes()]) for v, n in zip(values, nonces.T, strict=True)]


@pytest.mark.parametrize("size", [0, 1, 16, 24, 31, 32, 33, 63, 64])
def test_only_keys_of_32_48_and_64_bytes_are_taken(size: int) -> None:
    if size in {32, 48, 64}:
        ColumnSiv(bytes(size))
        return
    with pytest.raises(ValueError, match="key"):
        ColumnSiv(bytes(size))


@pytest.mark.parametrize("path", PATHS)
def test_rows_shorter_than_a_siv_fail_and_hurt_no_other(path: Path) -> None:
    sealed = REFERENCE.encrypt(b"whole", [])
    rows = [row for n in range(16) for row in (bytes(n), sealed, sealed[:n])] * 3
    opened, ends, ok = SIVS[path].decrypt(*laid_out(rows), [])
    assert ok.tolist() == [row == sealed for row in rows]
    assert values_of(opened, ends) == [b"whole" if row == sealed else b"" for row in rows]


@bounded(300)
@given(st.integers(0, 60), st.integers(-4, 70), st.integers(1, 20), st.integers(-4, 25), st.integers(0, 8))
def test_no_view_reaches_outside_its_array(size: int, start: int, run: int, stride: int, count: int) -> None:
    data = buried(bytes(range(1, size + 1)), 0xEE)
    last = start + stride * max(count - 1, 0)
    try:
        view = blocks.items(data, run, start=start, stride=stride, count=count)
    except (ValueError, TypeError):
        return
    expected = [data[start + i * stride :][:run].tobytes() for i in range(count)]
    assert view.tobytes() == b"".join(expected)
    assert not count or (start >= 0 and last >= 0 and max(start, last) + run <= size)


@bounded(200)
@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 60))
def test_no_window_reaches_outside_its_array(size: int, run: int, start: int) -> None:
    data = buried(bytes(range(1, size + 1)), 0xEE)
    if start + run <= size:
        assert blocks.windows(data, run)[np.array([start])].tobytes() == bytes(range(start + 1, start + run + 1))
        return
    with pytest.raises((IndexError, ValueError, TypeError)):
        blocks.windows(data, run)[np.array([start])]


@pytest.mark.parametrize(
    ("start", "stride", "count", "width"), [(-1, 8, 2, 8), (0, 8, 6, 8), (0, 8, 1, 9), (33, 8, 1, 8), (0, 8, 1, -1)]
)
def test_uniform_rows_that_do_not_fit_their_data_are_refused(start: int, stride: int, count: int, width: int) -> None:
    with pytest.raises(InvalidBatchError, match=r"^the rows of a fixed-width column do not fit its data$"):
        Rows.uniform(DATA, start=start, stride=stride, count=count, width=width)
