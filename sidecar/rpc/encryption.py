"""EncryptionService: from request to columns, keys and back."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any, Final

import grpc
import numpy as np
from sidekey.v1 import encryption_pb2 as pb
from sidekey.v1 import encryption_pb2_grpc as pb_grpc

from sidecar import errors
from sidecar.crypto.column import Column
from sidecar.crypto.format import MAX_ASSOCIATED_DATA_BYTES, RowFailure, Suite
from sidecar.crypto.opening import Opened, Sealed, seal_of
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.usage import UsageCounts
from sidecar.metrics import Metrics
from sidecar.rpc.admission import Admission
from sidecar.rpc.batches import BatchLimits, decode, encode

DEFAULT_KEYRING: Final = "default"
_KEYRING_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FIRST_ROWS = 10

_SUITES = {
    pb.MODE_UNSPECIFIED: Suite.RANDOMIZED,
    pb.MODE_RANDOMIZED: Suite.RANDOMIZED,
    pb.MODE_DETERMINISTIC: Suite.DETERMINISTIC,
}

# When a call is all or nothing, its error is the worst of its rows': first what no retry and no operator can mend.
_CALL_ERRORS: tuple[tuple[type[errors.SidekeyError], frozenset[RowFailure]], ...] = (
    (errors.CorruptKeyError, frozenset({RowFailure.KEY_CORRUPT})),
    (
        errors.DecryptFailedError,
        frozenset({RowFailure.MALFORMED, RowFailure.UNKNOWN_KEY, RowFailure.AUTHENTICATION_FAILED}),
    ),
    (errors.WrongKeyringError, frozenset({RowFailure.WRONG_KEYRING})),
    (errors.KeyDestroyedError, frozenset({RowFailure.KEY_DESTROYED})),
    (errors.KeyDisabledError, frozenset({RowFailure.KEY_DISABLED})),
    (errors.KmsDeniedError, frozenset({RowFailure.PERMISSION_DENIED})),
    (errors.KeyUnavailableError, frozenset({RowFailure.KEY_UNAVAILABLE})),
)


class EncryptionService(pb_grpc.EncryptionServiceServicer):
    """Encrypts and decrypts batches. The cipher works on the event loop's thread: ciphers are not for two threads."""

    def __init__(
        self, keyrings: Keyrings, usage: UsageCounts, admission: Admission, limits: BatchLimits, metrics: Metrics
    ) -> None:
        self._keyrings = keyrings
        self._usage = usage
        self._admission = admission
        self._limits = limits
        self._metrics = metrics

    async def Encrypt(  # noqa: N802
        self, request: pb.EncryptRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EncryptResponse:
        """Encrypt a batch under the keyring's primary."""
        suite = _SUITES.get(request.mode)
        if suite is None:
            raise errors.UnknownModeError(f"mode {request.mode} is unknown; use MODE_RANDOMIZED or MODE_DETERMINISTIC")
        keyring = _keyring_name(request.keyring or DEFAULT_KEYRING)
        associated_data = _associated_data(request.associated_data)
        column, as_values = decode(request, self._limits)
        self._limits.check_answer(column, suite.overhead_bytes, as_values=as_values)
        response = pb.EncryptResponse()
        with self._admission.admit(column.count, column.data.size):
            data_key = await self._keyrings.primary(keyring)
            sealed = data_key.cipher.encrypt(column, suite, associated_data, secrets.token_bytes)
            encode(sealed, response, as_values=as_values)
        self._usage.add(data_key.key_id, column.valid_count)
        overhead = suite.overhead_bytes * sealed.valid_count
        self._count("encrypt", suite, sealed.valid_count, _size_of_values(sealed) - overhead)
        return response

    async def Decrypt(  # noqa: N802
        self, request: pb.DecryptRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DecryptResponse:
        """Decrypt a batch; rows of several data keys and modes may stand together."""
        if request.on_error not in (pb.ON_ERROR_UNSPECIFIED, pb.ON_ERROR_REPORT):
            raise errors.UnknownModeError(
                f"on_error {request.on_error} is unknown; use ON_ERROR_REPORT or leave it out"
            )
        keyring = _keyring_name(request.keyring) if request.keyring else None
        associated_data = _associated_data(request.associated_data)
        column, as_values = decode(request, self._limits)
        response = pb.DecryptResponse()
        with self._admission.admit(column.count, column.data.size):
            sealed = seal_of(column)
            keys = await self._keyrings.for_decryption(sealed.key_ids, keyring)
            opened = sealed.open(keys, associated_data)
            failed = np.flatnonzero(opened.failures)
            if failed.size:
                self._report(request.on_error, opened, failed.tolist(), response)
            encode(opened.column, response, as_values=as_values)
        self._count_opened(sealed, opened)
        return response

    def _report(self, on_error: pb.OnError, opened: Opened, failed: list[int], response: pb.DecryptResponse) -> None:
        """List failed rows in the response, or raise where the call is all or nothing."""
        counts = np.bincount(opened.failures)
        for failure in RowFailure:
            if failure < counts.size and counts[failure]:
                self._metrics.row_errors.labels(failure.name).inc(int(counts[failure]))
        codes = [RowFailure(code) for code in opened.failures[failed].tolist()]
        if on_error != pb.ON_ERROR_REPORT:
            raise _call_error(failed, codes)
        self._limits.check_row_errors(opened.column, len(failed))
        response.row_errors.extend(_row_errors(failed, codes))

    def _count_opened(self, sealed: Sealed, opened: Opened) -> None:
        column = opened.column
        for group in sealed.groups:
            if group.index is None:
                self._count("decrypt", group.suite, column.valid_count, _size_of_values(column))
            else:
                rows = group.index if column.null is None else group.index[~column.null[group.index]]
                self._count("decrypt", group.suite, rows.size, int(column.rows.lengths[rows].sum()))

    def _count(self, direction: str, suite: Suite, values: int, data_bytes: int) -> None:
        mode = suite.name.lower()
        self._metrics.values.labels(direction, mode).inc(values)
        self._metrics.value_bytes.labels(direction, mode).inc(data_bytes)


def _size_of_values(answer: Column) -> int:
    """Bytes of the rows that are not NULL; in an answer a NULL row has bytes only where the width is fixed."""
    return answer.data.size if answer.width is None else answer.width * answer.valid_count


def _keyring_name(name: str) -> str:
    if _KEYRING_NAME.fullmatch(name) is None:
        raise errors.InvalidRequestError(
            "the keyring's name must be 1 to 63 of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit"
        )
    return name


def _associated_data(data: bytes) -> bytes:
    if len(data) > MAX_ASSOCIATED_DATA_BYTES:
        raise errors.ValueTooLargeError(
            f"associated_data has {len(data)} bytes; it may have at most {MAX_ASSOCIATED_DATA_BYTES}"
        )
    return data


_CONTRACT_CODES: dict[RowFailure, pb.RowErrorCode] = {
    RowFailure.MALFORMED: pb.ROW_ERROR_CODE_MALFORMED,
    RowFailure.UNKNOWN_KEY: pb.ROW_ERROR_CODE_UNKNOWN_KEY,
    RowFailure.KEY_DISABLED: pb.ROW_ERROR_CODE_KEY_DISABLED,
    RowFailure.KEY_DESTROYED: pb.ROW_ERROR_CODE_KEY_DESTROYED,
    RowFailure.KEY_UNAVAILABLE: pb.ROW_ERROR_CODE_KEY_UNAVAILABLE,
    RowFailure.AUTHENTICATION_FAILED: pb.ROW_ERROR_CODE_AUTHENTICATION_FAILED,
    RowFailure.PERMISSION_DENIED: pb.ROW_ERROR_CODE_PERMISSION_DENIED,
    RowFailure.WRONG_KEYRING: pb.ROW_ERROR_CODE_WRONG_KEYRING,
    # The contract has no code for a corrupt key: it is unavailable, and no retry helps.
    RowFailure.KEY_CORRUPT: pb.ROW_ERROR_CODE_KEY_UNAVAILABLE,
}


def _row_errors(rows: list[int], codes: list[RowFailure]) -> Iterable[pb.RowError]:
    return (
        pb.RowError(row=row, code=_CONTRACT_CODES[code], retryable=code.retryable)
        for row, code in zip(rows, codes, strict=True)
    )


def _call_error(rows: list[int], codes: list[RowFailure]) -> errors.SidekeyError:
    """The error of an all-or-nothing call; its text names the first rows."""
    present = set(codes)
    kind = next(kind for kind, of_kind in _CALL_ERRORS if present & of_kind)
    first = ", ".join(f"row {row}: {code.name}" for row, code in zip(rows[:_FIRST_ROWS], codes, strict=False))
    more = f", and {len(rows) - _FIRST_ROWS} more" if len(rows) > _FIRST_ROWS else ""
    return kind(f"{len(rows)} rows cannot be decrypted ({first}{more})")
