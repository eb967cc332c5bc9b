"""The key schedule, against HKDF by hand; and the small parts of the format."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.crypto import key_schedule
from sidecar.crypto.format import Suite, header, key_id_from
from tests.crypto import reference
from tests.crypto.columns import bounded

DATA_KEY = bytes(range(32))


def by_hand(data_key: bytes, info: bytes) -> bytes:
    """HKDF-SHA512 of RFC 5869 for up to 64 bytes: extract with 64 zero bytes, expand by one block."""
    extracted = hmac.new(b"\0" * 64, data_key, hashlib.sha512).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha512).digest()


def test_suite_keys_are_64_bytes_of_hkdf_under_the_suites_byte() -> None:
    assert key_schedule.suite_key(DATA_KEY, Suite.DETERMINISTIC) == by_hand(DATA_KEY, b"sidekey/v1 suite \xf8")
    assert key_schedule.suite_key(DATA_KEY, Suite.RANDOMIZED) == by_hand(DATA_KEY, b"sidekey/v1 suite \xf9")


def test_the_commitment_is_32_bytes_of_hkdf_under_a_label_of_its_own() -> None:
    assert key_schedule.commitment(DATA_KEY) == by_hand(DATA_KEY, b"sidekey/v1 commitment")[:32]


def test_known_answers_of_the_key_schedule() -> None:
    assert key_schedule.suite_key(DATA_KEY, Suite.DETERMINISTIC).hex() == (
        "70b2e10499f560f88c694413e9f27b6c1c53fafd513d8aa5f676875667c4e7ff"
        "2344bb14387ba1821c7edaa825b61b256372279a5dcadfc6c578f4035f12d66a"
    )
    assert key_schedule.suite_key(DATA_KEY, Suite.RANDOMIZED).hex() == (
        "26fdf0bede767d5ea6bb085f14259930c347b32040eda8c7f7d456a3fa8583a8"
        "0bf59d9308de9ea2cef53b844c9858dc87729974b5759caa66e5c18a965a71a5"
    )
    assert key_schedule.commitment(DATA_KEY).hex() == "5853e5c00e5cc12b4e8426be7962dbfa266ec65d4dc662ae0fa324afa5ea4303"


@bounded(50)
@given(st.binary(min_size=32, max_size=32))
def test_any_data_key_gives_what_hkdf_gives(data_key: bytes) -> None:
    for suite in Suite:
        assert key_schedule.suite_key(bytearray(data_key), suite) == reference.suite_key(data_key, suite)
    expected = reference.hkdf_sha512(data_key, b"sidekey/v1 commitment", 32)
    assert key_schedule.commitment(bytearray(data_key)) == expected


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_data_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"^a data key has 32 bytes$"):
        key_schedule.suite_key(bytes(size), Suite.RANDOMIZED)
    with pytest.raises(ValueError, match=r"^a data key has 32 bytes$"):
        key_schedule.commitment(bytes(size))


def test_only_the_commitment_of_the_same_data_key_is_accepted() -> None:
    right = key_schedule.commitment(DATA_KEY)
    assert key_schedule.commits_to(right, DATA_KEY)
    assert key_schedule.commits_to(right, bytearray(DATA_KEY))
    for bit in range(256):
        flipped = (int.from_bytes(right) ^ 1 << bit).to_bytes(32)
        assert not key_schedule.commits_to(flipped, DATA_KEY)
        other = (int.from_bytes(DATA_KEY) ^ 1 << bit).to_bytes(32)
        assert not key_schedule.commits_to(right, other)
    for wrong in (b"", right[:31], right + b"\0"):
        assert not key_schedule.commits_to(wrong, DATA_KEY)


def test_overwriting_leaves_zeros_in_the_same_memory() -> None:
    key = bytearray(DATA_KEY)
    same = memoryview(key)
    key_schedule.overwrite(key)
    assert same.tobytes() == bytes(32)


def test_a_header_is_the_suite_and_the_key_id() -> None:
    assert header(Suite.DETERMINISTIC, "0123456789abcd") == bytes.fromhex("f80123456789abcd")
    assert header(Suite.RANDOMIZED, "ffffffffffffff") == bytes.fromhex("f9ffffffffffffff")


def test_a_key_id_is_any_7_bytes_but_zero() -> None:
    assert key_id_from(bytes(6) + b"\x0a") == "0000000000000a"
    assert key_id_from(b"\xab" * 7) == "ab" * 7
    assert key_id_from(bytes(7)) is None
    for size in (0, 6, 8):
        with pytest.raises(ValueError, match=r"^a key id is made from 7 bytes$"):
            key_id_from(bytes(size))


def test_only_the_two_suites_of_this_version_are_known() -> None:
    assert {first for first in range(256) if Suite.of(first) is not None} == {0xF8, 0xF9}


@bounded(200)
@given(st.text(min_size=1, max_size=8))
def test_no_text_is_ever_taken_for_a_ciphertext(text: str) -> None:
    assert Suite.of(text.encode("utf-8", "surrogatepass")[0]) is None
