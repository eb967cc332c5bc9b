"""What is read of a keystore in DynamoDB, always consistently. Writes nothing; whoever calls bounds the time."""

import re
from collections.abc import Iterable
from functools import partial
from typing import Final

from sidecar.errors import CorruptKeyError
from sidecar.keystore import dynamodb_items as items
from sidecar.keystore.dynamodb_client import DynamoDbClient
from sidecar.keystore.dynamodb_items import Item
from sidecar.keystore.port import DamagedRow, DataKeyRecord, KeyringRecord, KeyState
from sidecar.keystore.rows import MOST, damaged_row, is_key_id, is_keyring

_FIRST_PAGE: Final = 4
"""Data keys that fit into 4 KB, more or less: the newest of them is the primary but for a strange keyring."""
_NEXT_PAGE: Final = 100
_MAX_NAME_BYTES: Final = 1024
"""What an ``sk`` holds; the name of a keyring has at most 255 characters, so 1,020 bytes."""
_MOST_KEYRINGS: Final = 32
_GENERATION: Final = re.compile(r"generation#([0-9]{20})")


class DynamoDbReads:
    """Reads through a client."""

    def __init__(self, client: DynamoDbClient) -> None:
        self._client = client

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """The data key of this id."""
        return (await self.get_many([key_id])).get(key_id)

    async def get_many(self, key_ids: Iterable[str]) -> dict[str, DataKeyRecord]:
        """The data keys of these ids: first the pointers to them, then they themselves."""
        asked = [key_id for key_id in set(key_ids) if is_key_id(key_id)]
        pointers = _by_key(await self._client.get_many([items.pointer(key_id) for key_id in asked]))
        places = {
            key_id: items.read_pointer(key_id, pointers[key])
            for key_id in asked
            if (key := _key(items.pointer(key_id))) in pointers
        }
        found = _by_key(await self._client.get_many([items.data_key(place) for place in set(places.values())]))
        return {key_id: _pointed_to(key_id, found.get(_key(items.data_key(place)))) for key_id, place in places.items()}

    async def primary(self, keyring: str) -> DataKeyRecord | None:
        """The enabled data key of the highest generation."""
        if not is_keyring(keyring):
            return None
        pk, limit = items.data_keys_of(keyring), _FIRST_PAGE
        found, start = await self._client.page(pk, limit=limit, descending=True)
        while True:
            for item in found:
                if item.get("state") == {"S": str(KeyState.ENABLED)}:
                    return items.read_data_key(item)
            if start is None:
                return None
            found, start = await self._client.page(pk, start=start, limit=_NEXT_PAGE, descending=True)

    async def newest_generation(self, keyring: str) -> int:
        """The highest generation, 0 where there is none."""
        if not is_keyring(keyring):
            return 0
        found, _ = await self._client.page(items.data_keys_of(keyring), limit=1, descending=True)
        return items.read_generation(found[0]) if found else 0

    async def keyring(self, name: str) -> KeyringRecord | None:
        """The keyring that was created by call."""
        item = await self._client.get(items.keyring(name)) if is_keyring(name) else None
        return None if item is None else items.read_keyring(item)

    async def names(self, after: str, limit: int) -> list[str]:
        """The first names of keyrings after the given."""
        # Cut where it is longer than any name: the same names are after it.
        above = after.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
        found = await self._client.query(items.KEYRINGS, above=above or None, limit=limit)
        return [items.read_name(item) for item in found]

    async def list_keyring(self, keyring: str, after: int, limit: int) -> list[DataKeyRecord | DamagedRow]:
        """The first data keys of one keyring after a generation."""
        if not is_keyring(keyring):
            return []
        above = items.generation_key(max(0, min(after, MOST)))
        found = await self._client.query(items.data_keys_of(keyring), above=above, limit=limit)
        return [_listed(keyring, item) for item in found]

    async def list_all(self, after: tuple[str, int] | None, limit: int) -> list[DataKeyRecord | DamagedRow]:
        """The first data keys of all keyrings after the given pair.

        Keyrings are asked at once, each time up to twice as many as the last, so that few calls wait for each other
        and what is read beyond the page stays in proportion to it.
        """
        name, generation = after or ("", 0)
        found = await self.list_keyring(name, generation, limit)
        width = 1
        while len(found) < limit and (names := await self.names(name, width)):
            list_one = partial(self.list_keyring, after=0, limit=limit - len(found))
            pages = await self._client.gather(list_one, names)
            found += [record for page in pages for record in page]
            name, width = names[-1], min(2 * width, _MOST_KEYRINGS)
        return found[:limit]


def _key(item: Item) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _by_key(found: Iterable[Item]) -> dict[tuple[str, str], Item]:
    return {_key(item): item for item in found}


def _listed(keyring: str, item: Item) -> DataKeyRecord | DamagedRow:
    """The data key in an item, or what stands for it: where it is it says by its place, whatever its columns say."""
    try:
        return items.read_data_key(item)
    except CorruptKeyError as error:
        place = _GENERATION.fullmatch(item["sk"]["S"])
        key_id = item.get("key_id", {}).get("S")
        return damaged_row(error, key_id, keyring, None if place is None else int(place[1]))


def _pointed_to(key_id: str, item: Item | None) -> DataKeyRecord:
    """The data key in the place that a pointer names, which nothing but damage can have emptied or given to another."""
    record = None if item is None else items.read_data_key(item)
    if record is None or record.key_id != key_id:
        raise CorruptKeyError(f"the keystore's pointer to data key {key_id} is damaged: column generation")
    return record
