"""What can be done with pyarrow arrays, and arrays to columns, without a step of Python for each row.

Needs the ``arrow`` extra and is imported only when an array is handed in.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute

from sidekey import _arrow_build as build
from sidekey import _arrow_tokens as tokens
from sidekey import _arrow_types as types
from sidekey._column import Bytes, Column, ColumnPayload, Pieces, TokenPayload
from sidekey._terms import Decryption, Encryption, Query, Reencryption

if sys.byteorder != "little":
    raise ImportError("Arrow columns travel in little-endian byte order; this machine's is another")

# Which type an array has is only known when it is there; the stubs want to know it before.
pa: Any = pyarrow
pc: Any = pyarrow.compute

Payload = ColumnPayload[Any]


def encryption(array: Any, terms: Encryption) -> Payload:
    """The payload that encrypts ``array``. Raises TypeError for types that have no bytes for their rows."""
    chunked = types.is_chunked(array)
    types.check_type(array.type)
    column = _column(_joined(array))
    wide = _fixed_width(array, column)

    def finish(pieces: Pieces) -> Any:
        if wide is None:
            return _again(build.smallest(pieces), chunked)
        width = pieces.width(wide + terms.overhead) if terms.fixed_overhead is None else wide + terms.fixed_overhead
        return _again(build.fixed(pa.binary(width), pieces), chunked)

    return ColumnPayload(column, terms, finish)


def decryption(array: Any, type: Any, terms: Decryption) -> Payload:  # noqa: A002 (the public name of the argument)
    """The payload that decrypts ``array`` to ``type``. Raises TypeError where either is of no use."""
    chunked = types.is_chunked(array)
    if type is None:
        type = pa.binary()  # noqa: A001
    if not isinstance(type, pa.DataType):
        raise TypeError("type must be a pyarrow type, for example pyarrow.int64()")
    types.check_type(type)
    _check_ciphertexts(array)
    return ColumnPayload(_column(_joined(array)), terms, lambda pieces: _again(build.build(type, pieces), chunked))


def reencryption(array: Any, terms: Reencryption) -> Payload:
    """The payload that reencrypts ``array``. Raises TypeError where it is of no use."""
    chunked = types.is_chunked(array)
    _check_ciphertexts(array)
    column = _column(_joined(array))
    wide = _fixed_width(array, column)

    def finish(pieces: Pieces) -> Any:
        result = build.smallest(pieces) if wide is None else build.fixed(pa.binary(pieces.width(wide)), pieces)
        return _again(result, chunked)

    return ColumnPayload(column, terms, finish)


def query(array: Any, terms: Query) -> TokenPayload[Any]:
    """The payload that asks for the query tokens of ``array``. Raises TypeError as ``encryption``."""
    chunked = types.is_chunked(array)
    types.check_type(array.type)
    column = _column(_joined(array))
    wide = _fixed_width(array, column)
    token = None if wide is None else pa.binary(wide + terms.overhead)
    return TokenPayload(column, terms, lambda answers: _again(tokens.lists(answers, token), chunked))


def _check_ciphertexts(array: Any) -> None:
    if not types.is_binary(types.value_type(array.type)):
        raise TypeError(f"ciphertexts are binary or fixed-size binary, not {array.type}")


def _fixed_width(array: Any, column: Column) -> int | None:
    """The width of every row; None where rows are of any length."""
    if pa.types.is_fixed_size_binary(array.type):
        return int(array.type.byte_width)
    return column.width if column.offsets is None else None


def _again(result: Any, chunked: bool) -> Any:
    """Chunked where the question was."""
    return pa.chunked_array([result], type=result.type) if chunked else result


# --- From arrays; ``_arrow_build`` makes those of the answers -------------------------------------------------------


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
