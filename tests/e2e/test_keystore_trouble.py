"""A keystore or wrapping key that is not what it was: permanent, loud, and about no more data keys than it must be."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from sidekey.v1 import encryption_pb2 as pb

from sidecar.errors import KeystoreUnavailableError
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.rpc.batches import Row, rows_of, values
from tests.rpc.running import Refusal, refusal, running, until

SETTINGS: dict[str, object] = {"keyrings": {"*": {}}}


def _execute(data_dir: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(data_dir / "keystore.db")) as database:
        assert database.execute(statement, parameters).rowcount > 0
        database.commit()


async def _two_keyrings(data_dir: Path) -> tuple[Row, Row]:
    async with running(data_dir, SETTINGS) as it:
        (one,), (two,) = await it.caller.sealed(b"one", keyring="one"), await it.caller.sealed(b"two", keyring="two")
    return one, two


_SWAP = """
    UPDATE data_keys SET wrapped_key = (SELECT wrapped_key FROM data_keys WHERE keyring = 'two'),
    commitment = (SELECT commitment FROM data_keys WHERE keyring = 'two') WHERE keyring = 'one'
"""
_DAMAGE = "UPDATE data_keys SET wrapped_key = zeroblob(60) WHERE keyring = 'one'"
DAMAGE: dict[str, Callable[[Path], None]] = {
    "moved to another row": lambda data_dir: _execute(data_dir, _SWAP),
    "damaged": lambda data_dir: _execute(data_dir, _DAMAGE),
    "cut": lambda data_dir: _execute(data_dir, "UPDATE data_keys SET wrapped_key = x'0102' WHERE keyring = 'one'"),
    "another commitment": lambda data_dir: _execute(
        data_dir, "UPDATE data_keys SET commitment = ? WHERE keyring = 'one'", os.urandom(32)
    ),
    "a row that does not parse": lambda data_dir: _execute(
        data_dir, "UPDATE data_keys SET state = 'marked-state' WHERE keyring = 'one'"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_a_wrapped_key_that_is_not_what_was_stored_is_a_corrupt_key_and_its_neighbours_are_fine(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    one, two = await _two_keyrings(tmp_path / "data")
    damage(tmp_path / "data")
    async with running(tmp_path / "data", SETTINGS) as it:
        assert await it.caller.status() == "SERVING"
        refused = await refusal(it.caller.decrypt(values(two, one)))
        text = "1 rows cannot be decrypted (row 1: KEY_CORRUPT)"
        assert refused == Refusal(grpc.StatusCode.DATA_LOSS, "CORRUPT_KEY", text)
        answer = await it.caller.decrypt(values(two, one), on_error=pb.ON_ERROR_REPORT)
        assert rows_of(answer) == [b"two", None]
        (error,) = answer.row_errors
        assert (error.row, error.code, error.retryable) == (1, pb.ROW_ERROR_CODE_KEY_UNAVAILABLE, False)
        assert rows_of(await it.caller.decrypt(values(two))) == [b"two"]
        await it.caller.still_serves()


async def test_a_keyring_whose_primary_is_corrupt_encrypts_nothing_with_another_key(tmp_path: Path) -> None:
    await _two_keyrings(tmp_path / "data")
    _execute(tmp_path / "data", _SWAP)
    async with running(tmp_path / "data", SETTINGS) as it:
        refused = await refusal(it.caller.encrypt(values(b"v"), keyring="one"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "CORRUPT_KEY")
        await it.caller.still_serves()


async def test_a_foreign_wrapping_key_is_an_operators_to_mend_and_no_failed_decryption(tmp_path: Path) -> None:
    one, _ = await _two_keyrings(tmp_path / "data")
    kek = tmp_path / "data" / "kek"
    shutil.copy2(kek, tmp_path / "backup")
    kek.write_bytes(os.urandom(32))
    async with running(tmp_path / "data", SETTINGS) as it:
        refused = await refusal(it.caller.decrypt(values(one)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "KMS_ACCESS_DENIED")
        await it.caller.still_serves()  # a keyring that the foreign key made
    shutil.copy2(tmp_path / "backup", kek)
    async with running(tmp_path / "data", SETTINGS) as it:
        assert rows_of(await it.caller.decrypt(values(one))) == [b"one"]


async def test_a_keystore_of_an_old_backup_knows_no_key_and_never_takes_the_wrong_one(tmp_path: Path) -> None:
    await _two_keyrings(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    async with running(tmp_path / "data", SETTINGS) as it:
        (late,) = await it.caller.sealed(b"late", keyring="late")
    async with running(tmp_path / "backup", SETTINGS) as it:
        await it.caller.sealed(b"another", keyring="late")
        answer = await it.caller.decrypt(values(late), on_error=pb.ON_ERROR_REPORT)
        assert [error.code for error in answer.row_errors] == [pb.ROW_ERROR_CODE_UNKNOWN_KEY]
        assert rows_of(answer) == [None]


async def test_an_unreachable_keystore_is_unavailable_for_cold_keys_and_nothing_to_warm_ones(tmp_path: Path) -> None:
    keystore = MemoryKeystore()
    async with running(tmp_path, SETTINGS, kms=FakeKms(), keystore=keystore) as it:
        await it.caller.still_serves()
        keystore.fail_with = KeystoreUnavailableError("the keystore is away")
        refused = await refusal(it.caller.encrypt(values(b"v"), keyring="cold"))
        assert refused == Refusal(grpc.StatusCode.UNAVAILABLE, "KEYSTORE_UNAVAILABLE", "the keystore is away")
        await it.caller.still_serves()
        assert await it.metric("sidekey_keystore_errors_total") >= 1
        status, text = await it.page("/readyz")
        assert (status, '"keystore": "unavailable"' in text) == (200, True)
        keystore.fail_with = None

        async def recovered() -> bool:
            return '"keystore": "ok"' in (await it.page("/readyz"))[1]

        await until(recovered, 5)
        assert len(await it.caller.sealed(b"v", keyring="cold")) == 1


async def test_a_database_that_another_process_locks_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path / "data", SETTINGS) as it:
        with closing(sqlite3.connect(tmp_path / "data" / "keystore.db", isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            refused = await refusal(it.caller.stub.Encrypt(pb.EncryptRequest(values=values(b"v")), timeout=0.3))
            assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
            database.execute("ROLLBACK")
        await it.caller.still_serves()
