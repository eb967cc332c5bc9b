"""Keyrings and data keys as KeyringService's messages write them, and what requests say of them."""

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from sidekey.v1 import encryption_pb2
from sidekey.v1 import keyring_pb2 as pb

from sidecar.crypto.format import Suite
from sidecar.errors import InvalidRequestError, UnknownModeError
from sidecar.keys.inventory import DescribedKey, DescribedKeyring
from sidecar.keystore.port import DataKeyRecord, KeyringSettings, KeyState

_STATES: Final = {
    pb.KEY_STATE_ENABLED: KeyState.ENABLED,
    pb.KEY_STATE_DISABLED: KeyState.DISABLED,
    pb.KEY_STATE_DESTROYED: KeyState.DESTROYED,
}
_STATE_NUMBERS: Final = {state: number for number, state in _STATES.items()}
_MODES: Final = {
    encryption_pb2.MODE_UNSPECIFIED: None,
    encryption_pb2.MODE_RANDOMIZED: "randomized",
    encryption_pb2.MODE_DETERMINISTIC: "deterministic",
}
_MODE_OF: Final = {
    Suite.RANDOMIZED: encryption_pb2.MODE_RANDOMIZED,
    Suite.DETERMINISTIC: encryption_pb2.MODE_DETERMINISTIC,
}


def state_of(number: pb.KeyState) -> KeyState:
    """The state of a number; raises ``InvalidRequestError`` for one that is none."""
    state = _STATES.get(number)
    if state is None:
        raise InvalidRequestError(f"the state {number} is unknown; use {', '.join(pb.KeyState.keys()[1:])}")
    return state


def time_of(stamp: Timestamp) -> datetime:
    """The time, aware, UTC; raises ``InvalidRequestError`` for what no calendar has."""
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError("unused_since is no time between the years 1 and 9999") from None


def settings_of(message: pb.KeyringSettings) -> KeyringSettings:
    """What a request sets; raises ``InvalidRequestError``, ``UnknownModeError``."""
    if message.default_mode not in _MODES:
        raise UnknownModeError(
            f"default_mode {message.default_mode} is unknown; use MODE_RANDOMIZED or MODE_DETERMINISTIC"
        )
    return KeyringSettings(
        roll_over_days=_roll_over_days(message),
        default_mode=_MODES[message.default_mode],
        allow_deterministic=message.allow_deterministic if message.HasField("allow_deterministic") else None,
    )


def _roll_over_days(message: pb.KeyringSettings) -> float | None:
    match message.WhichOneof("roll_over"):
        case "roll_over_days":
            if message.roll_over_days == math.inf:
                raise InvalidRequestError("roll_over_days must be finite; for never there is roll_over_never")
            return message.roll_over_days
        case "roll_over_never":
            if not message.roll_over_never:
                raise InvalidRequestError("roll_over_never must be true, or left out")
            return math.inf
    return None


def keyring_message(keyring: DescribedKeyring) -> pb.Keyring:
    """A keyring with all its settings."""
    terms = keyring.terms
    settings = pb.KeyringSettings(
        default_mode=_MODE_OF[terms.default_suite], allow_deterministic=terms.allow_deterministic
    )
    if terms.schedule.period is None:
        settings.roll_over_never = True
    else:
        settings.roll_over_days = terms.schedule.period / timedelta(days=1)
    return pb.Keyring(
        name=keyring.name,
        settings=settings,
        created_at=_stamp(keyring.created_at),
        primary=None if keyring.primary is None else primary_message(keyring.primary),
    )


def primary_message(record: DataKeyRecord) -> pb.DataKey:
    """A data key that is its keyring's primary."""
    return key_message(DescribedKey(record, record.key_id))


def key_message(key: DescribedKey) -> pb.DataKey:
    """A data key; never its bytes, wrapped or not."""
    record = key.record
    return pb.DataKey(
        key_id=record.key_id,
        keyring=record.keyring,
        generation=record.generation,
        state=_STATE_NUMBERS[record.state],
        primary=key.is_primary,
        created_at=_stamp(record.created_at),
        state_changed_at=_stamp(record.state_changed_at),
        kek_ids=[copy.kek_id for copy in record.copies],
        values_encrypted=record.values_encrypted,
        values_decrypted=record.values_decrypted,
        first_used_at=_stamp(record.first_used_at),
        last_used_at=_stamp(record.last_used_at),
    )


def _stamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
