"""What a sidecar without a column kernel would do: pyca's ``AESSIV``, one call a value.

The yardstick of the value-batch target, in process and behind gRPC (``python -m bench.echo --loop``). It writes the
format's bytes under a key of its own, which protects nothing.
"""

import os

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from bench.cases import Mode

KEY_ID = bytes(range(1, 8))
SUITE_BYTES = {Mode.DETERMINISTIC: 0xF8, Mode.RANDOMIZED: 0xF9}
_HEADER = {mode: bytes([suite]) + KEY_ID for mode, suite in SUITE_BYTES.items()}


class NaiveSiv:
    """AES-256-SIV, a value at a time, with a random nonce for each value in the randomized mode."""

    def __init__(self) -> None:
        # One schedule for both modes: which 64 bytes the key is does not change the time.
        self._siv = AESSIV(os.urandom(64))

    def encrypt(self, values: list[bytes], mode: Mode, associated_data: bytes) -> list[bytes]:
        """The format's ciphertexts."""
        header = _HEADER[mode]
        first = header + associated_data
        encrypt = self._siv.encrypt
        if mode is Mode.DETERMINISTIC:
            components = [first]
            return [header + encrypt(value, components) for value in values]
        nonces = [os.urandom(16) for _ in values]
        return [header + nonce + encrypt(value, [first, nonce]) for value, nonce in zip(values, nonces, strict=True)]

    def decrypt(self, ciphertexts: list[bytes], associated_data: bytes) -> list[bytes]:
        """The values; raises ``cryptography.exceptions.InvalidTag`` where one does not authenticate."""
        return [self._decrypt_one(ciphertext, associated_data) for ciphertext in ciphertexts]

    def _decrypt_one(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        first = ciphertext[:8] + associated_data
        if ciphertext[0] == SUITE_BYTES[Mode.DETERMINISTIC]:
            return self._siv.decrypt(ciphertext[8:], [first])
        return self._siv.decrypt(ciphertext[24:], [first, ciphertext[8:24]])
