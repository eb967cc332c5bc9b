"""Makes the parts that the configuration names, so that what they refuse reads like any other refused key."""

import functools
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from sidecar.config import Config, ConfigError
from sidecar.config.model import Plugin
from sidecar.errors import CorruptKeyError, StartupError
from sidecar.keys.terms import KeyringTerms, schedule_of, suite_of
from sidecar.keys.wrapping import MOST_COPIES, WrappingKeys
from sidecar.keystore.factory import create
from sidecar.keystore.port import DamagedRow, DataKeyRecord, Keystore, VersionedKeystore
from sidecar.kms.guard import GuardedKms
from sidecar.kms.local import NAME as LOCAL
from sidecar.kms.local import LocalKms, is_local
from sidecar.kms.port import Kms, SettingsError
from sidecar.kms.providers import find
from sidecar.metrics import Metrics

_LOCAL_WRAPPING_KEY = "kek"
_MOST_NAMED = 3  # in an error's text


def wrapping_keys_of(
    config: Config,
    metrics: Metrics,
    on_result: Callable[[str, str, str, str], None] = lambda _name, _operation, _result, _problem: None,
    kmses: Mapping[str, Kms] | None = None,
    *,
    keystore: Keystore | None = None,
    dry_run: bool = False,
) -> WrappingKeys:
    """The wrapping keys, each KMS guarded and not yet open. Raises ``ConfigError``.

    Args:
        on_result: told the name of a KMS that wraps, the operation, how it ended, and the problem, after each call.
        kmses: in place of the configured ones.
        keystore, dry_run: as ``kmses_of``.
    """

    def guarded(name: str, kms: Kms, on_result: Callable[[str, str, str], None]) -> GuardedKms:
        return GuardedKms(
            kms,
            metrics,
            label=name,
            max_concurrent_calls=config.kms.max_concurrent_calls,
            max_calls_per_second=config.kms.max_calls_per_second,
            deadline_seconds=config.kms.deadline_seconds,
            on_result=on_result,
        )

    former = {} if kmses else former_kmses_of(config)
    return WrappingKeys(
        {
            name: guarded(name, kms, functools.partial(on_result, name))
            for name, kms in (kmses or kmses_of(config, keystore, former.values(), dry_run=dry_run)).items()
        },
        # Whether one of these answers says nothing of whether values can be encrypted.
        former={name: guarded(name, kms, lambda _operation, _result, _problem: None) for name, kms in former.items()},
        failover_seconds=config.kms.failover_seconds,
    )


def make_data_dir(config: Config) -> None:
    """Make the data directory, for its owner alone, where there is none. Raises ``StartupError``."""
    try:
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StartupError(f"the data directory {config.data_dir} cannot be made: {reason}") from None


def terms_in(config: Config) -> Callable[[str], KeyringTerms]:
    """The terms of each keyring by the configuration alone, whatever is stored of it."""

    def terms(keyring: str) -> KeyringTerms:
        settings, schedule = config.keyring_settings(keyring), config.schedule
        days = settings.data_key_roll_over_length
        return KeyringTerms(
            schedule=schedule_of(
                schedule.data_key_roll_over_length if days is None else days, schedule.data_key_max_values
            ),
            default_suite=suite_of(settings.default_mode),
            allow_deterministic=settings.allow_deterministic,
        )

    return terms


def check_parts(config: Config) -> None:
    """Raise ``ConfigError`` with everything that the keystore and the KMS providers refuse; opens nothing."""
    problems: list[str] = []
    for make in (keystore_of, kmses_of, former_kmses_of):
        try:
            make(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def keystore_of(config: Config) -> VersionedKeystore:
    """The configured keystore, not yet open. Raises ``ConfigError``."""
    try:
        return create(
            config.keystore.url,
            max_connections=config.keystore.max_connections,
            timeout_seconds=config.keystore.timeout_seconds,
        )
    except ValueError as error:
        raise ConfigError([f"keystore.url: {error}"]) from None


def kmses_of(
    config: Config, keystore: Keystore | None = None, former: Collection[Kms] = (), *, dry_run: bool = False
) -> dict[str, Kms]:
    """The KMSs that wrap data keys, by the name of their plugin and not yet open, the first asked first.

    The local wrapping key where the configuration names none. It is made where there is none yet and every data key of
    ``keystore`` has a copy that one of ``former`` may unwrap, all open by then; otherwise opening it raises
    ``StartupError``. Without ``keystore``, and for a dry run, it is never made.

    Raises ``ConfigError`` with everything that each refuses.
    """
    if len(config.kms_plugins) > MOST_COPIES:
        raise ConfigError(
            [f"plugins: at most {MOST_COPIES} can have 'isKms: true', since a data key has a copy for each"]
        )
    if config.kms_plugins:
        return _made(config.kms_plugins)
    path = config.data_dir / _LOCAL_WRAPPING_KEY
    if keystore is None:
        return {LOCAL: LocalKms(path)}
    may_make = functools.partial(_may_make_local_key, path, keystore, former, dry_run=dry_run)
    return {LOCAL: LocalKms(path, may_create=may_make)}


def former_kmses_of(config: Config) -> dict[str, Kms]:
    """The KMSs that only unwrap, not yet open: what is marked so, and a local wrapping key that wraps no more."""
    former = _made({name: plugin for name, plugin in config.plugins.items() if plugin.former_kms})
    path = config.data_dir / _LOCAL_WRAPPING_KEY
    if config.kms_plugins and os.path.lexists(path):
        former[LOCAL] = LocalKms(path)
    return former


def _made(plugins: Mapping[str, Plugin]) -> dict[str, Kms]:
    made: dict[str, Kms] = {}
    problems: list[str] = []
    for name, plugin in plugins.items():
        if name == LOCAL:
            problems.append(f"plugins.{name}: this name is the local wrapping key's: give the block another one")
            continue
        try:
            factory = find(str(plugin.plugin))
        except ValueError as error:
            problems.append(f"plugins.{name}.plugin: {error}")
            continue
        try:
            made[name] = factory(plugin.settings)
        except SettingsError as error:
            problems += [f"plugins.{name}.{problem}" for problem in error.problems]
        except ValueError as error:
            # Worded for this place: see the port.
            problems.append(f"plugins.{name}.{error}")
    if problems:
        raise ConfigError(problems)
    return made


async def _may_make_local_key(path: Path, keystore: Keystore, former: Collection[Kms], *, dry_run: bool) -> bool:
    """Whether every data key has a copy that a former KMS may unwrap; False where only a lost local one unwraps it.

    Beside data keys of a KMS that is not configured a local wrapping key would be this process's alone, and what it
    wrapped nobody else's to unwrap. The first such data key ends the look: all pages are read where data keys move
    from a KMS, and only until the wrapping key is made.

    Raises ``StartupError`` where a data key is out of reach, and where a dry run would have to make the wrapping key.
    """
    after: tuple[str, int] | None = None
    while page := await keystore.list_keys(after=after):
        for record in page:
            if isinstance(record, DamagedRow):
                raise CorruptKeyError(record.damage)
            if _is_reached(record, former):
                continue
            if all(is_local(copy.kek_id) for copy in record.copies):
                return False
            raise _out_of_reach(record)
        after = (page[-1].keyring, page[-1].generation)
    if dry_run:
        raise StartupError(f"the wrapping key {path} is not there yet, and a dry run makes none")
    return True


def _is_reached(record: DataKeyRecord, former: Collection[Kms]) -> bool:
    copies = record.copies
    return not copies or any(kms.may_unwrap(copy.kek_id) for kms in former for copy in copies)


def _out_of_reach(record: DataKeyRecord) -> StartupError:
    under = ", ".join(copy.kek_id for copy in record.copies[:_MOST_NAMED])
    return StartupError(
        f"the keystore's data keys are wrapped under {under}, no KMS is configured that may unwrap them, and no local "
        "wrapping key is made beside them: name the configuration file that has their KMS (--config FILE); to move "
        "them to a local wrapping key, give that KMS 'formerKms: true' in it"
    )
