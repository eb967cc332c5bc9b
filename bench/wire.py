"""The messages of a case: how its calls are made, and whether an answer is right. Knows no server and no clock."""

from typing import Any

import numpy as np
from sidekey.v1 import encryption_pb2 as pb

from bench.cases import MESSAGE_LIMIT, Case, Direction, Mode, Rows, Shape, rows_of

ASSOCIATED_DATA = b"bench.column"

CLIENT_OPTIONS = (
    ("grpc.max_receive_message_length", 2 * MESSAGE_LIMIT),
    ("grpc.max_send_message_length", 2 * MESSAGE_LIMIT),
    ("grpc.default_authority", "localhost"),
)
"""What every channel of the benchmark is made with. Its limits are loose: those that count are the servers'."""

PB_MODES = {Mode.DETERMINISTIC: pb.MODE_DETERMINISTIC, Mode.RANDOMIZED: pb.MODE_RANDOMIZED}

Batch = dict[str, Any]
"""The ``values`` or the ``column`` of a request or an answer, as a keyword argument of its message."""


class WrongAnswerError(Exception):
    """A server answered something else than the case asks for: its speed means nothing."""


def plaintext_batch(case: Case) -> Batch:
    """The rows of a case, before encryption."""
    rows = rows_of(case.size, case.rows)
    if case.shape is Shape.VALUES:
        return {"values": pb.ValueBatch(values=rows.values)}
    if case.size.fixed:
        return {"column": pb.ColumnBatch(data=rows.data, byte_width=case.size.longest)}
    return {"column": pb.ColumnBatch(data=rows.data, offsets=rows.offsets.tobytes())}


def batch_of(answer: pb.EncryptResponse | pb.DecryptResponse) -> Batch:
    """The batch of an answer, to be asked with again."""
    name = answer.WhichOneof("batch")
    if name is None:
        raise WrongAnswerError("an answer without a batch")
    return {name: getattr(answer, name)}


def encrypt_request(case: Case) -> pb.EncryptRequest:
    """The call of an encrypting case, and what a decrypting case needs its ciphertexts from."""
    return pb.EncryptRequest(associated_data=ASSOCIATED_DATA, mode=PB_MODES[case.mode], **plaintext_batch(case))


def decrypt_request(encrypted: pb.EncryptResponse) -> pb.DecryptRequest:
    """The call of a decrypting case, from the answer of the encrypting one."""
    return pb.DecryptRequest(associated_data=ASSOCIATED_DATA, **batch_of(encrypted))


def check_sizes(case: Case, direction: Direction, batch: Batch) -> None:
    """Raise ``WrongAnswerError`` unless every row of an answer is as long as the format says."""
    if set(batch) != {case.shape.value}:
        raise WrongAnswerError(f"{case.name}: the answer has another shape than the question")
    grow = case.mode.overhead if direction is Direction.ENCRYPT else 0
    if not np.array_equal(_lengths(case, batch), np.diff(rows_of(case.size, case.rows).offsets) + grow):
        raise WrongAnswerError(f"{case.name}: the answer has rows of the wrong length")


def check_plaintext(case: Case, batch: Batch) -> None:
    """Raise ``WrongAnswerError`` unless an answer holds the plaintext of the case."""
    check_sizes(case, Direction.DECRYPT, batch)
    rows: Rows = rows_of(case.size, case.rows)
    data = batch["column"].data if case.shape is Shape.COLUMN else b"".join(batch["values"].values)
    if data != rows.data:
        raise WrongAnswerError(f"{case.name}: what was decrypted is not what was encrypted")


def _lengths(case: Case, batch: Batch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The length of each row of an answer, taken from what the answer says and proved by the bytes it holds."""
    if case.shape is Shape.VALUES:
        return np.array([len(value) for value in batch["values"].values], np.int64)
    column = batch["column"]
    if column.byte_width:
        return np.full(len(column.data) // column.byte_width, column.byte_width, np.int64)
    offsets = np.frombuffer(column.offsets, "<i4").astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(column.data):
        raise WrongAnswerError(f"{case.name}: the answer's offsets do not cover its data")
    return np.diff(offsets)
