"""Lists of values: round trips, splitting, and what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
import sidekey

from tests.client.conftest import Connect
from tests.client.reference import Reference

MODES = ["randomized", "deterministic"]
OVERHEAD = {"randomized": 40, "deterministic": 24}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "values",
    [
        [],
        [b"a"],
        [b""],
        [None],
        [None] * 9,
        [b"", None, b"x" * 1000],
        [b"%d" % row if row % 3 else None for row in range(17)],
        [None] * 70 + [b"last"],
    ],
    ids=[
        "no rows",
        "one",
        "empty value",
        "one NULL",
        "all NULL",
        "mixed",
        "across a byte of the bitmap",
        "mostly NULL",
    ],
)
def test_values_come_back_as_they_went(connect: Connect, target: str, values: list[bytes | None], mode: str) -> None:
    client = connect(target)
    ciphertexts = client.encrypt(values, mode=mode, associated_data=b"column")
    expected = [None if value is None else len(value) + OVERHEAD[mode] for value in values]
    assert [None if one is None else len(one) for one in ciphertexts] == expected
    assert client.decrypt(ciphertexts, associated_data=b"column") == values


def test_rows_keep_their_order_across_many_messages(connect: Connect, target: str) -> None:
    client = connect(target, message_bytes=1000)
    values = [None if row % 7 == 0 else b"%d" % row for row in range(1500)]
    assert client.decrypt(client.encrypt(values)) == values


def test_a_generator_of_values_is_taken(connect: Connect, target: str) -> None:
    client = connect(target)
    assert client.decrypt(one for one in client.encrypt(value for value in [b"a", None])) == [b"a", None]


def test_equal_values_give_equal_ciphertexts_only_if_deterministic(connect: Connect, target: str) -> None:
    client = connect(target)
    assert len(set(client.encrypt([b"same"] * 3, mode="deterministic"))) == 1
    assert len(set(client.encrypt([b"same"] * 3))) == 3


def test_a_value_of_8_mib_goes_through(connect: Connect, target: str) -> None:
    client = connect(target)
    value = bytes(8 * 2**20)
    assert client.decrypt(client.encrypt([b"before", value, b"after"])) == [b"before", value, b"after"]


@pytest.mark.parametrize("message_bytes", [1, 2_000, 50_000])
def test_messages_are_cut_by_the_larger_of_question_and_answer(
    connect: Connect, address: str, reference: Reference, message_bytes: int
) -> None:
    client = connect(address, message_bytes=message_bytes)
    values: list[bytes | None] = [b"x" * (row % 90) for row in range(400)]
    assert client.decrypt(client.encrypt(values)) == values
    slack = 40  # a message's own fields
    largest = max(max(call.request_bytes, call.answer_bytes) for call in reference.calls)
    assert largest <= max(message_bytes, 90 + 40 + 6) + slack
    if message_bytes == 1:
        assert {call.rows for call in reference.calls} == {1}
    else:
        assert len(reference.calls) < 400
        assert largest > message_bytes // 2


def test_no_rows_need_no_call(connect: Connect, address: str, reference: Reference) -> None:
    client = connect(address)
    assert client.encrypt([]) == []
    assert client.decrypt([]) == []
    assert reference.begun == 0


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([b"a", "text"], r"row 1 is str.*\.encode\(\)"),
        ([bytearray(b"a")], r"row 0 is bytearray.*bytes\(value\)"),
        ([b"a", None, 3], "row 2 is int.*encrypt_array"),
        (b"abc", "one bytes.*list"),
        ("abc", "one str.*list"),
    ],
)
def test_what_is_not_bytes_is_refused_by_its_row(connect: Connect, address: str, values: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        connect(address).encrypt(values)


def test_a_value_over_8_mib_is_refused_by_its_row_before_sending(
    connect: Connect, address: str, reference: Reference
) -> None:
    client = connect(address)
    with pytest.raises(sidekey.InvalidArgumentError, match="row 1 has 8388609 bytes") as raised:
        client.encrypt([b"", bytes(8 * 2**20 + 1)])
    assert raised.value.reason == "VALUE_TOO_LARGE"
    with pytest.raises(ValueError, match="row 0 has 8388649 bytes"):
        client.decrypt([bytes(8 * 2**20 + 41)])
    assert reference.begun == 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"mode": "random"}, ValueError, '"randomized", "deterministic" or "default"'),
        ({"associated_data": "text"}, TypeError, "associated_data must be bytes, not str"),
        ({"associated_data": bytes(2**16 + 1)}, sidekey.InvalidArgumentError, "65537 bytes; it may have 65536"),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    connect: Connect, address: str, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        connect(address).encrypt([b"a"], **arguments)


def test_an_unknown_on_error_is_refused(connect: Connect, address: str) -> None:
    with pytest.raises(ValueError, match='"raise" or "null"'):
        connect(address).decrypt([b"a"], on_error="ignore")


def test_server_info_is_in_plain_values(connect: Connect, target: str) -> None:
    info = connect(target).server_info()
    assert isinstance(info, sidekey.ServerInfo)
    assert info.max_message_bytes == 16 * 2**20
    assert info.max_rows >= 1
    assert 0xF9 in {suite.id for suite in info.suites}
