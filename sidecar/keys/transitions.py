"""Why a data key's state may not go where somebody wants it: decisions and their words only.

A keystore holds to the same rules by itself, whatever was decided here: between look and change others change too.
"""

from datetime import datetime, timedelta

from sidecar.keystore.port import DataKeyRecord, KeyState


def refusal(record: DataKeyRecord, state: KeyState, *, is_primary: bool) -> str | None:
    """Why ``record`` may not come to be in ``state``, and what must come first; None where it may, or is."""
    if record.state is state:
        return None
    named = f"data key {record.key_id}"
    if record.state is KeyState.DESTROYED:
        return f"{named} is destroyed, and that is final"
    if record.state is KeyState.DISABLED:
        return None
    if is_primary:
        then = ", then disable the data key" if state is KeyState.DESTROYED else ""
        return f"{named} is the primary of keyring {record.keyring!r}: rotate the keyring first{then}"
    return f"{named} is enabled: disable it first, then destroy it" if state is KeyState.DESTROYED else None


def too_early(record: DataKeyRecord, *, now: datetime, wait: timedelta) -> str | None:
    """Why a disabled data key may not be destroyed yet, and from when on it may; None where it may.

    One without a date was disabled before such dates were kept. One that is dated later than ``now`` is new, whichever
    clock is wrong: for how long sidecars have been told of it nobody can know.
    """
    disabled_at = record.state_changed_at
    if record.state is not KeyState.DISABLED or disabled_at is None or now - min(disabled_at, now) >= wait:
        return None
    named = f"data key {record.key_id} was disabled at {_utc(disabled_at)}"
    why = "sidecars that have not heard of it may still encrypt under it, and what they encrypt would be lost"
    if disabled_at - now > wait:
        return (
            f"{named}, and here it is {_utc(now)}: {why}; set the clocks right, or enable and disable it again, which "
            "dates it anew"
        )
    # To the next whole second, so that it holds at the moment that is named.
    return f"{named} and may be destroyed from {_utc(disabled_at + wait + timedelta(seconds=1))} on: until then {why}"


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
