"""Lists keyrings and data keys, page by page: a listing of any length takes no more memory than a page."""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Final

from sidecar.cli.output import JsonArray, Table, hint
from sidecar.cli.showing import (
    KEY_COLUMNS,
    KEYRING_COLUMNS,
    damaged_json,
    damaged_row,
    key_json,
    key_row,
    keyring_json,
    keyring_row,
)
from sidecar.keys.inventory import DescribedKey, Inventory, Position
from sidecar.keystore.port import DamagedRow, KeyState

_PAGE: Final = 1000
_HOW_MADE: Final = "a keyring gets its first data key when it first encrypts, or by 'sidekey keyrings create'"
_NO_LIMIT: Final = 1 << 62


async def list_keys(
    inventory: Inventory,
    keyring: str | None = None,
    *,
    states: AbstractSet[KeyState] = frozenset(),
    unused_since: datetime | None = None,
    after: Position | None = None,
    limit: int | None = None,
    as_json: bool,
) -> int:
    """Write the data keys that fit; returns the exit code, 1 where a row is damaged. Raises as ``Inventory.keys``."""
    now = datetime.now(UTC)
    damaged, first = 0, ""
    cut_after: Position | None = None
    table, array = Table(KEY_COLUMNS), JsonArray()
    left = most = _NO_LIMIT if limit is None else limit
    while True:
        page = await inventory.keys(keyring, after=after, limit=_PAGE, unused_since=unused_since, states=states)
        keys = page.keys[:left]
        left -= len(keys)
        damages = [key.damage for key in keys if isinstance(key, DamagedRow)]
        damaged, first = damaged + len(damages), first or "".join(damages[:1])
        if as_json:
            array.add([damaged_json(key) if isinstance(key, DamagedRow) else key_json(key, now) for key in keys])
        else:
            table.add([damaged_row(key) if isinstance(key, DamagedRow) else key_row(key, now) for key in keys])
        if not left and (len(keys) < len(page.keys) or page.next is not None):
            cut_after = _place(keys[-1])
            break
        if page.next is None:
            break
        after = page.next
    if as_json:
        array.end()
    if cut_after is not None:
        hint("there may be more: --after {}/{}".format(*cut_after))
    if left == most:
        hint("no data key fits" if states or unused_since or after else f"there are no data keys yet; {_HOW_MADE}")
    if damaged:
        hint(f"damaged rows: {damaged:,}; restore them from a backup; the first: {first}")
    return 1 if damaged else 0


async def list_keyrings(inventory: Inventory, *, after: str = "", limit: int | None = None, as_json: bool) -> int:
    """Write the keyrings; returns the exit code."""
    now = datetime.now(UTC)
    table, array = Table(KEYRING_COLUMNS), JsonArray()
    left = most = _NO_LIMIT if limit is None else limit
    place: str | None = after
    while place is not None and left:
        page = await inventory.keyrings(after=place, limit=min(left, _PAGE))
        left -= len(page.keyrings)
        place = page.next
        if as_json:
            array.add([keyring_json(keyring, now) for keyring in page.keyrings])
        else:
            table.add([keyring_row(keyring, now) for keyring in page.keyrings])
    if as_json:
        array.end()
    if place is not None:
        hint(f"there are more: --after {place}")
    if left == most:
        hint("no keyring comes after that" if after else f"there are no keyrings yet; {_HOW_MADE}")
    return 0


def _place(key: DescribedKey | DamagedRow) -> Position:
    row = key if isinstance(key, DamagedRow) else key.record
    return row.keyring, row.generation
