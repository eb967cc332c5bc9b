"""Whole batches: several keys, both suites, NULLs and bad rows together, against the slow reference row by row."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.crypto import few
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.column import Column
from sidecar.crypto.decryption import Decrypted, read_ciphertexts
from sidecar.crypto.format import RowFailure, Suite
from sidecar.crypto.siv import Path
from tests.crypto import reference
from tests.crypto.columns import PATHS, bounded, fixed, ragged, rows_of, values_of

KEYS: dict[str, bytes | RowFailure] = {
    "00000000000001": b"\1" * 32,
    "ff00000000000a": b"\2" * 32,
    "0123456789abcd": b"\3" * 32,
    "dddddddddddddd": RowFailure.KEY_DISABLED,
    "eeeeeeeeeeeeee": RowFailure.KEY_UNAVAILABLE,
}
CIPHERS: dict[Path, dict[str, DataKeyCipher | RowFailure]] = {
    path: {
        key_id: key if isinstance(key, RowFailure) else DataKeyCipher(key_id, key, path=path)
        for key_id, key in KEYS.items()
    }
    for path in PATHS
}
MOST_ROWS = 24


def opened(column: Column, path: Path, associated_data: bytes) -> Decrypted:
    sealed = read_ciphertexts(column)
    keys = {key_id: CIPHERS[path].get(key_id, RowFailure.UNKNOWN_KEY) for key_id in sealed.key_ids}
    return sealed.decrypt(keys, associated_data)


def expected(rows: Sequence[bytes | None], associated_data: bytes, suite: int | None = None) -> list[reference.Outcome]:
    """By the reference; in a fixed-width column ``suite`` is the only one that is well-formed."""
    return [
        None
        if row is None
        else RowFailure.MALFORMED
        if suite is not None and reference.suite_of(row) != suite
        else reference.decrypt(KEYS, row, associated_data)
        for row in rows
    ]


def outcomes(answer: Decrypted) -> list[reference.Outcome]:
    """What came back for each row; a row that failed must be NULL."""
    out: list[reference.Outcome] = []
    for value, failure in zip(rows_of(answer.column), answer.failures.tolist(), strict=True):
        assert not failure or value is None
        out.append(RowFailure(failure) if failure else value)
    return out


@st.composite
def ciphertexts(draw: st.DrawFn, associated_data: bytes, values: st.SearchStrategy[bytes], suites: list[int]) -> bytes:
    """A ciphertext under one of the keys (those that cannot be had have one too), good or damaged."""
    key_id, known = draw(st.sampled_from([*KEYS.items(), ("99999999999999", RowFailure.UNKNOWN_KEY)]))
    data_key = b"\4" * 32 if isinstance(known, RowFailure) else known
    other = draw(st.sampled_from([associated_data] * 4 + [associated_data + b"."]))
    suite = draw(st.sampled_from(suites))
    row = reference.encrypt(data_key, key_id, suite, other, draw(values), draw(st.binary(min_size=16, max_size=16)))
    if draw(st.integers(0, 4)):
        return row
    bit = draw(st.integers(0, 8 * len(row) - 1))
    return (int.from_bytes(row) ^ 1 << bit).to_bytes(len(row))


def junk(size: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """Rows that are no ciphertexts, or nearly none: any first byte, any key id (zero among them), any length."""
    first = st.sampled_from([0x00, 0x41, 0xF7, 0xF8, 0xF9, 0xFA, 0xFF])
    key_id = st.sampled_from([bytes(7), bytes.fromhex("00000000000001"), b"\7" * 7])
    return st.builds(lambda a, b, n: (bytes([a]) + b + bytes(64))[:n], first, key_id, size)


@bounded(250)
@given(st.data(), st.binary(max_size=20), st.binary(max_size=50))
def test_any_mixture_in_a_variable_size_column_decrypts_as_row_by_row(
    data: st.DataObject, associated_data: bytes, beneath: bytes
) -> None:
    good = ciphertexts(associated_data, st.binary(max_size=50), [0xF8, 0xF9])
    row = st.one_of(good, good, junk(st.integers(0, 64)), st.none())
    rows = data.draw(st.lists(row, max_size=MOST_ROWS))
    for path in PATHS:
        answer = opened(ragged(rows, beneath), path, associated_data)
        assert outcomes(answer) == expected(rows, associated_data)
        assert answer.column.offsets is not None
        lengths = [len(value) for value in values_of(answer.column.data, answer.column.offsets)]
        assert lengths == [len(each) if isinstance(each, bytes) else 0 for each in expected(rows, associated_data)]


@bounded(150)
@given(st.data(), st.binary(max_size=20))
def test_any_few_ciphertexts_without_a_column_decrypt_as_row_by_row(
    data: st.DataObject, associated_data: bytes
) -> None:
    good = ciphertexts(associated_data, st.binary(max_size=50), [0xF8, 0xF9])
    rows = data.draw(st.lists(st.one_of(good, good, junk(st.integers(0, 64))), max_size=MOST_ROWS))
    headers = [few.read_header(row) for row in rows]
    key_ids = {header.key_id for header in headers if header is not None}
    keys = {key_id: CIPHERS[Path.AUTO].get(key_id, RowFailure.UNKNOWN_KEY) for key_id in key_ids}
    assert few.decrypt(rows, headers, keys, associated_data) == expected(rows, associated_data)


@bounded(100)
@given(st.lists(st.binary(max_size=60), max_size=MOST_ROWS), st.binary(max_size=20))
def test_few_values_without_a_column_encrypt_as_row_by_row(values: list[bytes], associated_data: bytes) -> None:
    for suite in Suite:
        random = CountedRandom()
        cipher = DataKeyCipher("0123456789abcd", b"\3" * 32)
        sealed = cipher.encrypt_values(values, suite, associated_data, random)
        nonces = random.nonces if suite is Suite.RANDOMIZED else [b""] * len(values)
        pairs = zip(values, nonces, strict=True)
        assert sealed == [seal(suite, value, associated_data, nonce) for value, nonce in pairs]
        assert random.calls == (1 if suite is Suite.RANDOMIZED else 0)


@bounded(250)
@given(st.data(), st.integers(1, 80), st.binary(max_size=20), st.binary(min_size=1, max_size=90))
def test_any_mixture_in_a_fixed_width_column_decrypts_as_row_by_row(
    data: st.DataObject, width: int, associated_data: bytes, beneath: bytes
) -> None:
    row = st.one_of(junk(st.just(width)).map(lambda row: row.ljust(width, b"\0")), st.none())
    for suite, overhead in ((0xF8, 24), (0xF9, 40)):
        if width >= overhead:
            size = width - overhead
            row |= ciphertexts(associated_data, st.binary(min_size=size, max_size=size), [suite])
    rows = data.draw(st.lists(row, min_size=1, max_size=MOST_ROWS))
    suite = reference.fixed_suite(rows)
    out_width = max(0, width - reference.LEAD[suite] - 16)
    for path in PATHS:
        answer = opened(fixed(rows, width, beneath), path, associated_data)
        assert outcomes(answer) == expected(rows, associated_data, suite)
        assert answer.column.width == (out_width or None)
        assert answer.column.data.size == out_width * len(rows)


@bounded(100)
@given(st.lists(st.none() | st.binary(max_size=60), max_size=MOST_ROWS), st.binary(max_size=20), st.binary(max_size=9))
def test_variable_size_columns_encrypt_as_row_by_row(
    values: list[bytes | None], associated_data: bytes, beneath: bytes
) -> None:
    for path in PATHS:
        for suite in Suite:
            random = CountedRandom()
            cipher = DataKeyCipher("0123456789abcd", b"\3" * 32, path=path)
            sealed = cipher.encrypt(ragged(values, beneath), suite, associated_data, random)
            nonces = iter(random.nonces if suite is Suite.RANDOMIZED else [b""] * len(values))
            rows = [None if value is None else seal(suite, value, associated_data, next(nonces)) for value in values]
            assert rows_of(sealed) == rows
            assert sealed.data.tobytes() == b"".join(row or b"" for row in rows)
            assert random.calls == (1 if suite is Suite.RANDOMIZED else 0)


@bounded(100)
@given(st.data(), st.integers(1, 60), st.binary(max_size=20))
def test_fixed_width_columns_encrypt_as_row_by_row_and_stay_fixed_width(
    data: st.DataObject, width: int, associated_data: bytes
) -> None:
    values = data.draw(st.lists(st.none() | st.binary(min_size=width, max_size=width), max_size=MOST_ROWS))
    for path in PATHS:
        for suite in Suite:
            random = CountedRandom()
            cipher = DataKeyCipher("0123456789abcd", b"\3" * 32, path=path)
            sealed = cipher.encrypt(fixed(values, width), suite, associated_data, random)
            nonces = random.nonces if suite is Suite.RANDOMIZED else [b""] * len(values)
            assert sealed.width == width + suite.overhead_bytes
            assert sealed.data.size == sealed.width * len(values)
            assert rows_of(sealed) == [
                None if value is None else seal(suite, value, associated_data, nonce)
                for value, nonce in zip(values, nonces, strict=True)
            ]


def seal(suite: Suite, value: bytes, associated_data: bytes, nonce: bytes) -> bytes:
    return reference.encrypt(b"\3" * 32, "0123456789abcd", suite, associated_data, value, nonce)


class CountedRandom:
    """Bytes that never repeat, in place of the CSPRNG; remembers what it gave."""

    def __init__(self) -> None:
        self.calls = 0
        self.given = b""

    def __call__(self, size: int) -> bytes:
        self.calls += 1
        new = np.random.default_rng(self.calls).bytes(size)
        self.given += new
        return new

    @property
    def nonces(self) -> list[bytes]:
        return [self.given[at : at + 16] for at in range(0, len(self.given), 16)]


@pytest.mark.parametrize(("width", "suite"), [(24, Suite.DETERMINISTIC), (40, Suite.RANDOMIZED)])
@pytest.mark.parametrize("path", PATHS)
def test_a_fixed_width_column_of_empty_values_comes_back_with_offsets(width: int, suite: Suite, path: Path) -> None:
    rows = [seal(suite, b"", b"empty", bytes(16)), None, seal(suite, b"", b"other", bytes(16))]
    answer = opened(fixed(rows, width), path, b"empty")
    assert answer.column.offsets is not None
    assert answer.column.offsets.tolist() == [0, 0, 0, 0]
    assert outcomes(answer) == [b"", None, RowFailure.AUTHENTICATION_FAILED]


@pytest.mark.parametrize("path", PATHS)
def test_most_rows_say_how_wide_a_fixed_width_answer_is(path: Path) -> None:
    deterministic = seal(Suite.DETERMINISTIC, b"d" * 26, b"", b"")
    randomized = seal(Suite.RANDOMIZED, b"r" * 10, b"", bytes(16))
    for rows, width in (
        ([deterministic, deterministic, randomized], 26),
        ([randomized, deterministic, randomized], 10),
        ([randomized, deterministic], 26),
    ):
        answer = opened(fixed(rows, 50), path, b"")
        assert answer.column.width == width
        assert [isinstance(each, bytes) and len(each) == width for each in outcomes(answer)] == [
            len(row) - (24 if row[0] == 0xF8 else 40) == width for row in rows
        ]


@pytest.mark.parametrize("width", [48, 90])
def test_nothing_is_looked_up_for_rows_that_are_null(width: int) -> None:
    garbage = seal(Suite.RANDOMIZED, bytes(width - 40), b"", bytes(16))
    assert read_ciphertexts(fixed([None] * 3, width, garbage)).key_ids == ()
    assert read_ciphertexts(ragged([None] * 3, garbage)).key_ids == ()
    other = reference.encrypt(b"\1" * 32, "00000000000001", 0xF9, b"", bytes(width - 40), bytes(16))
    assert read_ciphertexts(fixed([None, other, None], width, garbage)).key_ids == ("00000000000001",)
    assert read_ciphertexts(ragged([None, other, None], garbage)).key_ids == ("00000000000001",)


def test_each_key_is_named_once_whatever_its_suites() -> None:
    rows = [seal(suite, bytes(n), b"", bytes(16)) for n in range(5) for suite in Suite]
    assert read_ciphertexts(ragged(rows)).key_ids == ("0123456789abcd",)


def test_no_repr_shows_a_key() -> None:
    cipher = DataKeyCipher("0123456789abcd", b"\3" * 32)
    assert repr(cipher) == "DataKeyCipher(0123456789abcd)"
