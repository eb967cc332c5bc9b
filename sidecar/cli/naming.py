"""Says of which keystore an error speaks: who runs commands may have several, each in a configuration of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sidecar.config import Config
from sidecar.config.problems import redact_url
from sidecar.errors import KeystoreUnavailableError, SidekeyError, StartupError

_OF_OPENING: Final[tuple[type[SidekeyError], ...]] = (KeystoreUnavailableError, StartupError)


@contextmanager
def naming_keystore(config: Config, errors: tuple[type[SidekeyError], ...] = _OF_OPENING) -> Iterator[None]:
    """Put the keystore's URL, without its password, before the text of these errors.

    ``errors``: by default what can be wrong with a keystore that is opened.
    """
    try:
        yield
    except errors as error:
        raise type(error)(f"keystore {redact_url(config.keystore.url)}: {error}") from None
