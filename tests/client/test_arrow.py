"""Arrow arrays: every type, layout and way of holding NULLs comes back equal; what does not fit is an error."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pyarrow
import pytest
import sidekey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sidekey import _arrow_types

from tests.client.conftest import Connect
from tests.client.reference import Reference

# Which type an array has is only known when it is there; the stubs want to know it before.
pa: Any = pyarrow

OVERHEAD = {"randomized": 40, "deterministic": 24}


def _types() -> dict[Any, st.SearchStrategy[Any]]:
    """Every type, with its values. Those that an older pyarrow lacks are left out."""
    binary, text = st.binary(max_size=40), st.text(max_size=15)
    found: dict[Any, st.SearchStrategy[Any]] = {
        pa.binary(): binary,
        pa.large_binary(): binary,
        pa.binary_view(): binary,
        pa.string(): text,
        pa.large_string(): text,
        pa.string_view(): text,
        pa.binary(0): st.just(b""),
        pa.binary(5): st.binary(min_size=5, max_size=5),
        pa.bool_(): st.booleans(),
        pa.float16(): st.floats(width=16).map(np.float16),
        pa.float32(): st.floats(width=32),
        pa.float64(): st.floats(),
        pa.date32(): st.dates(),
        pa.date64(): st.dates(),
        pa.time32("s"): st.integers(0, 86_399),
        pa.time64("ns"): st.integers(0, 86_400 * 10**9 - 1),
        pa.timestamp("us"): st.datetimes(),
        pa.timestamp("ns", "Europe/Berlin"): st.integers(-(2**62), 2**62),
        pa.duration("ms"): st.integers(-(2**53), 2**53),
    }
    for bits in (8, 16, 32, 64):
        found[getattr(pa, f"int{bits}")()] = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        found[getattr(pa, f"uint{bits}")()] = st.integers(0, 2**bits - 1)
    for bits in (32, 64, 128, 256):
        if hasattr(pa, f"decimal{bits}"):
            cents = st.integers(-(10**7) + 1, 10**7 - 1).map(lambda n: decimal.Decimal(n).scaleb(-2))
            found[getattr(pa, f"decimal{bits}")(7, 2)] = cents
    return found


TYPES = _types()
BY_NAME = pytest.mark.parametrize("type_", list(TYPES), ids=str)


@st.composite
def _arrays(draw: st.DrawFn, type_: Any, *, nulls: bool = True) -> Any:
    """An array, perhaps with NULLs, perhaps a slice whose offset is no multiple of 8."""
    rows = draw(st.lists(st.none() | TYPES[type_] if nulls else TYPES[type_], max_size=30))
    array = pa.array(rows, type=type_)
    start = draw(st.integers(0, len(array)))
    return array.slice(start, draw(st.integers(0, len(array) - start)))


def _same(left: Any, right: Any) -> bool:
    """Equal type, NULLs and bits (a NaN is itself); dictionaries by what they stand for."""
    assert left.type == right.type
    if pa.types.is_dictionary(left.type):
        left, right = _decoded(left), _decoded(right)
    if pa.types.is_floating(left.type):
        bits = pa.binary(left.type.bit_width // 8)
        return bool(_as(left, bits).equals(_as(right, bits)))
    return bool(left.equals(right))


def _decoded(array: Any) -> Any:
    distinct = array.dictionary
    if _arrow_types.is_view(distinct.type):  # which Arrow cannot look up by index
        distinct = distinct.cast(pa.large_string() if _arrow_types.is_text(distinct.type) else pa.large_binary())
    return pa.DictionaryArray.from_arrays(array.indices, distinct).dictionary_decode()


def _as(array: Any, type_: Any) -> Any:
    return pa.Array.from_buffers(type_, len(array), array.buffers(), offset=array.offset)


@pytest.fixture(scope="module")
def client(target: str) -> Any:
    """Messages so small that most arrays need several."""
    with sidekey.Client(target, message_bytes=400) as made:
        yield made


BOUNDED = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@BY_NAME
@BOUNDED
@given(data=st.data())
def test_every_type_comes_back_equal(client: Any, type_: Any, data: st.DataObject) -> None:
    array = data.draw(_arrays(type_))
    mode = data.draw(st.sampled_from(["randomized", "deterministic"]))
    encrypted = client.encrypt_array(array, mode=mode)
    encrypted.validate(full=True)
    if _arrow_types.is_variable(type_):
        assert encrypted.type == pa.binary()
    else:
        assert encrypted.type == pa.binary(
            max(type_.bit_width, 8 if type_ != pa.binary(0) else 0) // 8 + OVERHEAD[mode]
        )
    assert encrypted.is_valid().equals(array.is_valid())
    decrypted = client.decrypt_array(encrypted, type=type_)
    decrypted.validate(full=True)
    assert _same(decrypted, array)


@BY_NAME
@BOUNDED
@given(data=st.data())
def test_dictionaries_of_every_type_come_back_equal(client: Any, type_: Any, data: st.DataObject) -> None:
    distinct = data.draw(_arrays(type_))
    if not len(distinct):
        distinct = pa.nulls(1, type_)
    places = data.draw(st.lists(st.none() | st.integers(0, len(distinct) - 1), max_size=30))
    array = pa.DictionaryArray.from_arrays(pa.array(places, pa.int8()), distinct)
    decrypted = client.decrypt_array(client.encrypt_array(array), type=array.type)
    decrypted.validate(full=True)
    assert _same(decrypted, array)


@BY_NAME
@BOUNDED
@given(data=st.data())
def test_chunked_arrays_come_back_chunked(client: Any, type_: Any, data: st.DataObject) -> None:
    chunks = data.draw(st.lists(_arrays(type_), max_size=4))
    array = pa.chunked_array(chunks, type=type_)
    encrypted = client.encrypt_array(array)
    assert isinstance(encrypted, pa.ChunkedArray)
    decrypted = client.decrypt_array(encrypted, type=type_)
    assert isinstance(decrypted, pa.ChunkedArray)
    assert len(decrypted) == len(array)
    if len(array):
        assert _same(decrypted.combine_chunks(), pa.concat_arrays(array.chunks))


@BY_NAME
def test_empty_arrays_need_no_call(connect: Connect, address: str, reference: Reference, type_: Any) -> None:
    client = connect(address)
    encrypted = client.encrypt_array(pa.array([], type_))
    assert client.decrypt_array(encrypted, type=type_).equals(pa.array([], type_))
    assert reference.begun == 0


@BY_NAME
def test_chunked_arrays_without_chunks_come_back_so(connect: Connect, address: str, type_: Any) -> None:
    client = connect(address)
    for kind in (type_, pa.dictionary(pa.int8(), type_)):
        decrypted = client.decrypt_array(client.encrypt_array(pa.chunked_array([], kind)), type=kind)
        assert (len(decrypted), decrypted.type) == (0, kind)


@BY_NAME
def test_all_null_arrays_come_back_all_null(connect: Connect, target: str, type_: Any) -> None:
    client = connect(target, message_bytes=100)
    array = pa.nulls(20, type_)
    decrypted = client.decrypt_array(client.encrypt_array(array), type=type_)
    decrypted.validate(full=True)
    assert decrypted.equals(array)


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())]
)
def test_ciphertexts_of_any_binary_type_are_taken(connect: Connect, target: str, kind: Any) -> None:
    client = connect(target)
    array = pa.array([1, None, 3])
    encrypted = client.encrypt_array(array).cast(pa.binary())
    encrypted = encrypted.dictionary_encode() if pa.types.is_dictionary(kind) else encrypted.cast(kind)
    assert client.decrypt_array(encrypted, type=pa.int64()).equals(array)


def test_rows_of_mixed_modes_go_in_a_variable_column(connect: Connect, target: str) -> None:
    client = connect(target)
    array = pa.array([1, 2, None])
    mixed = [client.encrypt_array(array, mode=mode).cast(pa.binary()) for mode in OVERHEAD]
    assert client.decrypt_array(pa.concat_arrays(mixed), type=pa.int64()).equals(pa.concat_arrays([array, array]))


def test_arrays_and_lists_are_the_same_values(connect: Connect, target: str) -> None:
    client = connect(target)
    assert client.decrypt(client.encrypt_array(pa.array(["a", None, ""])).to_pylist()) == [b"a", None, b""]
    assert client.decrypt(client.encrypt_array(pa.array([1, -2], pa.int16())).to_pylist()) == [b"\x01\0", b"\xfe\xff"]
    assert client.decrypt(client.encrypt_array(pa.array([True, False])).to_pylist()) == [b"\x01", b"\0"]


def test_the_default_type_is_binary(connect: Connect, target: str) -> None:
    client = connect(target)
    decrypted = client.decrypt_array(client.encrypt_array(pa.array([258, None], pa.uint16())))
    assert decrypted.equals(pa.array([b"\x02\x01", None], pa.binary()))


def test_what_lies_beneath_a_null_is_not_sent(connect: Connect, address: str, reference: Reference) -> None:
    offsets, data = np.array([0, 1, 5001, 5002], np.int32), b"a" + b"!" * 5000 + b"b"
    buffers = [pa.py_buffer(bytes([0b101])), pa.py_buffer(offsets), pa.py_buffer(data)]
    array = pa.Array.from_buffers(pa.binary(), 3, buffers)
    client = connect(address)
    decrypted = client.decrypt_array(client.encrypt_array(array))
    assert decrypted.to_pylist() == [b"a", None, b"b"]
    assert reference.calls[0].request_bytes < 100


def test_large_columns_are_cut_and_put_together_in_order(connect: Connect, address: str, reference: Reference) -> None:
    client = connect(address, message_bytes=20_000)
    numbers = pa.array(np.arange(5_000)).slice(3)
    text = pa.array([None if row % 5 == 0 else "x" * (row % 60) for row in range(3_000)]).slice(1)
    for array in (numbers, text):
        assert client.decrypt_array(client.encrypt_array(array), type=array.type).equals(array)
    assert max(max(call.request_bytes, call.answer_bytes) for call in reference.calls) < 20_100
    assert len(reference.calls) > 40


UNSUPPORTED = [
    pa.null(),
    pa.list_(pa.int8()),
    pa.struct([("a", pa.int8())]),
    pa.map_(pa.string(), pa.string()),
    pa.month_day_nano_interval(),
    pa.dictionary(pa.int8(), pa.list_(pa.int8())),
]


@pytest.mark.parametrize("type_", UNSUPPORTED, ids=str)
def test_types_without_bytes_for_their_rows_are_refused_by_name(connect: Connect, address: str, type_: Any) -> None:
    client = connect(address)
    name = str(type_).split("<")[0]
    with pytest.raises(TypeError, match=name):
        client.encrypt_array(pa.nulls(0, type_))
    with pytest.raises(TypeError, match=name):
        client.decrypt_array(pa.array([], pa.binary()), type=type_)


@pytest.mark.parametrize(
    ("array", "type_", "text"),
    [
        ([b"a"], pa.int8(), "pyarrow Array or ChunkedArray, not list"),
        (pa.array(["text"]), pa.int8(), "binary or fixed-size binary, not string"),
        (pa.array([1]), pa.int8(), "binary or fixed-size binary, not int64"),
        (pa.array([b"a"]), "int8", "a pyarrow type"),
    ],
)
def test_what_holds_no_ciphertexts_is_refused(
    connect: Connect, address: str, array: Any, type_: Any, text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        connect(address).decrypt_array(array, type=type_)


@pytest.mark.parametrize(
    ("array", "type_", "text"),
    [
        (pa.array([None, 1], pa.int64()), pa.int32(), "row 0 has 8 bytes, and int32 has 4"),
        (pa.array([b"1234", None, b"123"]), pa.float32(), "row 2 has 3 bytes, and float has 4"),
        (pa.array([b"\0", b"\x01", b"\x02"]), pa.bool_(), "row 2 is neither true nor false"),
        (pa.array([b"good", None, b"\xff", b"good", b"\xfe"]), pa.string(), "row 2 is not UTF-8"),
        (pa.array([b"good", b"a" * 20 + b"\xff"]), pa.string_view(), "row 1 is not UTF-8"),
        (pa.array([b"good", b"\xff"]), pa.dictionary(pa.int8(), pa.large_string()), "is not UTF-8"),
        (
            pa.array(range(200), pa.int64()),
            pa.dictionary(pa.int8(), pa.int64()),
            "200 distinct.*int8",
        ),
    ],
)
def test_what_does_not_fit_the_type_is_an_error_that_says_where(
    connect: Connect, target: str, array: Any, type_: Any, text: str
) -> None:
    client = connect(target)
    with pytest.raises(sidekey.InvalidArgumentError, match=text) as raised:
        client.decrypt_array(client.encrypt_array(array), type=type_)
    assert raised.value.reason == "TYPE_MISMATCH"
    assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_bad_rows_of_an_array_raise_or_become_null(connect: Connect, target: str) -> None:
    client = connect(target, message_bytes=600)
    array = pa.array([None if row == 3 else row for row in range(40)])
    rows = client.encrypt_array(array).to_pylist()
    rows[33] = rows[33][:-1] + bytes([rows[33][-1] ^ 1])
    expected = pa.array([None if row in (3, 33) else row for row in range(40)])
    for kind in (pa.binary(48), pa.binary()):
        encrypted = pa.array(rows, kind)
        with pytest.raises(sidekey.DecryptionError, match="row 33: AUTHENTICATION_FAILED"):
            client.decrypt_array(encrypted, type=pa.int64())
        assert client.decrypt_array(encrypted, type=pa.int64(), on_error="null").equals(expected)
        found, errors = client.decrypt_array_with_errors(encrypted, type=pa.int64())
        assert found.equals(expected)
        assert errors == [sidekey.RowError(33, "AUTHENTICATION_FAILED", retryable=False)]


def test_a_row_of_an_array_over_8_mib_is_refused_before_sending(
    connect: Connect, address: str, reference: Reference
) -> None:
    client = connect(address)
    with pytest.raises(sidekey.InvalidArgumentError, match="row 1 has 8388609 bytes"):
        client.encrypt_array(pa.array([b"", bytes(8 * 2**20 + 1)]))
    with pytest.raises(sidekey.InvalidArgumentError, match="row 0 has 8388609 bytes"):
        client.encrypt_array(pa.array([bytes(8 * 2**20 + 1)], pa.binary(8 * 2**20 + 1)))
    assert reference.begun == 0


def _falling(answer: Any) -> None:
    answer.column.offsets = np.array([0, 90, 80], "<i4").tobytes()


def _overrun(answer: Any) -> None:
    answer.column.offsets = np.array([0, 10, 10**6], "<i4").tobytes()


def _too_few(answer: Any) -> None:
    answer.column.offsets = answer.column.offsets[:-4]


def _both(answer: Any) -> None:
    answer.column.byte_width = 8


def _neither(answer: Any) -> None:
    answer.column.offsets = b""


def _other_nulls(answer: Any) -> None:
    answer.column.validity = b"\x01"


def _values(answer: Any) -> None:
    answer.values.values.extend([b"", b""])


@pytest.mark.parametrize("tamper", [_falling, _overrun, _too_few, _both, _neither, _other_nulls, _values])
def test_a_column_that_does_not_fit_its_question_is_an_error(
    connect: Connect, address: str, reference: Reference, tamper: Any
) -> None:
    reference.tamper = tamper
    with pytest.raises(sidekey.SidekeyError, match="does not fit the question"):
        connect(address).encrypt_array(pa.array(["a", "b"]))


def test_timestamps_keep_their_zone(connect: Connect, target: str) -> None:
    client = connect(target)
    when = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
    array = pa.array([when, None], pa.timestamp("us", "UTC"))
    assert client.decrypt_array(client.encrypt_array(array), type=array.type).to_pylist() == [when, None]
