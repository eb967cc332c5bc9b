"""Both clients' reencrypt against a real sidecar: lists and arrays, cut into many messages, with bad rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import sidekey

from tests.client.conftest import Connect
from tests.client.managed import Managed

VALUES: list[bytes | None] = [None if row % 7 == 3 else b"%04d" % row * (row % 5) for row in range(300)]
LIVE = len(VALUES) - VALUES.count(None)
MODES = ["randomized", "deterministic"]


def _spoiled(ciphertexts: list[bytes | None], *rows: int) -> list[bytes | None]:
    return [(row or b"")[:-1] + b"\0\0" if at in rows else row for at, row in enumerate(ciphertexts)]


@pytest.mark.parametrize("message_bytes", [700, 2**20])
def test_a_list_moves_to_the_primary_and_then_stays_as_it_is(
    connect: Connect, sidecar: Managed, message_bytes: int
) -> None:
    client = connect(sidecar.address, message_bytes=message_bytes)
    terms: dict[str, Any] = {"keyring": f"moving-{message_bytes}"}
    old = client.encrypt(VALUES, **terms)
    key_id = sidecar.rotate(**terms).key_id
    report = client.reencrypt_with_report(old, **terms)
    assert {row[1:8].hex() for row in report.result if row is not None} == {key_id}
    assert (report.unchanged, report.row_errors) == (0, ())
    assert client.decrypt(report.result) == VALUES
    assert client.reencrypt(report.result, **terms) == report.result
    assert client.reencrypt_with_report(report.result, **terms).unchanged == LIVE


def test_keyring_associated_data_and_mode_may_all_change(connect: Connect, sidecar: Managed) -> None:
    client = connect(sidecar.address)
    old = client.encrypt(VALUES, associated_data=b"old", keyring="here")
    new = client.reencrypt(
        old,
        associated_data=b"old",
        keyring="here",
        to_keyring="there",
        to_associated_data=b"",
        to_mode="deterministic",
    )
    assert new == client.encrypt(VALUES, keyring="there", mode="deterministic")
    assert client.decrypt(new, keyring="there") == VALUES


def test_bad_rows_raise_or_become_none_in_the_callers_numbers(connect: Connect, sidecar: Managed) -> None:
    client = connect(sidecar.address, message_bytes=700)
    ciphertexts = _spoiled(client.encrypt(VALUES), 7, 250)
    with pytest.raises(sidekey.DecryptionError, match=r"row (7|250): AUTHENTICATION_FAILED"):
        client.reencrypt(ciphertexts)
    report = client.reencrypt_with_report(ciphertexts)
    assert [(it.row, it.code) for it in report.row_errors] == [
        (7, "AUTHENTICATION_FAILED"),
        (250, "AUTHENTICATION_FAILED"),
    ]
    assert report.unchanged == LIVE - 2
    wanted = [None if row in (7, 250) else value for row, value in enumerate(VALUES)]
    assert client.decrypt(report.result) == client.decrypt(client.reencrypt(ciphertexts, on_error="null")) == wanted


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("to_mode", [None, *MODES])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("message_bytes", [700, 2**20])
@pytest.mark.parametrize("type_", [pa.int64(), pa.binary(), pa.binary(0), pa.string()])
def test_an_array_moves_and_decrypts_to_the_equal_array(
    connect: Connect,
    sidecar: Managed,
    mode: Any,
    to_mode: Any,
    chunked: bool,
    message_bytes: int,
    type_: Any,
) -> None:
    client = connect(sidecar.address, message_bytes=message_bytes)
    rows: list[Any] = [None if row % 7 == 3 else row for row in range(100)]
    if type_ != pa.int64():
        rows = [None if row is None else b"" if type_ == pa.binary(0) else b"%d" % row for row in rows]
    array: Any = pa.array([row if row is None or type_ != pa.string() else row.decode() for row in rows], type_)
    array = pa.chunked_array([array[:40], array[40:]]) if chunked else array
    old = client.encrypt_array(array, mode=mode, associated_data=b"a")
    new = client.reencrypt_array(old, associated_data=b"a", to_associated_data=b"b", to_mode=to_mode)
    assert type(new) is type(old)
    assert new.type == client.encrypt_array(array, mode=to_mode or mode).type
    assert client.decrypt_array(new, type=type_, associated_data=b"b").equals(array)


@pytest.mark.parametrize("mode", MODES)
def test_arrays_of_nothing_and_of_nulls_alone_keep_their_type(connect: Connect, sidecar: Managed, mode: Any) -> None:
    client = connect(sidecar.address)
    for rows in ([], [None], [None] * 50):
        for type_ in (pa.int64(), pa.binary()):
            array = pa.array(rows, type_)
            old = client.encrypt_array(array, mode=mode)
            assert client.decrypt_array(old, type=type_).equals(array)
            new = client.reencrypt_array(old)
            assert new.equals(old)
            assert client.decrypt_array(new, type=type_).equals(array)


def test_an_arrays_bad_rows_are_listed(connect: Connect, sidecar: Managed) -> None:
    client = connect(sidecar.address, message_bytes=700)
    array = pa.array(_spoiled(client.encrypt(VALUES), 7, 250), pa.binary())
    with pytest.raises(sidekey.DecryptionError, match=r"row (7|250): AUTHENTICATION_FAILED"):
        client.reencrypt_array(array)
    report = client.reencrypt_array_with_report(array)
    assert [it.row for it in report.row_errors] == [7, 250]
    assert report.unchanged == LIVE - 2
    assert report.result.null_count == VALUES.count(None) + 2
    assert client.reencrypt_array(array, on_error="null").equals(report.result)


def test_a_fixed_size_array_of_both_modes_says_what_to_do(connect: Connect, sidecar: Managed) -> None:
    client = connect(sidecar.address, message_bytes=1)
    mixed = client.encrypt([b"x" * 24], mode="deterministic") + client.encrypt([b"x" * 8])
    array = pa.array(mixed, pa.binary(48))
    assert client.reencrypt_array(array).equals(array)
    with pytest.raises(sidekey.InvalidArgumentError, match="row 1 has 48 bytes"):
        client.reencrypt_array(array, to_mode="randomized")
    ciphertexts = client.reencrypt_array(array.cast(pa.binary()), to_mode="randomized")
    assert client.decrypt_array(ciphertexts).to_pylist() == [b"x" * 24, b"x" * 8]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"to_mode": "default"}, ValueError, '"randomized", "deterministic" or None'),
        ({"on_error": "skip"}, ValueError, '"raise" or "null"'),
        ({"to_associated_data": "text"}, TypeError, "associated_data must be bytes, not str"),
        ({"to_associated_data": bytes(2**16 + 1)}, sidekey.InvalidArgumentError, "65537 bytes; it may have 65536"),
        ({"to_keyring": "closed", "to_mode": "deterministic"}, sidekey.InvalidArgumentError, "deterministic"),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    connect: Connect, sidecar: Managed, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    client = connect(sidecar.address)
    ciphertexts = client.encrypt([b"v"])
    with pytest.raises(error, match=text):
        client.reencrypt(ciphertexts, **arguments)
    with pytest.raises(error, match=text):
        client.reencrypt_array(pa.array(ciphertexts, pa.binary()), **arguments)
    with pytest.raises(TypeError, match="ciphertexts are binary"):
        client.reencrypt_array(pa.array([1]))


@pytest.mark.parametrize("message_bytes", [200, 2**20])
def test_the_default_mode_is_the_keyrings(connect: Connect, sidecar: Managed, message_bytes: int) -> None:
    client = connect(sidecar.address, message_bytes=message_bytes)
    numbers = pa.array([1, None, 2] * 30)
    for keyring, mode in (("default", "randomized"), ("joined", "deterministic")):
        terms: dict[str, Any] = {"keyring": keyring, "associated_data": b"users.id"}
        for array in (numbers, pa.array([b"a", b"bb"]), pa.array([b"", None], pa.binary(0)), pa.nulls(3, pa.int32())):
            found = client.encrypt_array(array, mode="default", **terms)
            assert found.type == client.encrypt_array(array, mode=mode, **terms).type
            assert client.decrypt_array(found, type=array.type, associated_data=b"users.id").equals(array)
    assert client.encrypt(VALUES, mode="default", keyring="joined") == client.encrypt(
        VALUES, mode="deterministic", keyring="joined"
    )
