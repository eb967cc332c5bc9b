"""The local wrapping key: a KMS for one machine, in a file.

It protects data keys against somebody who gets the keystore without the key file, and against nothing more: whoever
reads both can decrypt everything.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidecar.errors import CorruptKeyError, StartupError
from sidecar.kms import keyfile
from sidecar.kms.context import canonical_json
from sidecar.kms.port import DATA_KEY_BYTES

NAME: Final = "local"
_KEK_ID_PREFIX: Final = f"{NAME}:"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_WRAPPED_BYTES: Final = _NONCE_BYTES + DATA_KEY_BYTES + _TAG_BYTES


def is_local(kek_id: str) -> bool:
    """Whether a wrapping key of this kind has this id."""
    return kek_id.startswith(_KEK_ID_PREFIX)


class LocalKms:
    """Wraps data keys by AES-256-GCM under the key in a file; wrapped = nonce (12) || ct (32) || tag (16)."""

    name = NAME

    def __init__(self, path: Path, *, may_create: Callable[[], Awaitable[bool]] | None = None) -> None:
        """``may_create``: asked where nothing is at ``path``, whether a wrapping key may be made there; None: never."""
        self._path = path
        self._may_create = may_create
        self._cipher: AESGCM | None = None
        self._kek_id = ""

    @property
    def kek_id(self) -> str:
        """``local:`` and 16 hex digits that tell wrapping keys apart and give nothing of them away."""
        self._opened()
        return self._kek_id

    def may_unwrap(self, kek_id: str) -> bool:
        """Only what this very wrapping key wrapped."""
        self._opened()
        return kek_id == self._kek_id

    async def open(self) -> None:
        """Read the wrapping key, making it first where there is none and it may be made.

        Raises ``StartupError`` (see ``keyfile``), and whatever ``may_create`` raises.
        """
        key = await asyncio.to_thread(keyfile.load, self._path)
        if key is None:
            # A new wrapping key in the place of a lost one would unwrap nothing, and hide the loss.
            may_create = self._may_create is not None and await self._may_create()
            # Where it may not be made another process can have made it, and its first data key, just now.
            key = await asyncio.to_thread(keyfile.load_or_create if may_create else keyfile.load, self._path)
        if key is None:
            raise StartupError(
                f"the wrapping key {self._path} is missing, and data keys are wrapped under it: restore it from its "
                "backup, for nothing else unwraps them"
            )
        self._kek_id = _KEK_ID_PREFIX + _fingerprint(key)
        self._cipher = AESGCM(key)
        key[:] = bytes(len(key))

    async def wrap(self, data_key: bytes | bytearray, encryption_context: Mapping[str, str]) -> bytes:
        """Wrap a data key of 32 bytes; raises ``ValueError`` for another length, which only a defect can cause."""
        if len(data_key) != DATA_KEY_BYTES:
            raise ValueError(f"a data key has {DATA_KEY_BYTES} bytes")
        # Random nonces are safe for 2**32 wraps under one key (NIST SP 800-38D section 8.3); data keys are few.
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._opened().encrypt(nonce, data_key, canonical_json(encryption_context))

    async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
        """Unwrap a data key; raises ``CorruptKeyError``."""
        cipher = self._opened()
        if len(wrapped_key) != _WRAPPED_BYTES:
            raise CorruptKeyError(f"the wrapped data key is damaged: it must have {_WRAPPED_BYTES} bytes")
        nonce, ciphertext = wrapped_key[:_NONCE_BYTES], wrapped_key[_NONCE_BYTES:]
        try:
            return bytearray(cipher.decrypt(nonce, ciphertext, canonical_json(encryption_context)))
        except InvalidTag:
            raise CorruptKeyError(
                f"the local wrapping key ({self._kek_id}) does not unwrap this data key: it was wrapped by another "
                "wrapping key, or the wrapped key was damaged or moved to another key id or keyring"
            ) from None

    async def close(self) -> None:
        """Let go of the wrapping key."""
        self._cipher = None

    def _opened(self) -> AESGCM:
        if self._cipher is None:
            raise RuntimeError("the local wrapping key is not open")
        return self._cipher


def _fingerprint(key: bytearray) -> str:
    # One-way (HKDF) and under a label of its own: it is stored and logged, and must say nothing of the key.
    hkdf = HKDF(algorithm=hashes.SHA512(), length=8, salt=None, info=b"sidekey/v1 local wrapping key id")
    return hkdf.derive(key).hex()
