"""The port to a KMS: wrap and unwrap data keys, nothing else.

A provider is any package with an entry point in the group ``sidekey.kms`` whose name is the ``plugin`` name of the
configuration and whose object is a ``KmsFactory``.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

DATA_KEY_BYTES: Final = 32


class Kms(Protocol):
    """Wraps data keys under one wrapping key.

    Every method raises only ``KmsDeniedError``, ``KmsDisabledError``, ``KmsThrottledError``, ``KmsUnavailableError`` or
    ``CorruptKeyError`` (unwrap: the wrapped key is damaged, or was wrapped under other terms), within its own bounded
    time, and never with a vendor's text in the message.
    """

    @property
    def name(self) -> str:
        """The provider's plugin name, for example ``awsKms``; ``local`` for the local wrapping key."""
        ...

    @property
    def kek_id(self) -> str:
        """Which wrapping key wraps now; stored beside every data key, never secret. Read it after a wrap."""
        ...

    def may_unwrap(self, kek_id: str) -> bool:
        """Whether this provider may unwrap what the wrapping key of this id wrapped; decided without a call.

        True where that is not known: the KMS will say. It tells several KMSs' copies of a data key apart.
        """
        ...

    async def open(self) -> None:
        """Make what lasts for the life of the process (a client, a key file). Called once, before any other method.

        Raises ``StartupError`` where that cannot be done as configured.
        """
        ...

    async def wrap(self, data_key: bytes | bytearray, encryption_context: Mapping[str, str]) -> bytes:
        """Wrap a data key of 32 bytes, bound to ``encryption_context``."""
        ...

    async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
        """Unwrap a data key; the caller overwrites the result after use."""
        ...

    async def close(self) -> None:
        """Let go of connections; called once, last."""
        ...


class SettingsError(ValueError):
    """A provider refuses its block; each problem reads ``key: what would be right``, and shows no secret."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class KmsFactory(Protocol):
    """Makes a provider from its block under ``plugins`` in the configuration (as parsed, ``plugin`` included).

    Raises ``SettingsError``, or another ``ValueError`` of one problem that is worded in the same way; it opens nothing
    yet.
    """

    def __call__(self, settings: Mapping[str, Any]) -> Kms: ...
