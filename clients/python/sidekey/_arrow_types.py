"""Which Arrow types have bytes for their rows, and of what kind."""

from __future__ import annotations

from typing import Any

import pyarrow

# Which type an array has is only known when it is there; the stubs want to know it before.
pa: Any = pyarrow


def is_chunked(array: object) -> bool:
    if not isinstance(array, pa.Array | pa.ChunkedArray):
        raise TypeError(f"expected a pyarrow Array or ChunkedArray, not {type(array).__name__}")
    return isinstance(array, pa.ChunkedArray)


def value_type(type_: Any) -> Any:
    """A dictionary's type of values; any other type itself."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def is_view(type_: Any) -> bool:
    return bool(pa.types.is_binary_view(type_) or pa.types.is_string_view(type_))


def is_text(type_: Any) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def is_variable(type_: Any) -> bool:
    return bool(is_text(type_) or is_view(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def is_binary(type_: Any) -> bool:
    return bool((is_variable(type_) and not is_text(type_)) or pa.types.is_fixed_size_binary(type_))


def is_fixed(type_: Any) -> bool:
    """Types whose rows are whole bytes of one width; months and intervals have no such type in the contract."""
    t = pa.types
    tests = (t.is_integer, t.is_floating, t.is_decimal, t.is_date, t.is_time, t.is_timestamp, t.is_duration)
    return bool(t.is_fixed_size_binary(type_) or any(test(type_) for test in tests))


def check_type(type_: Any) -> None:
    value = value_type(type_)
    if not (is_variable(value) or is_fixed(value) or pa.types.is_boolean(value)):
        raise TypeError(
            f"columns of {type_} have no bytes for their rows: encrypt their children, or cast to binary, text, "
            "a number, a date or a time"
        )
