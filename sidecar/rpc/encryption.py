"""EncryptionService: from request to columns, data keys and back. Encrypt and Decrypt; the others have their files."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from sidekey.v1 import encryption_pb2 as pb
from sidekey.v1 import encryption_pb2_grpc as pb_grpc

from sidecar.crypto import few
from sidecar.crypto.decryption import Ciphertexts, Decrypted, read_ciphertexts
from sidecar.crypto.format import RowFailure, Suite
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.usage import UsageCounts
from sidecar.rpc.admission import Admission
from sidecar.rpc.batches import BatchLimits, decode, encode, few_values
from sidecar.rpc.query_tokens import QueryTokens
from sidecar.rpc.reencryption import Reencryption
from sidecar.rpc.requests import DEFAULT_KEYRING, associated_data_of, check_on_error, keyring_name, suite_of
from sidecar.rpc.row_errors import settle
from sidecar.rpc.traffic import Traffic


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
        self._reencryption = Reencryption(keyrings, usage, admission, limits, traffic)
        self._query_tokens = QueryTokens(keyrings, admission, limits, traffic)

    async def Encrypt(  # type: ignore[override]  # noqa: N802
        self, request: pb.EncryptRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EncryptResponse | bytes:
        """Encrypt a batch under the keyring's primary."""
        wanted = suite_of(request.mode)
        keyring = keyring_name(request.keyring or DEFAULT_KEYRING)
        associated_data = associated_data_of(request.associated_data)
        values = few_values(request)
        if values is not None:
            return await self._encrypt_few(values, keyring, wanted, associated_data)
        column, as_values = decode(request, self._limits)
        with self._admission.admit(column.count, column.data.size):
            data_key, suite = await self._keyrings.encryption(keyring, wanted)
            self._limits.check_answer(column, suite.overhead_bytes, as_values=as_values)
            ciphertexts = data_key.cipher.encrypt(column, suite, associated_data, secrets.token_bytes)
            answer = encode(ciphertexts, pb.EncryptResponse(), as_values=as_values)
        self._usage.encrypted(data_key.key_id, column.valid_count)
        overhead = suite.overhead_bytes * ciphertexts.valid_count
        self._traffic.count("encrypt", suite, ciphertexts.valid_count, ciphertexts.size_of_values - overhead)
        return answer

    async def _encrypt_few(
        self, values: Sequence[bytes], keyring: str, wanted: Suite | None, associated_data: bytes
    ) -> pb.EncryptResponse:
        size = self._limits.check_few(values)
        with self._admission.admit(len(values), size):
            data_key, suite = await self._keyrings.encryption(keyring, wanted)
            self._limits.check_few_answer(len(values), size, suite.overhead_bytes)
            answer = data_key.cipher.encrypt_values(values, suite, associated_data, secrets.token_bytes)
        self._usage.encrypted(data_key.key_id, len(values))
        self._traffic.count("encrypt", suite, len(values), size)
        return pb.EncryptResponse(values=pb.ValueBatch(values=answer))

    async def Decrypt(  # type: ignore[override]  # noqa: N802
        self, request: pb.DecryptRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DecryptResponse | bytes:
        """Decrypt a batch; rows of several data keys and modes may stand together."""
        check_on_error(request.on_error)
        keyring = keyring_name(request.keyring) if request.keyring else None
        associated_data = associated_data_of(request.associated_data)
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
        self._count_few(headers, answer)
        return response

    def _report(
        self, rows: Sequence[int], failures: Sequence[RowFailure], on_error: pb.OnError, response: pb.DecryptResponse
    ) -> None:
        """List failed rows in the response, or raise where the call is all or nothing."""
        self._traffic.count_failures(failures)
        response.row_errors.extend(settle(rows, failures, on_error))

    def _count_few(self, headers: Sequence[few.Header | None], answer: Sequence[bytes | RowFailure]) -> None:
        by_key: dict[str, int] = {}
        for header, value in zip(headers, answer, strict=True):
            if header is not None and not isinstance(value, RowFailure):
                by_key[header.key_id] = by_key.get(header.key_id, 0) + 1
                self._traffic.count("decrypt", header.suite, 1, len(value))
        for key_id, values in by_key.items():
            self._usage.decrypted(key_id, values)

    def _count_decrypted(self, ciphertexts: Ciphertexts, decrypted: Decrypted) -> None:
        column = decrypted.column
        for group in ciphertexts.groups:
            if group.index is None:
                values, size = column.valid_count, column.size_of_values
            else:
                rows = group.index if column.null is None else group.index[~column.null[group.index]]
                values, size = rows.size, int(column.rows.lengths[rows].sum())
            self._usage.decrypted(group.key_id, values)
            self._traffic.count("decrypt", group.suite, values, size)

    async def Reencrypt(  # type: ignore[override]  # noqa: N802
        self, request: pb.ReencryptRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> bytes:
        """Decrypt a batch and encrypt it again, without letting the plaintext out."""
        return await self._reencryption.answer(request)

    async def QueryTokens(  # noqa: N802
        self, request: pb.QueryTokensRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.QueryTokensResponse:
        """The deterministic ciphertexts of a batch under every live data key of a keyring."""
        return await self._query_tokens.answer(request)


def _validity(count: int, null: Sequence[int]) -> bytes:
    """A bitmap of ``count`` rows with these rows NULL."""
    bits = (1 << count) - 1
    for row in null:
        bits &= ~(1 << row)
    return bits.to_bytes((count + 7) // 8, "little")
