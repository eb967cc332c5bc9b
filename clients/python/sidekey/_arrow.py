"""pyarrow arrays to and from columns: every type that has bytes for its rows, without a step of Python for each row.

Needs the ``arrow`` extra and is imported only when an array is handed in.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
import numpy as np
import pyarrow
import pyarrow.compute

from sidekey import _arrow_types as types
from sidekey._column import Bytes, Column, ColumnPayload, Pieces, pack
from sidekey._exchange import Decryption, Encryption
from sidekey.errors import InvalidArgumentError

if sys.byteorder != "little":
    raise ImportError("Arrow columns travel in little-endian byte order; this machine's is another")

# Which type an array has is only known when it is there; the stubs want to know it before.
pa: Any = pyarrow
pc: Any = pyarrow.compute

Payload = ColumnPayload[Any]

_INT32_MAX = 2**31 - 1


def encryption(array: Any, terms: Encryption) -> Payload:
    """The payload that encrypts ``array``. Raises TypeError for types that have no bytes for their rows."""
    chunked = types.is_chunked(array)
    types.check_type(array.type)
    column = _column(_joined(array))
    width = array.type.byte_width if pa.types.is_fixed_size_binary(array.type) else column.width
    fixed = column.offsets is None or pa.types.is_fixed_size_binary(array.type)

    def finish(pieces: Pieces) -> Any:
        if fixed:
            result = _fixed(pa.binary(width + terms.overhead), pieces)
        else:
            data, offsets = pieces.variable()
            result = _variable(pa.binary() if len(data) <= _INT32_MAX else pa.large_binary(), pieces, data, offsets)
        return pa.chunked_array([result], type=result.type) if chunked else result

    return ColumnPayload(column, terms, finish)


def decryption(array: Any, type: Any, terms: Decryption) -> Payload:  # noqa: A002 (the public name of the argument)
    """The payload that decrypts ``array`` to ``type``. Raises TypeError where either is of no use."""
    chunked = types.is_chunked(array)
    if type is None:
        type = pa.binary()  # noqa: A001
    if not isinstance(type, pa.DataType):
        raise TypeError("type must be a pyarrow type, for example pyarrow.int64()")
    types.check_type(type)
    if not types.is_binary(types.value_type(array.type)):
        raise TypeError(f"ciphertexts are binary or fixed-size binary, not {array.type}")
    column = _column(_joined(array))

    def finish(pieces: Pieces) -> Any:
        result = _build(type, pieces)
        return pa.chunked_array([result], type=type) if chunked else result

    return ColumnPayload(column, terms, finish)


# --- From arrays ---------------------------------------------------------------------------------------------------


def _joined(array: Any) -> Any:
    """One array without dictionaries and views."""
    if isinstance(array, pa.Array):
        return _plain(array)
    chunks = [_widened(_plain(chunk)) for chunk in array.chunks]
    if not chunks:
        return _plain(pa.nulls(0, array.type))
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _plain(array: Any) -> Any:
    """Text as binary, views and dictionaries as what they stand for, booleans as bytes 0 and 1."""
    if pa.types.is_dictionary(array.type):
        if types.is_view(array.type.value_type):  # which Arrow cannot look up by index
            array = pa.DictionaryArray.from_arrays(array.indices, _plain(array.dictionary))
        return _plain(array.dictionary_decode())
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string()).cast(pa.large_binary())
    if pa.types.is_binary_view(array.type) or pa.types.is_large_string(array.type):
        return array.cast(pa.large_binary())
    if pa.types.is_string(array.type):
        return array.cast(pa.binary())
    return array.cast(pa.uint8()) if pa.types.is_boolean(array.type) else array


def _widened(array: Any) -> Any:
    """Chunks of less than 2 GiB each may be more together."""
    return array.cast(pa.large_binary()) if pa.types.is_binary(array.type) else array


def _column(array: Any) -> Column:
    rows = len(array)
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    if types.is_variable(array.type):
        return _variable_column(array, valid)
    width = array.type.byte_width
    if width == 0:
        return Column(rows, np.empty(0, np.uint8), np.zeros(rows + 1, np.int32), 0, valid)
    data = _bytes(array.buffers()[1])[array.offset * width : (array.offset + rows) * width]
    return Column(rows, data, None, width, valid)


def _variable_column(array: Any, valid: Any) -> Column:
    offsets = _offsets(array)
    if valid is not None and np.diff(offsets)[~valid].any():
        # What lies beneath a NULL is nobody's value: it is not sent.
        array = pc.fill_null(array, pa.scalar(b"", array.type))
        offsets = _offsets(array)
    return Column(len(array), _bytes(array.buffers()[2]), offsets, 0, valid)


def _offsets(array: Any) -> Any:
    kind = np.int64 if pa.types.is_large_binary(array.type) else np.int32
    if len(array) == 0:
        return np.zeros(1, kind)
    return np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array) + 1]


def _bytes(buffer: Any) -> Bytes:
    return np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)


# --- To arrays -----------------------------------------------------------------------------------------------------


def _build(type_: Any, pieces: Pieces) -> Any:
    if pa.types.is_dictionary(type_):
        return _dictionary(type_, pieces)
    if pa.types.is_boolean(type_):
        return _boolean(pieces)
    if types.is_fixed(type_):
        return _fixed(type_, pieces)
    data, offsets = pieces.variable()
    return _variable(type_, pieces, data, offsets)


def _fixed(type_: Any, pieces: Pieces) -> Any:
    data = pieces.fixed(type_.bit_width // 8, str(type_))
    return pa.Array.from_buffers(type_, pieces.rows, [_validity(pieces), pa.py_buffer(data)])


def _boolean(pieces: Pieces) -> Any:
    data = pieces.fixed(1, "bool")
    wrong = data > 1
    if wrong.any():
        raise _mismatch(f"row {int(wrong.argmax())} is neither true nor false")
    return pa.Array.from_buffers(pa.bool_(), pieces.rows, [_validity(pieces), pa.py_buffer(pack(data.view(np.bool_)))])


def _variable(type_: Any, pieces: Pieces, data: Bytes, offsets: Any) -> Any:
    if types.is_view(type_):
        large = pa.large_string() if types.is_text(type_) else pa.large_binary()
        return _variable(large, pieces, data, offsets).cast(type_)
    if pa.types.is_string(type_) or pa.types.is_binary(type_):
        if len(data) > _INT32_MAX:
            raise _mismatch(f"{len(data)} bytes do not fit into one array of {type_}: ask for large_{type_}")
        offsets = offsets.astype(np.int32)
    buffers = [_validity(pieces), pa.py_buffer(offsets), pa.py_buffer(data)]
    array = pa.Array.from_buffers(type_, pieces.rows, buffers)
    if types.is_text(type_):
        _check_text(array)
    return array


def _dictionary(type_: Any, pieces: Pieces) -> Any:
    value_type = type_.value_type
    encoded = _build(_encodable(value_type), pieces).dictionary_encode()
    try:
        indices = encoded.indices.cast(type_.index_type)
    except pa.ArrowInvalid:
        raise _mismatch(f"{len(encoded.dictionary)} distinct values are more than {type_.index_type} counts") from None
    distinct = encoded.dictionary
    if distinct.type != value_type and types.is_fixed(value_type):
        distinct = pa.Array.from_buffers(
            value_type, len(distinct), [None, distinct.buffers()[1]], offset=distinct.offset
        )
    return pa.DictionaryArray.from_arrays(indices, distinct.cast(value_type), ordered=type_.ordered)


def _encodable(type_: Any) -> Any:
    """A type with the same bytes whose distinct rows Arrow can find, by their bytes alone."""
    if types.is_view(type_):
        return pa.large_string() if types.is_text(type_) else pa.large_binary()
    return pa.binary(type_.bit_width // 8) if types.is_fixed(type_) else type_


def _validity(pieces: Pieces) -> Any:
    valid = pieces.valid()
    return None if valid is None else pa.py_buffer(pack(valid))


def _check_text(array: Any) -> None:
    """Raises InvalidArgumentError naming the first row that is not UTF-8."""
    if _is_utf8(array):
        return
    good, bad = 0, len(array)  # rows before ``good`` are UTF-8; the first that is not lies before ``bad``
    while bad - good > 1:
        middle = (good + bad) // 2
        if _is_utf8(array.slice(good, middle - good)):
            good = middle
        else:
            bad = middle
    raise _mismatch(f"row {good} is not UTF-8: ask for pyarrow.binary()")


def _is_utf8(array: Any) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _mismatch(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(what, code=grpc.StatusCode.INVALID_ARGUMENT, reason="TYPE_MISMATCH")
