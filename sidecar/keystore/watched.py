"""A keystore that tells how its calls end. Owns no decision: whoever listens does."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from sidecar.errors import KeystoreUnavailableError, SidekeyError
from sidecar.keystore.forwarding import ForwardingKeystore
from sidecar.keystore.port import DataKeyRecord, Keystore, Usage

_T = TypeVar("_T")


class WatchedKeystore(ForwardingKeystore):
    """Implements the port on top of another implementation; ``on_result(reachable)`` is called after each call."""

    def __init__(self, keystore: Keystore, on_result: Callable[[bool], None]) -> None:
        super().__init__(keystore)
        self._on_result = on_result

    async def get_many(self, key_ids: Iterable[str]) -> Mapping[str, DataKeyRecord]:
        """As the port; to be asked for nothing says nothing of the keystore."""
        wanted = list(key_ids)
        return await super().get_many(wanted) if wanted else {}

    async def add_usage(self, usage: Mapping[str, Usage]) -> Mapping[str, SidekeyError]:
        """As the port; likewise."""
        return await super().add_usage(usage) if usage else {}

    async def _asked(self, answer: Awaitable[_T]) -> _T:
        try:
            found = await answer
        except KeystoreUnavailableError:
            self._on_result(False)
            raise
        self._on_result(True)
        return found
