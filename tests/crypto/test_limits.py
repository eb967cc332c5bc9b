"""The limits of one batch: how many data keys it may name, and how long a value may be."""

import os

import numpy as np
import pytest

from sidecar.crypto import few, parsing
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.column import Column
from sidecar.crypto.decryption import read_ciphertexts
from sidecar.crypto.format import MAX_VALUE_BYTES, RowFailure, Suite
from sidecar.errors import LimitExceededError, ValueTooLargeError
from tests.crypto.columns import fixed, ragged, rows_of


def noise(keys: int) -> Column:
    """A column that names so many data keys, two rows each."""
    rows = [bytes([0xF8]) + (i + 1).to_bytes(7) + bytes(16) for i in range(keys)]
    return ragged(rows * 2)


def test_a_batch_may_name_as_many_keys_as_the_limit_and_not_one_more() -> None:
    most = parsing.MAX_KEYS_IN_BATCH
    assert len(read_ciphertexts(noise(most)).key_ids) == most
    with pytest.raises(LimitExceededError, match=f"names {most + 1} data keys; one call may use at most {most}"):
        read_ciphertexts(noise(most + 1))


@pytest.mark.parametrize("suite", list(Suite))
@pytest.mark.parametrize("kind", ["variable-size", "fixed-width"])
def test_a_value_of_8_mib_round_trips_and_one_byte_more_is_refused(suite: Suite, kind: str) -> None:
    most = MAX_VALUE_BYTES
    cipher = DataKeyCipher("0123456789abcd", b"\3" * 32)
    longest = np.zeros(most, np.uint8).tobytes()
    column = ragged([None, longest]) if kind == "variable-size" else fixed([None, longest], most)
    sealed = cipher.encrypt(column, suite, b"", os.urandom)
    answer = read_ciphertexts(sealed).decrypt({"0123456789abcd": cipher}, b"")
    assert rows_of(answer.column) == [None, longest]
    too_long = ragged([None, longest + b"."]) if kind == "variable-size" else fixed([None, longest + b"."], most + 1)
    with pytest.raises(ValueTooLargeError, match=rf"^row {int(kind == 'variable-size')} has {most + 1} bytes"):
        cipher.encrypt(too_long, suite, b"", os.urandom)


@pytest.mark.parametrize("suite", list(Suite))
def test_a_ciphertext_of_more_than_8_mib_is_malformed(suite: Suite) -> None:
    size = MAX_VALUE_BYTES + suite.overhead_bytes + 1
    row = bytes([suite]) + bytes(6) + b"\1" + bytes(size - 8)
    for column in (ragged([row]), ragged([row, b""]), fixed([row], size)):
        sealed = read_ciphertexts(column)
        assert sealed.key_ids == ()
        assert sealed.failures[0] == RowFailure.MALFORMED
    assert few.read_header(row) is None
    assert few.read_header(row[:-1]) == (suite, "00000000000001")
