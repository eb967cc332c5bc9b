"""Both clients' query tokens against a real sidecar: what was encrypted under each data key, found again."""

from __future__ import annotations

import itertools
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
import sidekey

from tests.client.conftest import Connect
from tests.client.managed import Managed
from tests.client.reference import Reference

VALUES: list[bytes | None] = [None if row % 7 == 3 else b"%04d" % row * (row % 5) for row in range(1500)]


_serial = itertools.count()


def _keyring() -> str:
    """One that no other test has rotated."""
    return f"keyring-{next(_serial)}"


def _rotated(client: Any, sidecar: Managed, keyring: str, times: int, encrypt: Any) -> list[Any]:
    """What ``encrypt`` gave under each data key, the newest first."""
    client.encrypt([b"the first data key"], keyring=keyring)
    history = [encrypt()]
    for _ in range(times):
        sidecar.rotate(keyring)
        history.insert(0, encrypt())
    return history


@pytest.mark.parametrize("message_bytes", [700, 2**20])
@pytest.mark.parametrize("rotations", [0, 2])
def test_the_tokens_of_a_list_are_its_ciphertexts_under_every_data_key(
    connect: Connect, sidecar: Managed, message_bytes: int, rotations: int
) -> None:
    client = connect(sidecar.address, message_bytes=message_bytes)
    keyring = _keyring()
    terms: dict[str, Any] = {"keyring": keyring, "associated_data": b"users.ssn"}
    history = _rotated(
        client, sidecar, keyring, rotations, lambda: client.encrypt(VALUES, mode="deterministic", **terms)
    )
    wanted = [
        None if value is None else [ciphertexts[row] for ciphertexts in history] for row, value in enumerate(VALUES)
    ]
    assert client.query_tokens(VALUES, **terms) == wanted
    assert client.query_tokens(VALUES[:2], **terms) == wanted[:2]
    assert client.query_tokens([], **terms) == []


ARRAYS: list[Any] = [
    pa.array(VALUES, pa.binary()),
    pa.array([None if value is None else value.decode() for value in VALUES], pa.large_string()),
    pa.array(range(1500), pa.int64()),
    pa.array([date(2020, 1, 1), None] * 400),
    pa.array([b"", None], pa.binary(0)),
    pa.array([True, None, False]),
    pa.array(["a", None, "a", "b"]).dictionary_encode(),
    pa.chunked_array([[1, None], [], [3]], pa.int32()),
    pa.chunked_array([], pa.string()),
    pa.array([], pa.int64()),
    pa.nulls(40, pa.int64()),
    pa.nulls(40, pa.binary()),
    pa.array(VALUES, pa.binary())[11:1111],
]


@pytest.mark.parametrize("message_bytes", [700, 2**20])
@pytest.mark.parametrize("number", range(len(ARRAYS)), ids=[str(array.type) for array in ARRAYS])
def test_the_tokens_of_an_array_are_a_list_array_of_its_ciphertexts(
    connect: Connect, sidecar: Managed, message_bytes: int, number: int
) -> None:
    client = connect(sidecar.address, message_bytes=message_bytes)
    array, keyring = ARRAYS[number], _keyring()
    terms: dict[str, Any] = {"keyring": keyring, "associated_data": b"users.ssn"}
    history = _rotated(client, sidecar, keyring, 2, lambda: client.encrypt_array(array, mode="deterministic", **terms))
    found = client.query_tokens_array(array, **terms)
    assert type(found) is (pa.ChunkedArray if isinstance(array, pa.ChunkedArray) else pa.ListArray)
    assert found.type == pa.list_(history[0].type)
    found.validate(full=True)
    by_key = zip(*(ciphertexts.to_pylist() for ciphertexts in history), strict=True)
    assert found.to_pylist() == [None if tokens[0] is None else list(tokens) for tokens in by_key]


def test_the_messages_after_the_first_are_cut_by_the_number_of_data_keys(connect: Connect, sidecar: Managed) -> None:
    client = connect(sidecar.address, message_bytes=2**18)
    keyring, values = _keyring(), [b"%015d" % row for row in range(20_000)]
    newest = _rotated(client, sidecar, keyring, 12, lambda: None)
    tokens = client.query_tokens(values, keyring=keyring)
    assert {len(each) for each in tokens} == {len(newest)}
    assert [each[0] for each in tokens] == client.encrypt(values, mode="deterministic", keyring=keyring)


def test_one_value_whose_tokens_are_too_long_is_a_limit(connect: Connect, sidecar: Managed) -> None:
    client = connect(sidecar.address)
    keyring = _keyring()
    _rotated(client, sidecar, keyring, 1, lambda: None)
    with pytest.raises(sidekey.LimitError, match="send fewer rows"):
        client.query_tokens([bytes(8 * 2**20)], keyring=keyring)


@pytest.mark.parametrize(
    ("values", "arguments", "error", "text"),
    [
        ([b"v"], {"keyring": "closed"}, sidekey.InvalidArgumentError, "deterministic"),
        ([b"v"], {"associated_data": "text"}, TypeError, "associated_data must be bytes, not str"),
        ([1], {}, TypeError, "row 0 is int"),
        ([bytes(8 * 2**20 + 1)], {}, sidekey.InvalidArgumentError, "row 0 has 8388609 bytes"),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    connect: Connect, sidecar: Managed, values: Any, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        connect(sidecar.address).query_tokens(values, **arguments)
    with pytest.raises(TypeError, match="no bytes for their rows"):
        connect(sidecar.address).query_tokens_array(pa.array([[1]]))


@pytest.mark.parametrize("keys", [1, 3, 1000])
def test_the_first_answer_tells_how_long_the_other_messages_may_be(
    connect: Connect, address: str, reference: Reference, keys: int
) -> None:
    reference.live_keys = (keys,)
    rows = 600 if keys == 1000 else 20_000
    tokens = connect(address, message_bytes=2**18).query_tokens([b"v" * 26] * rows)
    assert {len(each) for each in tokens} == {keys}
    assert reference.calls[0].answer_bytes < 10_000 * keys
    others = [call.answer_bytes for call in reference.calls[1:]]
    assert all(size <= 2**18 or call.rows == 1 for size, call in zip(others, reference.calls[1:], strict=True))
    assert len(others) <= 3 + 2 * sum(others) // 2**18


@pytest.mark.parametrize("keys", [(2, 3), (3, 2), (1, 0), (0, 1)])
def test_messages_whose_data_keys_differ_fit_together(
    connect: Connect, address: str, reference: Reference, keys: tuple[int, int]
) -> None:
    reference.live_keys = keys
    values: list[bytes | None] = [None, *(b"%d" % row for row in range(300)), None]
    client = connect(address, message_bytes=2000, max_in_flight=1)
    tokens = client.query_tokens(values)
    first = reference.calls[0].rows
    lengths = [None if each is None else len(each) for each in tokens]
    assert lengths == [None if value is None else keys[row >= first] for row, value in enumerate(values)]
    reference.begun = 0
    array = client.query_tokens_array(pa.array(values, pa.binary()))
    array.validate(full=True)
    assert [None if each is None else len(each) for each in array.to_pylist()] == lengths
    assert array.flatten().to_pylist() == [token for each in tokens for token in each or []]


def _other_shape(answer: Any) -> None:
    answer.tokens[0].column.byte_width = 3


def _null_a_row(answer: Any) -> None:
    answer.tokens[1].values.validity = b"\x02"


def _drop_a_row(answer: Any) -> None:
    answer.tokens[1].values.values.pop()


@pytest.mark.parametrize("tamper", [_other_shape, _null_a_row, _drop_a_row])
def test_an_answer_that_does_not_fit_is_an_error(
    connect: Connect, address: str, reference: Reference, tamper: Any
) -> None:
    reference.live_keys = (2,)
    reference.tamper = tamper
    with pytest.raises(sidekey.SidekeyError, match="does not fit the question"):
        connect(address).query_tokens([b"a", b"b"])


def test_an_outage_is_waited_for(connect: Connect, address: str, reference: Reference) -> None:
    reference.unavailable_first = 2
    assert len(connect(address).query_tokens([b"a"] * 3)) == 3
    assert reference.begun == 3
