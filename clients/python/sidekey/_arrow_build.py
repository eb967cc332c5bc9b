"""pyarrow arrays of any type from answers, without a step of Python for each row."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pyarrow

from sidekey import _arrow_types as types
from sidekey._column import Bytes, Pieces, pack
from sidekey.errors import InvalidArgumentError

# Which type an array has is only known when it is there; the stubs want to know it before.
pa: Any = pyarrow

_INT32_MAX = 2**31 - 1


def build(type_: Any, pieces: Pieces) -> Any:
    """An array of ``type_``. Raises InvalidArgumentError where the rows do not fit it."""
    if pa.types.is_dictionary(type_):
        return _dictionary(type_, pieces)
    if pa.types.is_boolean(type_):
        return _boolean(pieces)
    if types.is_fixed(type_):
        return fixed(type_, pieces)
    data, offsets = pieces.variable()
    return variable(type_, pieces, data, offsets)


def fixed(type_: Any, pieces: Pieces) -> Any:
    """An array of a type of fixed width. Raises InvalidArgumentError where a row is not that wide."""
    data = pieces.fixed(type_.bit_width // 8, str(type_))
    return pa.Array.from_buffers(type_, pieces.rows, [_validity(pieces), pa.py_buffer(data)])


def _boolean(pieces: Pieces) -> Any:
    data = pieces.fixed(1, "bool")
    wrong = data > 1
    if wrong.any():
        raise _mismatch(f"row {int(wrong.argmax())} is neither true nor false")
    return pa.Array.from_buffers(pa.bool_(), pieces.rows, [_validity(pieces), pa.py_buffer(pack(data.view(np.bool_)))])


def smallest(pieces: Pieces) -> Any:
    """Binary, or large binary where binary cannot count the bytes."""
    data, offsets = pieces.variable()
    return variable(pa.binary() if len(data) <= _INT32_MAX else pa.large_binary(), pieces, data, offsets)


def variable(type_: Any, pieces: Pieces, data: Bytes, offsets: Any) -> Any:
    """An array of a type of rows of any length. Raises InvalidArgumentError where a row is no text, or all too long."""
    if types.is_view(type_):
        large = pa.large_string() if types.is_text(type_) else pa.large_binary()
        return variable(large, pieces, data, offsets).cast(type_)
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
    encoded = build(_encodable(value_type), pieces).dictionary_encode()
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
