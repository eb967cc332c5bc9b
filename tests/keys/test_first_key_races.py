"""A keyring's first data key, made by another sidecar between two looks of this one."""

from dataclasses import replace

from sidecar.keystore.port import KeyState
from tests.fakes.keystore import MemoryKeystore
from tests.keys.world import World


class Overtaken(MemoryKeystore):
    """Another sidecar makes the keyring's first data key just before a look at the newest generation."""

    other: World | None = None
    look = 1

    async def newest_generation(self, keyring: str) -> int:
        """As the port."""
        self.look -= 1
        if self.look == 0 and (other := self.other) is not None:
            await other.keyrings.primary(keyring)
        return await super().newest_generation(keyring)


async def overtaken(look: int = 1) -> tuple[World, World]:
    """A sidecar, and the other one that overtakes it at this look."""
    store = Overtaken()
    store.look = look
    world = await World(store=store).opened()
    store.other = await world.second().opened()
    return world, store.other


async def test_a_first_data_key_that_was_made_meanwhile_elsewhere_is_taken_and_no_second_one_made() -> None:
    world, other = await overtaken()
    mine = await world.keyrings.primary("default")
    assert world.generations() == [1]
    assert mine.key_id == (await other.keyrings.primary("default")).key_id


async def test_a_rotation_that_finds_no_data_key_takes_the_first_one_that_was_made_meanwhile() -> None:
    world, other = await overtaken(look=2)
    assert (await world.keyrings.rotate("default")).key_id == (await other.keyrings.primary("default")).key_id
    assert world.generations() == [1]


async def test_where_all_data_keys_are_disabled_the_next_generation_is_made() -> None:
    world, _ = await overtaken()
    await world.keyrings.primary("default")
    (row,) = world.store.rows.values()
    # Past the port, which lets no primary be disabled: as somebody with the database's own tools would.
    world.store.rows[row.key_id] = replace(row, state=KeyState.DISABLED)
    world.keyrings.forget("default", row.key_id)
    assert (await world.keyrings.primary("default")).generation == 2
