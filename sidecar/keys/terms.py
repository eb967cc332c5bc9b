"""What holds for a keyring: when it rolls over, and which modes it knows. Values and decisions only."""

import math
from dataclasses import dataclass
from datetime import timedelta

from sidecar.crypto.format import Suite
from sidecar.errors import ModeNotAllowedError
from sidecar.keys.rollover import MOST_VALUES, RolloverSchedule
from sidecar.keystore.port import KeyringSettings

_MOST_DAYS = 36_500.0
_SUITES = {"randomized": Suite.RANDOMIZED, "deterministic": Suite.DETERMINISTIC}


@dataclass(frozen=True, slots=True)
class KeyringTerms:
    """The terms of one keyring in this sidecar."""

    schedule: RolloverSchedule
    default_suite: Suite = Suite.RANDOMIZED
    """Of values whose caller says no mode."""
    allow_deterministic: bool = True

    def suite(self, keyring: str, asked: Suite | None) -> Suite:
        """The suite to encrypt with; None asks for the default.

        Raises:
            ModeNotAllowedError: it is the deterministic one, and the keyring does not allow it.
        """
        suite = self.default_suite if asked is None else asked
        if suite is Suite.DETERMINISTIC and not self.allow_deterministic:
            # A default that is not allowed ends here too: to encrypt otherwise than was said would break joins unseen.
            raise ModeNotAllowedError(
                f"keyring {keyring!r} does not allow the deterministic mode; use MODE_RANDOMIZED, or allow it with "
                "allowDeterministic in the keyring's settings"
            )
        return suite


def schedule_of(days: float, max_values: int = MOST_VALUES) -> RolloverSchedule:
    """A schedule from a configured or stored number of days; ``math.inf``: age is no reason to roll over."""
    if days == math.inf:
        return RolloverSchedule(None, max_values)
    # Beyond the bound dates overflow; below the resolution a period would be none at all.
    return RolloverSchedule(max(timedelta(days=min(days, _MOST_DAYS)), timedelta.resolution), max_values)


def suite_of(mode: str) -> Suite:
    """The suite of a mode as settings name it: ``randomized`` or ``deterministic``."""
    return _SUITES[mode]


def terms_of(configured: KeyringTerms, stored: KeyringSettings | None) -> KeyringTerms:
    """The terms that hold: what was stored by call wins over this sidecar's configuration, field by field."""
    if stored is None:
        return configured
    return KeyringTerms(
        schedule=configured.schedule
        if stored.roll_over_days is None
        else schedule_of(stored.roll_over_days, configured.schedule.max_values),
        default_suite=configured.default_suite if stored.default_mode is None else suite_of(stored.default_mode),
        allow_deterministic=configured.allow_deterministic
        if stored.allow_deterministic is None
        else stored.allow_deterministic,
    )
