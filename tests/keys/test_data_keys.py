"""Loading and making one data key: what is checked, in which order, and that its bytes are overwritten."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.crypto import key_schedule
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.errors import (
    CorruptKeyError,
    KeyDestroyedError,
    KeyDisabledError,
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsUnavailableError,
    SidekeyError,
    UnknownKeyError,
)
from sidecar.keys.data_key import DataKey, DataKeys
from sidecar.keys.wrapping import WrappingKeys
from sidecar.keystore.port import DataKeyRecord, KeyState
from tests.keys.settling import turns
from tests.keys.world import World, encrypted

ZEROS = bytes(32)
OTHER_ID = "0123456789abcd"


@pytest.fixture
async def world() -> World:
    return await World().opened()


async def made(world: World, keyring: str = "default", generation: int = 1) -> tuple[DataKey, DataKeyRecord]:
    """A data key that was just made."""
    answer = await world.data_keys.make(keyring, generation)
    assert answer is not None
    return answer


def assert_overwritten(world: World, *, buffers: int) -> None:
    """Every bytearray that held data key bytes holds none."""
    assert [bytes(buffer) for buffer in world.kms.key_buffers] == [ZEROS] * buffers


async def test_a_data_key_is_wrapped_proved_and_durable_before_it_can_encrypt(world: World) -> None:
    journal = world.store.journal

    def make_cipher(key_id: str, data_key: bytes | bytearray) -> DataKeyCipher:
        journal.append("cipher")
        return DataKeyCipher(key_id, data_key)

    data_keys = DataKeys(world.store, WrappingKeys({"fake": world.kms}), world.clock, os.urandom, make_cipher)
    assert await data_keys.make("default", 1) is not None
    assert journal == ["wrap", "unwrap", "insert", "cipher"]


async def test_what_is_stored_is_what_the_format_says(world: World) -> None:
    data_key, record = await made(world, "orders", 3)
    assert world.store.rows == {data_key.key_id: record}
    assert (record.keyring, record.generation, record.state) == ("orders", 3, KeyState.ENABLED)
    assert (record.created_at, record.kek_id, record.values_encrypted) == (world.clock.now(), world.kms.kek_id, 0)
    assert (data_key.keyring, data_key.cipher.key_id) == ("orders", record.key_id)


async def test_a_loaded_data_key_is_the_one_that_was_made(world: World) -> None:
    data_key, record = await made(world)
    loaded = await world.data_keys.load(record.key_id)
    assert encrypted(loaded.cipher) == encrypted(data_key.cipher)
    assert (loaded.key_id, loaded.keyring) == (record.key_id, record.keyring)


async def test_data_keys_and_their_ids_are_not_made_twice(world: World) -> None:
    keys = [(await made(world, generation=generation))[0] for generation in range(1, 20)]
    assert len({key.key_id for key in keys}) == len({encrypted(key.cipher)[8:] for key in keys}) == len(keys)


async def test_the_zero_key_id_is_drawn_again(world: World) -> None:
    draws = iter([os.urandom(32), bytes(7), bytes(7), bytes.fromhex(OTHER_ID)])
    data_keys = DataKeys(world.store, WrappingKeys({"fake": world.kms}), world.clock, lambda _count: next(draws))
    answer = await data_keys.make("default", 1)
    assert answer is not None
    assert answer[1].key_id == OTHER_ID


async def test_a_generation_that_is_taken_is_not_stored_twice(world: World) -> None:
    await made(world)
    before = dict(world.store.rows)
    assert await world.data_keys.make("default", 1) is None
    assert world.store.rows == before
    assert_overwritten(world, buffers=4)


async def test_bytes_are_overwritten_after_making_and_loading(world: World) -> None:
    _, record = await made(world)
    assert_overwritten(world, buffers=2)
    await world.data_keys.load(record.key_id)
    assert_overwritten(world, buffers=3)


Setup = Callable[[World], None]


def _wrap_fails(world: World) -> None:
    world.kms.fail_wrap_with = KmsUnavailableError("away")


def _unwrap_fails(world: World) -> None:
    world.kms.fail_unwrap_with = KmsDeniedError("no")


def _answers_are_corrupt(world: World) -> None:
    world.kms.corrupt_answers = True


def _insert_fails(world: World) -> None:
    world.store.fail_inserts_with = KeystoreUnavailableError("away")


@pytest.mark.parametrize(
    ("setup", "error", "buffers"),
    [
        (_wrap_fails, KmsUnavailableError, 1),
        (_unwrap_fails, KmsDeniedError, 1),
        (_answers_are_corrupt, CorruptKeyError, 2),
        (_insert_fails, KeystoreUnavailableError, 2),
    ],
)
async def test_a_data_key_that_cannot_be_made_is_not_stored_and_overwritten(
    world: World, setup: Setup, error: type[SidekeyError], buffers: int
) -> None:
    setup(world)
    with pytest.raises(error):
        await world.data_keys.make("default", 1)
    assert world.store.rows == {}
    assert_overwritten(world, buffers=buffers)


@pytest.mark.parametrize("work", ["make", "load"])
async def test_bytes_are_overwritten_when_the_cipher_cannot_be_made(world: World, work: str) -> None:
    _, record = await made(world)

    def no_cipher(_key_id: str, _data_key: bytes | bytearray) -> DataKeyCipher:
        raise MemoryError

    data_keys = DataKeys(world.store, WrappingKeys({"fake": world.kms}), world.clock, os.urandom, no_cipher)
    with pytest.raises(MemoryError):
        await (data_keys.make("default", 2) if work == "make" else data_keys.load(record.key_id))
    assert_overwritten(world, buffers=4 if work == "make" else 3)


@pytest.mark.parametrize("part", ["kms", "keystore"])
async def test_bytes_are_overwritten_when_the_making_is_cancelled(world: World, part: str) -> None:
    gate = asyncio.Event()
    if part == "kms":
        world.kms.gate = gate
    else:
        world.store.gate = gate
    making = asyncio.create_task(world.data_keys.make("default", 1))
    await turns()
    assert len(world.kms.key_buffers) == (1 if part == "kms" else 2)
    making.cancel()
    await asyncio.wait([making])
    assert making.cancelled()
    assert world.store.rows == {}
    assert_overwritten(world, buffers=len(world.kms.key_buffers))


@pytest.mark.parametrize(
    ("state", "error"), [(KeyState.DISABLED, KeyDisabledError), (KeyState.DESTROYED, KeyDestroyedError)]
)
async def test_a_data_key_that_may_not_be_used_is_not_even_unwrapped(
    world: World, state: KeyState, error: type[SidekeyError]
) -> None:
    _, record = await made(world)
    world.store.rows[record.key_id] = replace(record, state=state)
    with pytest.raises(error, match=record.key_id):
        await world.data_keys.load(record.key_id)
    assert world.kms.unwraps == 1


async def test_an_unknown_key_id_asks_the_keystore_alone(world: World) -> None:
    with pytest.raises(UnknownKeyError, match=OTHER_ID):
        await world.data_keys.load(OTHER_ID)
    assert world.kms.unwraps == 0


Move = Callable[[DataKeyRecord, DataKeyRecord], DataKeyRecord]


@pytest.mark.parametrize(
    "move",
    [
        lambda row, _other: replace(row, key_id=OTHER_ID),
        lambda row, _other: replace(row, keyring="other"),
        lambda row, other: replace(row, wrapped_key=other.wrapped_key, commitment=other.commitment),
        lambda row, other: replace(row, wrapped_key=other.wrapped_key),
        lambda row, other: replace(row, commitment=other.commitment),
        lambda row, _other: replace(row, wrapped_key=row.wrapped_key[:-1] + bytes([row.wrapped_key[-1] ^ 1])),
        lambda row, _other: replace(row, wrapped_key=row.wrapped_key[:11]),
        lambda row, _other: replace(row, wrapped_key=b""),
    ],
    ids=["other id", "other keyring", "other row", "other wrapped key", "other commitment", "flipped", "cut", "empty"],
)
async def test_a_wrapped_key_that_was_moved_or_damaged_is_corrupt(world: World, move: Move) -> None:
    _, row = await made(world)
    _, other = await made(world, generation=2)
    moved = move(row, other)
    world.store.rows[moved.key_id] = moved
    with pytest.raises(CorruptKeyError):
        await world.data_keys.load(moved.key_id)
    assert_overwritten(world, buffers=len(world.kms.key_buffers))


async def test_a_keystore_that_answers_with_another_row_is_caught(world: World) -> None:
    _, row = await made(world)
    world.store.rows[OTHER_ID] = row
    with pytest.raises(CorruptKeyError):
        await world.data_keys.load(OTHER_ID)


async def test_a_kms_that_answers_with_another_key_is_caught(world: World) -> None:
    _, record = await made(world)
    world.kms.corrupt_answers = True
    with pytest.raises(CorruptKeyError, match=record.key_id):
        await world.data_keys.load(record.key_id)
    assert_overwritten(world, buffers=3)


@pytest.mark.parametrize("setup", [_unwrap_fails, _answers_are_corrupt, None])
async def test_no_key_bytes_show_in_a_repr_or_an_error(world: World, setup: Setup | None) -> None:
    """The bytes are known here, because the test's random source gives them."""
    secret = bytes(range(64, 96))
    ids = iter([secret, bytes.fromhex(OTHER_ID)])
    answer = await DataKeys(world.store, WrappingKeys({"fake": world.kms}), world.clock, lambda _count: next(ids)).make(
        "default", 1
    )
    assert answer is not None
    data_key, record = answer
    texts = [repr(data_key), repr(record), repr(data_key.cipher), repr(world.keyrings)]
    if setup:
        setup(world)
        with pytest.raises(SidekeyError) as caught:
            await world.data_keys.load(record.key_id)
        texts += [repr(caught.value), str(caught.value)]
    hidden = [secret, record.wrapped_key, record.commitment, key_schedule.commitment(secret)]
    for text in texts:
        for each in hidden:
            assert each.hex() not in text
            assert repr(each)[2:-1] not in text
            assert each.decode("latin-1") not in text
