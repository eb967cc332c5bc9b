"""A keystore that tells how its calls end. Owns no decision: whoever listens does."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore.forwarding import ForwardingKeystore
from sidecar.keystore.port import Keystore

_T = TypeVar("_T")


class WatchedKeystore(ForwardingKeystore):
    """Implements the port on top of another implementation; ``on_result(reachable)`` is called after each call."""

    def __init__(self, keystore: Keystore, on_result: Callable[[bool], None]) -> None:
        super().__init__(keystore)
        self._on_result = on_result

    async def _asked(self, answer: Awaitable[_T]) -> _T:
        try:
            found = await answer
        except KeystoreUnavailableError:
            self._on_result(False)
            raise
        self._on_result(True)
        return found
