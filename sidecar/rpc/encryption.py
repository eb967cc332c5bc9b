"""EncryptionService: from request to columns, data keys and back."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any, Final

import grpc
import numpy as np
from sidekey.v1 import encryption_pb2 as pb
from sidekey.v1 import encryption_pb2_grpc as pb_grpc

from sidecar import errors
from sidecar.crypto import few
from sidecar.crypto.column import Column
from sidecar.crypto.decryption import Ciphertexts, Decrypted, read_ciphertexts
from sidecar.crypto.format import MAX_ASSOCIATED_DATA_BYTES, RowFailure, Suite
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.usage import UsageCounts
from sidecar.rpc.admission import Admission
from sidecar.rpc.batches import BatchLimits, decode, encode, few_values
from sidecar.rpc.row_errors import call_error, row_errors
from sidecar.rpc.traffic import Traffic

DEFAULT_KEYRING: Final = "default"
_KEYRING_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

_SUITES = {
    pb.MODE_UNSPECIFIED: Suite.RANDOMIZED,
    pb.MODE_RANDOMIZED: Suite.RANDOMIZED,
    pb.MODE_DETERMINISTIC: Suite.DETERMINISTIC,
}


class EncryptionService(pb_grpc.EncryptionServiceServicer):
    """Encrypts and decrypts batches. The cipher works on the event loop's thread: ciphers are not for two threads.

    A batch of few values goes through lists, every other through columns; the answers are the same. An answer may be a
    message or, serialized already, bytes: the boundary passes these on as they are.
    """

    def __init__(
        self, keyrings: Keyrings, usage: UsageCounts, admission: Admission, limits: BatchLimits, traffic: Traffic
    ) -> None:
        self._keyrings = keyrings
        self._usage = usage
        self._admission = admission
        self._limits = limits
        self._traffic = traffic

    async def Encrypt(  # type: ignore[override]  # noqa: N802
        self, request: pb.EncryptRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EncryptResponse | bytes:
        """Encrypt a batch under the keyring's primary."""
        suite = _SUITES.get(request.mode)
        if suite is None:
            raise errors.UnknownModeError(f"mode {request.mode} is unknown; use MODE_RANDOMIZED or MODE_DETERMINISTIC")
        keyring = _keyring_name(request.keyring or DEFAULT_KEYRING)
        associated_data = _associated_data(request.associated_data)
        values = few_values(request)
        if values is not None:
            return await self._encrypt_few(values, keyring, suite, associated_data)
        column, as_values = decode(request, self._limits)
        self._limits.check_answer(column, suite.overhead_bytes, as_values=as_values)
        with self._admission.admit(column.count, column.data.size):
            data_key = await self._keyrings.primary(keyring)
            ciphertexts = data_key.cipher.encrypt(column, suite, associated_data, secrets.token_bytes)
            answer = encode(ciphertexts, pb.EncryptResponse(), as_values=as_values)
        self._usage.add(data_key.key_id, column.valid_count)
        overhead = suite.overhead_bytes * ciphertexts.valid_count
        self._traffic.count("encrypt", suite, ciphertexts.valid_count, _size_of_values(ciphertexts) - overhead)
        return answer

    async def _encrypt_few(
        self, values: Sequence[bytes], keyring: str, suite: Suite, associated_data: bytes
    ) -> pb.EncryptResponse:
        size = self._limits.check_few(values, suite.overhead_bytes)
        with self._admission.admit(len(values), size):
            data_key = await self._keyrings.primary(keyring)
            answer = data_key.cipher.encrypt_values(values, suite, associated_data, secrets.token_bytes)
        self._usage.add(data_key.key_id, len(values))
        self._traffic.count("encrypt", suite, len(values), size)
        return pb.EncryptResponse(values=pb.ValueBatch(values=answer))

    async def Decrypt(  # type: ignore[override]  # noqa: N802
        self, request: pb.DecryptRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DecryptResponse | bytes:
        """Decrypt a batch; rows of several data keys and modes may stand together."""
        if request.on_error not in (pb.ON_ERROR_UNSPECIFIED, pb.ON_ERROR_REPORT):
            raise errors.UnknownModeError(
                f"on_error {request.on_error} is unknown; use ON_ERROR_REPORT or leave it out"
            )
        keyring = _keyring_name(request.keyring) if request.keyring else None
        associated_data = _associated_data(request.associated_data)
        values = few_values(request)
        if values is not None:
            return await self._decrypt_few(values, keyring, associated_data, request.on_error)
        column, as_values = decode(request, self._limits)
        response = pb.DecryptResponse()
        with self._admission.admit(column.count, column.data.size):
            ciphertexts = read_ciphertexts(column)
            keys = await self._keyrings.for_decryption(ciphertexts.key_ids, keyring)
            decrypted = ciphertexts.decrypt(keys, associated_data)
            failed = np.flatnonzero(decrypted.failures)
            if failed.size:
                self._limits.check_row_errors(decrypted.column, failed.size)
                failures = [RowFailure(code) for code in decrypted.failures[failed].tolist()]
                self._report(failed.tolist(), failures, request.on_error, response)
            answer = encode(decrypted.column, response, as_values=as_values)
        self._count_decrypted(ciphertexts, decrypted)
        return answer

    async def _decrypt_few(
        self, values: Sequence[bytes], keyring: str | None, associated_data: bytes, on_error: pb.OnError
    ) -> pb.DecryptResponse:
        self._limits.check_rows(len(values))
        response = pb.DecryptResponse()
        size = sum(map(len, values))
        with self._admission.admit(len(values), size):
            headers = [few.read_header(value) for value in values]
            key_ids = dict.fromkeys(header.key_id for header in headers if header)
            keys = await self._keyrings.for_decryption(key_ids, keyring)
            answer = few.decrypt(values, headers, keys, associated_data)
        failed = [row for row, value in enumerate(answer) if isinstance(value, RowFailure)]
        if failed:
            self._report(failed, [value for value in answer if isinstance(value, RowFailure)], on_error, response)
            response.values.validity = _validity(len(answer), failed)
        response.values.values.extend([b"" if isinstance(value, RowFailure) else value for value in answer])
        for header, value in zip(headers, answer, strict=True):
            if header is not None and not isinstance(value, RowFailure):
                self._traffic.count("decrypt", header.suite, 1, len(value))
        return response

    def _report(
        self, rows: Sequence[int], failures: Sequence[RowFailure], on_error: pb.OnError, response: pb.DecryptResponse
    ) -> None:
        """List failed rows in the response, or raise where the call is all or nothing."""
        self._traffic.count_failures(failures)
        if on_error != pb.ON_ERROR_REPORT:
            raise call_error(rows, failures)
        response.row_errors.extend(row_errors(rows, failures))

    def _count_decrypted(self, ciphertexts: Ciphertexts, decrypted: Decrypted) -> None:
        column = decrypted.column
        for group in ciphertexts.groups:
            if group.index is None:
                self._traffic.count("decrypt", group.suite, column.valid_count, _size_of_values(column))
            else:
                rows = group.index if column.null is None else group.index[~column.null[group.index]]
                self._traffic.count("decrypt", group.suite, rows.size, int(column.rows.lengths[rows].sum()))


def _size_of_values(answer: Column) -> int:
    """Bytes of the rows that are not NULL; in an answer a NULL row has bytes only where the width is fixed."""
    return answer.data.size if answer.width is None else answer.width * answer.valid_count


def _validity(count: int, null: Sequence[int]) -> bytes:
    """A bitmap of ``count`` rows with these rows NULL."""
    bits = (1 << count) - 1
    for row in null:
        bits &= ~(1 << row)
    return bits.to_bytes((count + 7) // 8, "little")


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
