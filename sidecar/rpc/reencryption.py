"""Reencrypt: from ciphertexts to ciphertexts under the primary of a keyring; the plaintext stays in here."""

import secrets

import numpy as np
from sidekey.v1 import encryption_pb2 as pb

from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.decryption import Ciphertexts, read_ciphertexts
from sidecar.crypto.format import RowFailure, Suite
from sidecar.crypto.reencryption import Destination, Reencrypted, most_growth, reencrypt, suites_needed
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.usage import UsageCounts
from sidecar.rpc.admission import Admission
from sidecar.rpc.batches import BatchLimits, decode, encode
from sidecar.rpc.requests import DEFAULT_KEYRING, associated_data_of, check_on_error, keyring_name, suite_of
from sidecar.rpc.row_errors import settle
from sidecar.rpc.traffic import Traffic


class Reencryption:
    """Answers Reencrypt, of few values and of many by the column. Needs what EncryptionService needs."""

    def __init__(
        self, keyrings: Keyrings, usage: UsageCounts, admission: Admission, limits: BatchLimits, traffic: Traffic
    ) -> None:
        self._keyrings = keyrings
        self._usage = usage
        self._admission = admission
        self._limits = limits
        self._traffic = traffic

    async def answer(self, request: pb.ReencryptRequest) -> bytes:
        """A serialized ReencryptResponse. Raises SidekeyError."""
        check_on_error(request.on_error)
        suite = suite_of(request.to_mode)
        keyring = keyring_name(request.keyring) if request.keyring else None
        to_keyring = keyring_name(request.to_keyring or keyring or DEFAULT_KEYRING)
        associated_data = associated_data_of(request.associated_data)
        to_associated_data = associated_data
        if request.HasField("to_associated_data"):
            to_associated_data = associated_data_of(request.to_associated_data)
        column, as_values = decode(request, self._limits)
        with self._admission.admit(column.count, column.data.size):
            ciphertexts = read_ciphertexts(column)
            self._limits.check_answer(column, most_growth(ciphertexts, suite), as_values=as_values)
            cipher = await self._cipher(to_keyring, suite, ciphertexts)
            keys = await self._keyrings.for_decryption(ciphertexts.key_ids, keyring)
            destination = Destination(cipher, to_associated_data, suite)
            done = reencrypt(ciphertexts, keys, associated_data, destination, secrets.token_bytes)
            answer = self._encoded(done, request.on_error, as_values=as_values)
        self._count(done, cipher)
        return answer

    async def _cipher(self, keyring: str, suite: Suite | None, ciphertexts: Ciphertexts) -> DataKeyCipher:
        """The keyring's primary, once it is known to allow every mode that is wanted of it."""
        data_key, _ = await self._keyrings.encryption(keyring, suite)
        for kept in suites_needed(ciphertexts, suite):
            data_key, _ = await self._keyrings.encryption(keyring, kept)
        return data_key.cipher

    def _encoded(self, done: Reencrypted, on_error: pb.OnError, *, as_values: bool) -> bytes:
        response = pb.ReencryptResponse(unchanged=done.unchanged)
        failed = np.flatnonzero(done.failures)
        if failed.size:
            self._limits.check_row_errors(done.column, failed.size)
            failures = [RowFailure(code) for code in done.failures[failed].tolist()]
            self._traffic.count_failures(failures)
            response.row_errors.extend(settle(failed.tolist(), failures, on_error))
        return encode(done.column, response, as_values=as_values)

    def _count(self, done: Reencrypted, cipher: DataKeyCipher) -> None:
        for key_id, values in done.verified.items():
            self._usage.decrypted(key_id, values)
        self._usage.encrypted(cipher.key_id, done.verified.total() - done.unchanged)
        for suite, values in done.values.items():
            self._traffic.count("reencrypt", suite, values, done.value_bytes[suite])
