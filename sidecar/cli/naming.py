"""Says of which keystore an error speaks: who runs commands may have several, each in a configuration of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sidecar.config import Config
from sidecar.config.problems import redact_url
from sidecar.errors import KeystoreUnavailableError, SidekeyError, StartupError
from sidecar.keystore.factory import upgrades_itself
from sidecar.keystore.port import NO_SCHEMA

LEFT_TO_SERVE: Final = "; or leave it to 'sidekey serve', which does it by itself"
"""Of a keystore that has no schema, or an older one, and is one sidecar's own."""
_OF_OPENING: Final[tuple[type[SidekeyError], ...]] = (KeystoreUnavailableError, StartupError)


@contextmanager
def naming_keystore(config: Config, errors: tuple[type[SidekeyError], ...] = _OF_OPENING) -> Iterator[None]:
    """Put the keystore's URL, without its password, before the text of these errors.

    ``errors``: by default what can be wrong with a keystore that is opened.
    """
    try:
        yield
    except errors as error:
        text = f"keystore {redact_url(config.keystore.url)}: {error}"
        if str(error) == NO_SCHEMA and upgrades_itself(config.keystore.url):
            text += LEFT_TO_SERVE
        raise type(error)(text) from None
