"""Makes the parts that the configuration names, so that what they refuse reads like any other refused key."""

import functools
from collections.abc import Callable, Mapping

from sidecar.config import Config, ConfigError
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.factory import create
from sidecar.keystore.port import Keystore
from sidecar.kms.guard import GuardedKms
from sidecar.kms.local import NAME as LOCAL
from sidecar.kms.local import LocalKms
from sidecar.kms.port import Kms
from sidecar.kms.providers import find
from sidecar.metrics import Metrics

_LOCAL_WRAPPING_KEY = "kek"


def wrapping_keys_of(
    config: Config,
    metrics: Metrics,
    on_result: Callable[[str, str, str], None] = lambda _name, _operation, _result: None,
    kmses: Mapping[str, Kms] | None = None,
) -> WrappingKeys:
    """The wrapping keys, each KMS guarded and not yet open. Raises ``ConfigError``.

    Args:
        on_result: told the name of the KMS, the operation and how it ended, after each call.
        kmses: in place of the configured ones.
    """
    return WrappingKeys(
        {
            name: GuardedKms(
                kms,
                metrics,
                max_concurrent_calls=config.kms.max_concurrent_calls,
                deadline_seconds=config.kms.deadline_seconds,
                on_result=functools.partial(on_result, name),
            )
            for name, kms in (kmses or kmses_of(config)).items()
        }
    )


def check_parts(config: Config) -> None:
    """Raise ``ConfigError`` with what the keystore and the KMS provider refuse; opens nothing."""
    problems: list[str] = []
    for make in (keystore_of, kmses_of):
        try:
            make(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def keystore_of(config: Config) -> Keystore:
    """The configured keystore, not yet open. Raises ``ConfigError``."""
    try:
        return create(
            config.keystore.url,
            max_connections=config.keystore.max_connections,
            timeout_seconds=config.keystore.timeout_seconds,
        )
    except ValueError as error:
        raise ConfigError([f"keystore.url: {error}"]) from None


def kmses_of(config: Config) -> dict[str, Kms]:
    """The KMSs that wrap data keys, by the name of their plugin and not yet open, the first asked first.

    The local wrapping key where the configuration names none. Raises ``ConfigError`` with what each refuses.
    """
    if not config.kms_plugins:
        return {LOCAL: LocalKms(config.data_dir / _LOCAL_WRAPPING_KEY)}
    made: dict[str, Kms] = {}
    problems: list[str] = []
    for name, plugin in config.kms_plugins.items():
        try:
            made[name] = find(str(plugin.plugin))(plugin.settings)
        except ValueError as error:
            # A provider's ValueError is written for this place; see its port.
            problems.append(f"plugins.{name}: {error}")
    if problems:
        raise ConfigError(problems)
    return made
