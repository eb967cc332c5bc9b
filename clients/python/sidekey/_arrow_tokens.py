"""List arrays of query tokens: for each row its tokens under every data key, without a step of Python for each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow

from sidekey import _arrow_build as build
from sidekey._column import Mask, Piece, Pieces, Tokens, pack

# Which type an array has is only known when it is there; the stubs want to know it before.
pa: Any = pyarrow

_INT32_MAX = 2**31 - 1


def lists(answers: Sequence[Tokens], token: Any) -> Any:
    """A list array of all rows; ``token``: the type of a token, None: (large) binary, as needed.

    Messages may differ in their data keys, where the keyring rolled over between them.
    """
    if token is None:
        size = sum(len(piece.data) for answer in answers for piece in answer.by_key)
        token = pa.binary() if size <= _INT32_MAX else pa.large_binary()
    arrays = [_of_message(answer, token) for answer in answers]
    return pa.concat_arrays(arrays) if arrays else pa.array([], pa.list_(token))


def _of_message(answer: Tokens, token: Any) -> Any:
    rows, valid, keys = answer.rows, answer.valid, len(answer.by_key)
    live = np.arange(rows) if valid is None else np.flatnonzero(valid)
    if keys:
        by_key = pa.concat_arrays([_tokens(rows, piece, token) for piece in answer.by_key])
        # Row by row, and within a row key by key: token k of row i stands at k * rows + i.
        order = live[:, np.newaxis] + rows * np.arange(keys)
        values = by_key.take(pa.array(order.reshape(-1)))
    else:
        values = pa.array([], token)
    buffers = [None if valid is None else pa.py_buffer(pack(valid)), pa.py_buffer(_offsets(rows, valid, keys))]
    return pa.Array.from_buffers(pa.list_(token), rows, buffers, children=[values])


def _tokens(rows: int, piece: Piece, token: Any) -> Any:
    pieces = Pieces(rows, [piece])
    if pa.types.is_fixed_size_binary(token):
        return build.fixed(token, pieces)
    return build.variable(token, pieces, *pieces.variable())


def _offsets(rows: int, valid: Mask | None, keys: int) -> npt.NDArray[np.int32]:
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(np.full(rows, keys) if valid is None else valid * keys, out=offsets[1:])
    return offsets
