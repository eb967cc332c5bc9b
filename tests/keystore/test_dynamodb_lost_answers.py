"""Answers of DynamoDB may be lost after the work was done, or others be faster: what is then said must be true."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sidecar.keystore.dynamodb import DynamoDbKeystore
from sidecar.keystore.port import KeyringRecord, KeyringSettings, KeyState, Usage, WrappedCopy
from tests.keystore import dynamodb_proxy as proxies
from tests.keystore.dynamodb_proxy import DynamoDbProxy
from tests.keystore.dynamodb_through_proxy import keystore, other, proxy
from tests.keystore.records import CREATED_AT, record

__all__ = ["keystore", "other", "proxy"]

NEW_COPIES = (WrappedCopy("local:new", b"wrapped anew"),)


async def test_an_insert_whose_answer_was_lost_is_not_taken_for_a_lost_race(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy
) -> None:
    proxy.answers["TransactWriteItems"] = [proxies.lost]
    stored = record()
    assert await keystore.insert(stored) is True
    assert await keystore.get(stored.key_id) == stored
    tokens = [body["ClientRequestToken"] for body in proxy.bodies_of("TransactWriteItems")]
    assert len(tokens) == 2
    assert len(set(tokens)) == 1


async def test_two_inserts_never_share_a_token(keystore: DynamoDbKeystore, proxy: DynamoDbProxy) -> None:
    stored = record()
    assert await keystore.insert(stored) is True
    assert await keystore.insert(stored) is False
    assert len({body["ClientRequestToken"] for body in proxy.bodies_of("TransactWriteItems")}) == 2


async def test_a_race_that_was_lost_stays_lost_where_the_answer_is_lost_too(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, other: DynamoDbKeystore
) -> None:
    winner, loser = record(), record()
    await other.insert(winner)
    proxy.answers["TransactWriteItems"] = [proxies.lost]
    assert await keystore.insert(loser) is False
    assert proxy.called.count("TransactWriteItems") == 2
    assert await keystore.get(loser.key_id) is None


async def test_a_key_id_taken_by_another_data_key_stays_taken_where_the_answer_is_lost(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, other: DynamoDbKeystore
) -> None:
    winner = record("payments")
    await other.insert(winner)
    proxy.answers["TransactWriteItems"] = [proxies.lost]
    assert await keystore.insert(record("audit", key_id=winner.key_id)) is False
    assert await keystore.primary("audit") is None


async def test_changes_of_state_whose_answer_was_lost_are_done(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy
) -> None:
    old = record(generation=1)
    await keystore.insert(old)
    await keystore.insert(record(generation=2))
    for state in (KeyState.DISABLED, KeyState.ENABLED, KeyState.DISABLED, KeyState.DESTROYED):
        proxy.answers["UpdateItem"] = [proxies.lost]
        assert await keystore.set_state(old.key_id, state, at=CREATED_AT) is True
        read = await keystore.get(old.key_id)
        assert read is not None
        assert read.state is state


async def test_a_replacement_whose_answer_was_lost_is_done(keystore: DynamoDbKeystore, proxy: DynamoDbProxy) -> None:
    stored = record()
    await keystore.insert(stored)
    proxy.answers["UpdateItem"] = [proxies.lost]
    assert await keystore.replace_copies(stored.key_id, stored.copies, NEW_COPIES) is True
    assert await keystore.replace_copies(stored.key_id, stored.copies, NEW_COPIES) is False


async def test_a_replacement_that_another_was_faster_with_is_refused_where_the_answer_is_lost_too(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, other: DynamoDbKeystore
) -> None:
    stored, others = record(), (WrappedCopy("local:other", b"another's"),)
    await other.insert(stored)

    async def faster() -> None:
        await other.replace_copies(stored.key_id, stored.copies, others)

    proxy.answers["UpdateItem"] = [proxies.after(faster, proxies.lost)]
    assert await keystore.replace_copies(stored.key_id, stored.copies, NEW_COPIES) is False
    read = await keystore.get(stored.key_id)
    assert read is not None
    assert read.copies == others


@pytest.mark.parametrize("replaces", [False, True])
async def test_a_keyring_whose_answer_was_lost_is_stored(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, replaces: bool
) -> None:
    saved = KeyringRecord("payments", CREATED_AT, KeyringSettings(30.0, "deterministic", True))
    proxy.answers["UpdateItem"] = [proxies.lost]
    assert await keystore.save_keyring(saved, replace=replaces) is True
    assert await keystore.keyring("payments") == saved
    proxy.answers["UpdateItem"] = [proxies.lost]
    assert await keystore.save_keyring(saved) is False


async def test_a_count_whose_answer_was_lost_is_not_lost(keystore: DynamoDbKeystore, proxy: DynamoDbProxy) -> None:
    stored = record()
    await keystore.insert(stored)
    proxy.answers["UpdateItem"] = [proxies.lost]
    await keystore.add_usage({stored.key_id: Usage(5, 0, CREATED_AT, CREATED_AT)})
    read = await keystore.get(stored.key_id)
    assert read is not None
    assert read.values_encrypted in (5, 10)


async def test_a_state_that_others_change_meanwhile_is_decided_anew(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, other: DynamoDbKeystore
) -> None:
    old = record(generation=1)
    await other.insert(old)
    await other.insert(record(generation=2))
    await other.set_state(old.key_id, KeyState.DISABLED, at=CREATED_AT)

    async def destroyed() -> None:
        assert await other.set_state(old.key_id, KeyState.DESTROYED, at=CREATED_AT)

    proxy.answers["UpdateItem"] = [proxies.after(destroyed, proxies.forwarded)]
    assert await keystore.set_state(old.key_id, KeyState.ENABLED, at=CREATED_AT) is False
    read = await keystore.get(old.key_id)
    assert read is not None
    assert read.state is KeyState.DESTROYED


@pytest.mark.parametrize("further", [(), (WrappedCopy("local:old", b"old"),)], ids=["one copy", "two copies"])
async def test_copies_that_others_store_while_a_data_key_is_destroyed_are_erased_too(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, other: DynamoDbKeystore, further: tuple[WrappedCopy, ...]
) -> None:
    stored = record(state=KeyState.DISABLED, further_copies=further)
    await other.insert(stored)

    async def completed() -> None:
        assert await other.replace_copies(stored.key_id, stored.copies, (*stored.copies, *NEW_COPIES))

    proxy.answers["UpdateItem"] = [proxies.after(completed, proxies.forwarded)]
    assert await keystore.set_state(stored.key_id, KeyState.DESTROYED, at=CREATED_AT) is True
    gone = replace(stored, state=KeyState.DESTROYED, state_changed_at=CREATED_AT, wrapped_key=b"", further_copies=())
    assert await keystore.get(stored.key_id) == gone


async def test_uses_that_others_add_meanwhile_are_neither_lost_nor_turned_back(
    keystore: DynamoDbKeystore, proxy: DynamoDbProxy, other: DynamoDbKeystore
) -> None:
    stored = record(values_encrypted=2**63 - 11)
    await other.insert(stored)
    hour = timedelta(hours=1)
    theirs = Usage(7, 1, CREATED_AT - hour, CREATED_AT + hour)

    async def added() -> None:
        await other.add_usage({stored.key_id: theirs})

    # Every case that the first attempt was made for has turned when it arrives.
    proxy.answers["UpdateItem"] = [proxies.after(added, proxies.forwarded)]
    await keystore.add_usage({stored.key_id: Usage(7, 1, CREATED_AT, CREATED_AT)})
    assert proxy.called.count("UpdateItem") == 2
    assert await keystore.get(stored.key_id) == replace(
        stored,
        values_encrypted=2**63 - 1,
        values_decrypted=2,
        first_used_at=theirs.first_at,
        last_used_at=theirs.last_at,
    )
