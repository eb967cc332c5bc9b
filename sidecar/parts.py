"""Makes the parts that the configuration names, so that what they refuse reads like any other refused key."""

from sidecar.config import Config, ConfigError
from sidecar.keystore.factory import create
from sidecar.keystore.port import Keystore
from sidecar.kms.port import Kms
from sidecar.kms.providers import find


def check_parts(config: Config) -> None:
    """Raise ``ConfigError`` with what the keystore and the KMS provider refuse; opens nothing."""
    problems: list[str] = []
    for make in (keystore_of, kms_of):
        try:
            make(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def keystore_of(config: Config) -> Keystore:
    """The configured keystore, not yet open. Raises ``ConfigError``."""
    try:
        return create(config.keystore.url)
    except ValueError as error:
        raise ConfigError([f"keystore.url: {error}"]) from None


def kms_of(config: Config) -> Kms | None:
    """The configured KMS, not yet open; None where the local wrapping key wraps. Raises ``ConfigError``."""
    for name, plugin in config.plugins.items():
        if plugin.is_kms:
            try:
                return find(str(plugin.plugin))(plugin.settings)
            except ValueError as error:
                # A provider's ValueError is written for this place; see its port.
                raise ConfigError([f"plugins.{name}: {error}"]) from None
    return None
