"""Equality with OpenSSL's AES-SIV, value by value, on every path and both ways."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from sidecar.crypto.blocks import BLOCK
from sidecar.crypto.planes import PlaneSiv
from sidecar.crypto.siv import ColumnSiv, Path
from tests.crypto import reference
from tests.crypto.columns import (
    PATHS,
    PLAIN,
    Bytes,
    Layout,
    bounded,
    components,
    few_values,
    laid_out,
    layouts,
    many_values,
    values_of,
)

KEY = bytes(range(64))
keys = st.builds(lambda size, fill: bytes([fill]) + KEY[1:size], st.sampled_from([32, 48, 64]), st.integers(0, 255))
key_for_lengths = KEY[::-1]


def nonces_for(count: int, *, wanted: bool = True) -> Bytes | None:
    return np.random.default_rng(count).integers(0, 256, (count, 16), np.uint8) if wanted else None


def by_openssl(key: bytes, values: Sequence[bytes], shared: Sequence[bytes], nonces: Bytes | None) -> list[bytes]:
    """Each value by a call of OpenSSL's AES-SIV."""
    aead = AESSIV(key)
    if nonces is None:
        return [aead.encrypt(value, [*shared]) for value in values]
    return [aead.encrypt(value, [*shared, nonces[i].tobytes()]) for i, value in enumerate(values)]


def check(
    key: bytes,
    values: Sequence[bytes],
    shared: Sequence[bytes],
    nonces: Bytes | None,
    layout: Layout = PLAIN,
    paths: Sequence[Path] = PATHS,
) -> None:
    """Every path gives OpenSSL's ciphertexts, rows one behind the other from 0, and the values back."""
    expected = by_openssl(key, values, shared, nonces)
    for path in paths:
        siv = ColumnSiv(key, path=path)
        data, offsets = siv.encrypt(*laid_out(values, layout), shared, nonces)
        assert data.tobytes() == b"".join(expected)
        assert offsets.tolist() == [0, *itertools.accumulate(map(len, expected))]
        opened, ends, ok = siv.decrypt(*laid_out(expected, layout), shared, nonces)
        assert ok.tolist() == [True] * len(values)
        assert opened.tobytes() == b"".join(values)
        assert ends.tolist() == [0, *itertools.accumulate(map(len, values))]


@bounded(300)
@given(keys, few_values, components, st.booleans(), layouts)
def test_small_columns_equal_openssl(
    key: bytes, values: list[bytes], shared: list[bytes], randomized: bool, layout: Layout
) -> None:
    check(key, values, shared, nonces_for(len(values), wanted=randomized), layout)


@bounded(200)
@given(many_values(), components, st.booleans(), layouts)
def test_large_columns_of_every_shape_equal_openssl(
    values: list[bytes], shared: list[bytes], randomized: bool, layout: Layout
) -> None:
    check(KEY, values, shared, nonces_for(len(values), wanted=randomized), layout)


@pytest.mark.parametrize("randomized", [False, True])
def test_every_length_up_to_600_in_one_column_equals_openssl(randomized: bool) -> None:
    values = [np.random.default_rng(n).bytes(n) for n in range(601)]
    check(KEY, values, [b"lengths"], nonces_for(len(values), wanted=randomized))


@pytest.mark.parametrize("randomized", [False, True])
def test_every_fixed_width_up_to_600_equals_openssl(randomized: bool) -> None:
    # Equal lengths take the way without a gather; the first, a middle and the last row must all be right.
    data = np.random.default_rng(1).bytes(3 * 600)
    nonces = nonces_for(3, wanted=randomized)
    for width in range(601):
        values = [data[i * width : (i + 1) * width] for i in range(3)]
        check(KEY, values, [b"widths"], nonces, paths=[Path.PLANES])


@pytest.mark.parametrize("count", [1, 2, 5000])
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 32, 33])
def test_equal_values_give_equal_ciphertexts_without_nonces_and_different_ones_with(length: int, count: int) -> None:
    values = [b"v" * length] * count
    nonces = nonces_for(count)
    check(KEY, values, [b""], None, paths=[Path.AUTO, Path.PLANES])
    check(KEY, values, [b""], nonces, paths=[Path.AUTO, Path.PLANES])
    assert len({*by_openssl(KEY, values, [b""], None)}) == 1
    assert len({*by_openssl(KEY, values, [b""], nonces)}) == count


@pytest.mark.parametrize("randomized", [False, True])
def test_values_around_the_length_that_always_goes_to_openssl(randomized: bool) -> None:
    values = [np.random.default_rng(n).bytes(n) for n in (8191, 8192, 8193, 0, 40_000, 1, 8192)] * 8
    check(KEY, values, [b"long"], nonces_for(len(values), wanted=randomized))


def test_a_value_of_more_than_65536_blocks_equals_openssl() -> None:
    values = [b"", bytes(range(256)) * 4097, b"short"]
    check(KEY, values, [b"longest"], nonces_for(3))


def test_chunks_of_a_long_column_fit_together() -> None:
    # A chunk holds 256 KiB of planes: these columns have one row more than two chunks, uniform and ragged.
    uniform = [i.to_bytes(4) * 8 for i in range(2 * 8192 + 1)]
    check(KEY, uniform, [b"chunks"], nonces_for(len(uniform)), paths=[Path.AUTO])
    check(KEY, [b"", *uniform[:-1]], [b"chunks"], None, paths=[Path.AUTO])


def test_a_column_without_rows_gives_one() -> None:
    for path in PATHS:
        siv = ColumnSiv(KEY, path=path)
        nonces = np.zeros((0, 16), np.uint8)
        data, offsets = siv.encrypt(*laid_out([]), [b"none"], nonces)
        opened, ends, ok = siv.decrypt(*laid_out([]), [b"none"], nonces)
        assert (data.size, offsets.tolist(), opened.size, ends.tolist(), ok.size) == (0, [0], 0, [0], 0)


@bounded(100)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=6), st.lists(st.binary(max_size=40), max_size=3))
def test_columns_equal_an_aes_siv_written_from_the_rfc(values: list[bytes], shared: list[bytes]) -> None:
    expected = [reference.siv_encrypt(key_for_lengths, shared, value) for value in values]
    for path in PATHS:
        assert values_of(*ColumnSiv(key_for_lengths, path=path).encrypt(*laid_out(values), shared)) == expected


EDGES = [bytes(16), b"\xff" * 16, b"\0" * 8 + b"\xff" * 8, b"\xff" * 12 + bytes(4), b"\x7f\xff\xff\xfe" * 4]


def test_the_counter_of_any_siv_runs_as_openssls() -> None:
    # A siv cannot be chosen, so counters next to a carry are only met here: RFC 5297 clears bits 31 and 63 of Q.
    sivs = [*EDGES, *(np.random.default_rng(n).bytes(16) for n in range(30))]
    k = 40
    stream = PlaneSiv(KEY).keystream(np.frombuffer(b"".join(sivs), BLOCK), k)
    for i, siv in enumerate(sivs):
        start = int.from_bytes(siv) & ~(1 << 31 | 1 << 63)
        expected = Cipher(algorithms.AES(KEY[32:]), modes.CTR(start.to_bytes(16))).encryptor().update(bytes(16 * k))
        assert stream[:, i].tobytes() == expected
