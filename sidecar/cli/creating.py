"""Creates keyrings, and changes those settings of one that is there which are named."""

import math
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sidecar.cli.opening import Opened, opened
from sidecar.cli.output import say, write_json
from sidecar.cli.showing import keyring_json
from sidecar.config import Config
from sidecar.errors import UnknownKeyringError
from sidecar.keys.inventory import DescribedKeyring
from sidecar.keystore.port import KeyringSettings


async def create_keyring(
    config: Config, name: str, named: KeyringSettings, *, replace: bool, dry_run: bool, as_json: bool
) -> int:
    """Returns the exit code. Raises as ``Administration.create_keyring``.

    ``named``: None for a setting that no flag names; with ``replace`` it stays as it is stored.
    """
    async with opened(config, kms=not dry_run) as parts:
        before = await parts.inventory.stored(name)
        settings = _laid_over(before, named) if replace and before is not None else named
        if dry_run:
            keyring = await _tried(parts, name, settings, replace=replace)
        else:
            keyring = await parts.administration.create_keyring(name, settings, replace=replace)
    changes = [] if before is None else _changes(before, settings)
    shown = keyring_json(keyring, datetime.now(UTC))
    if as_json:
        write_json(
            {
                **shown,
                "changes": {each.key: {"from": each.before, "to": each.after} for each in changes},
                "dryRun": dry_run,
            }
        )
        return 0
    for each in changes:
        say(f"keyring {name}: {each.in_words()}")
    say(f"keyring {name}: {_end(keyring, dry_run=dry_run, changed=bool(changes))}{_terms(shown['settings'])}")
    return 0


class _Change(NamedTuple):
    """A stored setting's two values as JSON has them; None: as the configuration of each sidecar says."""

    key: str
    setting: str
    before: Any
    after: Any

    def in_words(self) -> str:
        return f"{self.setting}: {_worded(self.before)} -> {_worded(self.after)}"


def _laid_over(stored: KeyringSettings, named: KeyringSettings) -> KeyringSettings:
    def either(of_flag: Any, of_keystore: Any) -> Any:
        return of_keystore if of_flag is None else of_flag

    return KeyringSettings(
        roll_over_days=either(named.roll_over_days, stored.roll_over_days),
        default_mode=either(named.default_mode, stored.default_mode),
        allow_deterministic=either(named.allow_deterministic, stored.allow_deterministic),
    )


async def _tried(parts: Opened, name: str, settings: KeyringSettings, *, replace: bool) -> DescribedKeyring:
    """The keyring as it would be; its primary is None where its first data key would be made."""
    stored = await parts.administration.check_keyring(name, settings, replace=replace)
    try:
        primary = (await parts.inventory.keyring(name)).primary
    except UnknownKeyringError:
        primary = None
    return DescribedKeyring(name, parts.inventory.terms(name, settings), stored.created_at if stored else None, primary)


def _changes(before: KeyringSettings, after: KeyringSettings) -> list[_Change]:
    compared = (
        _Change("rollOverDays", "rollover", _days(before), _days(after)),
        _Change("defaultMode", "default mode", before.default_mode, after.default_mode),
        _Change("allowDeterministic", "deterministic mode", before.allow_deterministic, after.allow_deterministic),
    )
    return [each for each in compared if each.before != each.after]


def _days(settings: KeyringSettings) -> float | str | None:
    return "never" if settings.roll_over_days == math.inf else settings.roll_over_days


def _worded(value: Any) -> str:
    if isinstance(value, bool | None):
        return {True: "allowed", False: "refused", None: "as configured"}[value]
    return f"{value:g} days" if isinstance(value, int | float) else str(value)


def _end(keyring: DescribedKeyring, *, dry_run: bool, changed: bool) -> str:
    primary = keyring.primary
    if not dry_run:
        named = "no data key" if primary is None else f"data key {primary.key_id} (generation {primary.generation})"
        return f"{named} is the primary; it "
    if primary is None:
        return "would be made with its first data key; it "
    return "its settings would change; it then " if changed else "it is there, and nothing would change; it "


def _terms(settings: dict[str, Any]) -> str:
    days = settings["rollOverDays"]
    return (
        f"{'never rolls over' if days == 'never' else f'rolls over after {days:g} days'}, its default mode is "
        f"{settings['defaultMode']}, the deterministic mode is "
        f"{'allowed' if settings['allowDeterministic'] else 'refused'}"
    )
