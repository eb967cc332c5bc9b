"""One flipped bit anywhere in a row fails that row, releases nothing of it, and hurts no other row."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.column import Column
from sidecar.crypto.decryption import Decrypted, read_ciphertexts
from sidecar.crypto.format import RowFailure, Suite
from sidecar.crypto.siv import ColumnSiv, Path
from tests.crypto import reference
from tests.crypto.columns import PATHS, fixed, laid_out, ragged, rows_of, values_of

DATA_KEY = bytes(range(100, 132))
KEY_ID = "a1b2c3d4e5f607"
ASSOCIATED_DATA = b"column=flips"
LENGTHS = [0, 1, 15, 16, 17, 33]


def flips(row: bytes) -> Iterator[bytes]:
    """The row with each of its bits flipped, one at a time."""
    number = int.from_bytes(row)
    for bit in range(8 * len(row)):
        yield (number ^ 1 << bit).to_bytes(len(row))


def among_good(good: bytes, bad: Sequence[bytes]) -> list[bytes]:
    """Good, bad, good, bad, …, good."""
    return [good, *(row for each in bad for row in (each, good))]


def sealed_row(suite: Suite, value: bytes) -> bytes:
    return reference.encrypt(DATA_KEY, KEY_ID, suite, ASSOCIATED_DATA, value, b"sixteen byte non")


def opened(column: Column, path: Path) -> Decrypted:
    sealed = read_ciphertexts(column)
    cipher = DataKeyCipher(KEY_ID, DATA_KEY, path=path)
    keys = {key_id: cipher if key_id == KEY_ID else RowFailure.UNKNOWN_KEY for key_id in sealed.key_ids}
    return sealed.decrypt(keys, ASSOCIATED_DATA)


def expected_failures(rows: Sequence[bytes], *, fixed_suite: int | None) -> list[RowFailure]:
    keys: dict[str, bytes | RowFailure] = {KEY_ID: DATA_KEY}
    failures = []
    for row in rows:
        outcome = reference.decrypt(keys, row, ASSOCIATED_DATA)
        assert isinstance(outcome, RowFailure)
        other_suite = fixed_suite is not None and row[0] != fixed_suite
        failures.append(RowFailure.MALFORMED if other_suite else outcome)
    return failures


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("suite", list(Suite))
class TestFlippedCiphertexts:
    def test_in_a_variable_size_column(self, suite: Suite, length: int, path: Path) -> None:
        value = bytes(range(1, length + 1))
        row = sealed_row(suite, value)
        bad = [*flips(row)]
        answer = opened(ragged(among_good(row, bad)), path)
        assert answer.column.offsets is not None
        assert answer.failures[1::2].tolist() == expected_failures(bad, fixed_suite=None)
        assert not answer.failures[0::2].any()
        assert rows_of(answer.column) == among_good_or_null(value, len(bad))
        assert values_of(answer.column.data, answer.column.offsets)[1::2] == [b""] * len(bad)

    def test_in_a_fixed_width_column(self, suite: Suite, length: int, path: Path) -> None:
        value = bytes(range(1, length + 1))
        row = sealed_row(suite, value)
        bad = [*flips(row)]
        answer = opened(fixed(among_good(row, bad), len(row)), path)
        assert answer.failures[1::2].tolist() == expected_failures(bad, fixed_suite=suite)
        assert not answer.failures[0::2].any()
        assert answer.column.data.tobytes() == b"".join(among_good(value, [bytes(length)] * len(bad)))
        assert rows_of(answer.column) == among_good_or_null(value, len(bad))

    def test_alone_with_one_neighbour_on_each_side(self, suite: Suite, length: int, path: Path) -> None:
        # Small batches may take another way through the code than large ones: the bits of each byte in turn.
        value = bytes(range(1, length + 1))
        row = sealed_row(suite, value)
        for i, bad in enumerate(flips(row)):
            if i % 8 != i // 8 % 8:
                continue
            answer = opened(ragged([row, bad, row]), path)
            assert answer.failures.astype(bool).tolist() == [False, True, False]
            assert rows_of(answer.column) == [value, None, value]


def among_good_or_null(value: bytes, count: int) -> list[bytes | None]:
    return [value, *(row for _ in range(count) for row in (None, value))]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("randomized", [False, True])
def test_a_flipped_bit_of_siv_or_ct_fails_its_row_in_the_kernel(randomized: bool, length: int, path: Path) -> None:
    siv = ColumnSiv(bytes(range(64)), path=path)
    value = bytes(range(1, length + 1))
    nonces = np.full((1, 16), 9, np.uint8) if randomized else None
    row = siv.encrypt(*laid_out([value]), [b"kernel"], nonces)[0].tobytes()
    rows = among_good(row, [*flips(row)])
    shared = None if nonces is None else np.repeat(nonces, len(rows), axis=0)
    data, offsets, ok = siv.decrypt(*laid_out(rows), [b"kernel"], shared)
    assert ok.tolist() == [i % 2 == 0 for i in range(len(rows))]
    assert values_of(data, offsets) == among_good(value, [b""] * (8 * len(row)))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_flipped_bit_of_a_nonce_fails_its_row_in_the_kernel(length: int, path: Path) -> None:
    siv = ColumnSiv(bytes(range(64)), path=path)
    value = bytes(range(1, length + 1))
    nonces = np.frombuffer(b"".join(among_good(bytes(16), [*flips(bytes(16))])), np.uint8).reshape(-1, 16)
    row = siv.encrypt(*laid_out([value]), [b"kernel"], nonces[:1])[0].tobytes()
    data, offsets, ok = siv.decrypt(*laid_out([row] * len(nonces)), [b"kernel"], nonces)
    assert ok.tolist() == [i % 2 == 0 for i in range(len(nonces))]
    assert values_of(data, offsets) == among_good(value, [b""] * 128)


@pytest.mark.parametrize("path", PATHS)
def test_a_flipped_bit_of_the_associated_data_fails_every_row(path: Path) -> None:
    column = ragged([sealed_row(suite, bytes(length)) for suite in Suite for length in LENGTHS] * 10)
    cipher = DataKeyCipher(KEY_ID, DATA_KEY, path=path)
    for other in flips(ASSOCIATED_DATA):
        answer = read_ciphertexts(column).decrypt({KEY_ID: cipher}, other)
        assert (answer.failures == RowFailure.AUTHENTICATION_FAILED).all()
        assert answer.column.data.size == 0
    assert not read_ciphertexts(column).decrypt({KEY_ID: cipher}, ASSOCIATED_DATA).failures.any()
