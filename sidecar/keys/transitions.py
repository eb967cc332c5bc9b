"""Why a data key's state may not go where somebody wants it: decisions and their words only.

A keystore holds to the same rules by itself, whatever was decided here: between look and change others change too.
"""

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
