"""What others change under a running sidecar: its keystore, its clock, its peers' configuration, its grants.

For each: what goes on, what a caller is told, what an operator reads, and how it ends. No restart mends any of it but a
SQLite file that was replaced.
"""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from sidecar.errors import KmsDeniedError
from tests.e2e.external import (
    FORGOTTEN,
    REFRESH,
    TTL,
    Place,
    at_work,
    in_postgres,
    in_sqlite,
    key_id,
    opened,
    refreshed_often,
    remove_files_beside,
    sealed,
    until_told,
)
from tests.fakes.clock import FakeClock
from tests.fakes.kms import FakeKms
from tests.keystore.postgres import PostgresServer, postgres_server
from tests.rpc.batches import values
from tests.rpc.logs import LogLines, logged
from tests.rpc.running import Refusal, refusal, until

__all__ = ["postgres_server"]

DAY = 86_400.0
UNKNOWN = Refusal(grpc.StatusCode.DATA_LOSS, "DECRYPT_FAILED", "1 rows cannot be decrypted (row 0: UNKNOWN_KEY)")
BACKUP = "CREATE TABLE backup AS SELECT * FROM data_keys"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty keystore of each kind that is changed by SQL."""
    if request.param == "sqlite":
        return in_sqlite(tmp_path / "keystore.db")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return in_postgres(server)


@pytest.fixture
def logs() -> Iterator[LogLines]:
    """The log of all sidecars of the test."""
    with logged() as lines:
        yield lines


@pytest.fixture
def clock() -> FakeClock:
    """The right time."""
    return FakeClock()


@pytest.fixture
def kms() -> FakeKms:
    """The KMS of all sidecars of the test."""
    return FakeKms()


async def test_a_deleted_row_is_loud_at_the_next_refresh_and_its_values_are_back_with_it(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock, logs: LogLines
) -> None:
    async with at_work(tmp_path, place, kms, clock, schedule_dataKeyRollOverLength=1) as it:
        old = await sealed(it, b"old")
        clock.advance(2 * DAY)
        new = await sealed(it, b"new")
        assert await opened(it, old, new) == [b"old", b"new"]
        place.execute(BACKUP)
        place.execute("DELETE FROM data_keys WHERE generation = 1")
        assert await opened(it, old) == [b"old"]  # from the cache, for less than a TTL
        clock.advance(REFRESH)
        line = await until_told(logs, "data_key_vanished")
        assert (line["level"], line["key_id"], line["keyring"]) == ("error", key_id(old), "sales")
        assert "restore its row of the keystore from a backup" in str(line["hint"])
        assert await refusal(it.caller.decrypt(values(old))) == UNKNOWN
        assert await opened(it, new, await sealed(it, b"more")) == [b"new", b"more"]
        assert await it.caller.status() == "SERVING"
        place.execute("INSERT INTO data_keys SELECT * FROM backup WHERE generation = 1")
        clock.advance(FORGOTTEN)
        assert await opened(it, old) == [b"old"]


async def test_a_restored_old_keystore_encrypts_under_its_own_primary_and_never_decrypts_with_the_wrong_key(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock, logs: LogLines
) -> None:
    async with at_work(tmp_path, place, kms, clock, schedule_dataKeyRollOverLength=1) as it:
        before = await sealed(it, b"before the backup")
        place.execute(BACKUP)
        clock.advance(2 * DAY)
        lost = await sealed(it, b"since the backup")
        assert key_id(lost) != key_id(before)
        place.execute("DELETE FROM data_keys")
        place.execute("INSERT INTO data_keys SELECT * FROM backup")
        clock.advance(REFRESH)
        await until_told(logs, "data_key_vanished")
        assert await refusal(it.caller.decrypt(values(lost))) == UNKNOWN
        # The restored primary is past its time: a new generation 2, which is another data key than the lost one.
        again = await sealed(it, b"again")
        assert key_id(again) not in (key_id(lost), key_id(before))
        assert place.execute("SELECT generation FROM data_keys ORDER BY generation") == ["1", "2"]
        assert await refusal(it.caller.decrypt(values(lost))) == UNKNOWN
        assert await opened(it, before, again) == [b"before the backup", b"again"]


async def test_a_keyring_whose_rows_are_all_gone_begins_anew_and_what_is_found_again_goes_beside_it(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock, logs: LogLines
) -> None:
    async with at_work(tmp_path, place, kms, clock) as it:
        old = await sealed(it, b"old")
        place.execute(BACKUP)
        place.execute("DELETE FROM data_keys")
        clock.advance(REFRESH)
        await until_told(logs, "data_key_vanished")
        clock.advance(FORGOTTEN)
        new = await sealed(it, b"new")
        assert key_id(new) != key_id(old)
        # Its generation is taken by now; a data key is bound to its keyring and its id, so another one is as good.
        place.execute("UPDATE backup SET generation = 2")
        place.execute("INSERT INTO data_keys SELECT * FROM backup")
        clock.advance(TTL)
        assert await opened(it, old, new) == [b"old", b"new"]


async def test_a_keyring_whose_rows_are_all_gone_is_unknown_where_it_may_not_be_made(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock
) -> None:
    async with at_work(tmp_path / "makes", place, kms, clock) as it:
        await sealed(it, b"v")
    async with at_work(tmp_path / "uses", place, kms, clock, keyrings={"other": {}}) as it:
        await sealed(it, b"v")
        place.execute("DELETE FROM data_keys")
        clock.advance(TTL)
        refused = await refusal(it.caller.encrypt(values(b"v"), keyring="sales"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_KEYRING")
        assert place.count() == 0


async def test_a_sqlite_file_that_is_replaced_takes_no_data_key_and_warm_ones_go_on_until_a_restart(
    tmp_path: Path, kms: FakeKms, clock: FakeClock, logs: LogLines
) -> None:
    path = tmp_path / "keystore.db"
    place = in_sqlite(path)
    async with at_work(tmp_path, place, kms, clock):
        pass
    shutil.copy2(path, tmp_path / "backup.db")
    async with at_work(tmp_path, place, kms, clock) as it:
        warm = await sealed(it, b"warm")
        (tmp_path / "backup.db").replace(path)
        refused = await refusal(it.caller.encrypt(values(b"v"), keyring="cold"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "KEYSTORE_UNAVAILABLE")
        assert "moved, removed or replaced" in refused.text
        line = await until_told(logs, "keystore_file_replaced")
        assert "stop all sidecars" in str(line["hint"])
        clock.advance(REFRESH)
        assert await opened(it, warm, await sealed(it, b"more")) == [b"warm", b"more"]
    remove_files_beside(path)
    async with at_work(tmp_path, place, kms, clock) as it:
        assert await refusal(it.caller.decrypt(values(warm))) == UNKNOWN
        assert await opened(it, await sealed(it, b"new")) == [b"new"]


async def test_a_clock_that_is_ahead_rolls_over_once_and_one_that_is_behind_says_so_once(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock, logs: LogLines
) -> None:
    ahead = FakeClock(datetime(2027, 6, 1, tzinfo=UTC))  # more than a rollover period
    async with (
        at_work(tmp_path / "right", place, kms, clock) as right,
        at_work(tmp_path / "ahead", place, kms, ahead) as wrong,
    ):
        await refreshed_often([right], [clock])
        assert place.count() == 1
        await refreshed_often([wrong, right], [clock, ahead])
        assert place.count() == 2
        (line,) = logs.of("clock_disagrees")
        assert (line["level"], line["keyring"]) == ("warning", "sales")
        assert "set the clock" in line["hint"]
        assert line["ahead_seconds"] > 300 * DAY


async def test_a_clock_that_is_set_back_makes_no_data_key_and_loses_none(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock, logs: LogLines
) -> None:
    async with at_work(tmp_path, place, kms, clock) as it:
        row = await sealed(it, b"v")
        clock.set_back(30 * DAY)
        await refreshed_often([it], [clock])
        assert await opened(it, row) == [b"v"]
        assert place.count() == 1
        assert len(logs.of("clock_disagrees")) == 1


async def test_of_two_rollover_periods_the_shorter_one_holds_for_both(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock
) -> None:
    async with (
        at_work(tmp_path / "year", place, kms, clock, schedule_dataKeyRollOverLength=365) as year,
        at_work(tmp_path / "month", place, kms, clock, schedule_dataKeyRollOverLength=30) as month,
    ):
        for months in range(1, 4):
            made = await sealed(month, b"month")
            clock.advance(TTL)
            assert key_id(await sealed(year, b"year")) == key_id(made)
            assert place.count() == months
            clock.advance(31 * DAY)


async def test_each_sidecar_lets_its_own_callers_do_what_its_own_configuration_says(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock
) -> None:
    strict = {"sales": {"allowDeterministic": False}}
    async with (
        at_work(tmp_path / "any", place, kms, clock) as may,
        at_work(tmp_path / "strict", place, kms, clock, keyrings=strict) as may_not,
    ):
        refused = await refusal(may_not.caller.encrypt(values(b"v"), keyring="other"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_KEYRING")
        other = await sealed(may, b"other", "other")
        clock.advance(FORGOTTEN)
        # A keyring that is there is everybody's: what is configured is who may make one.
        assert await opened(may_not, other, await sealed(may_not, b"more", "other")) == [b"other", b"more"]
        deterministic = {"keyring": "sales", "mode": "MODE_DETERMINISTIC"}
        assert await may.caller.sealed(b"v", **deterministic) == await may.caller.sealed(b"v", **deterministic)
        refused = await refusal(may_not.caller.encrypt(values(b"v"), **deterministic))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MODE_NOT_ALLOWED")


async def test_a_data_key_of_a_wrapping_key_that_is_not_configured_names_both_and_is_not_replaced(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock, logs: LogLines
) -> None:
    other = FakeKms("fake:2")
    async with (
        at_work(tmp_path / "one", place, kms, clock) as one,
        at_work(tmp_path / "two", place, other, clock) as two,
    ):
        row = await sealed(one, b"v")
        refused = await refusal(two.caller.encrypt(values(b"v"), keyring="sales"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "KMS_ACCESS_DENIED")
        assert "wrapped under fake:1, and the configured wrapping keys are fake:2: configure one" in refused.text
        refused = await refusal(two.caller.decrypt(values(row)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "KMS_ACCESS_DENIED")
        line = await until_told(logs, "data_key_wrapped_elsewhere")
        assert (line["level"], line["wrapped_under"]) == ("error", "fake:1")
        assert place.count("keyring = 'sales'") == 1
        assert await opened(two, await sealed(two, b"own", "own")) == [b"own"]


async def test_grants_that_are_revoked_end_at_the_next_refresh_and_given_back_they_work_without_a_restart(
    tmp_path: Path, place: Place, kms: FakeKms, clock: FakeClock, logs: LogLines
) -> None:
    async with at_work(tmp_path, place, kms, clock) as it:
        row = await sealed(it, b"v")
        kms.fail_wrap_with = kms.fail_unwrap_with = KmsDeniedError("the grant was revoked")
        assert await opened(it, row) == [b"v"]
        clock.advance(REFRESH)

        async def is_not_ready() -> bool:
            return await it.caller.status() == "NOT_SERVING"

        await until(is_not_ready)
        line = await until_told(logs, "cached_entry_refused")
        assert (line["level"], line["reason"], line["key_id"]) == ("warning", "KMS_ACCESS_DENIED", key_id(row))
        assert [line["result"] for line in logs.of("kms_state") if line["level"] == "warning"] != []
        for call in (it.caller.decrypt(values(row)), it.caller.encrypt(values(b"v"), keyring="sales")):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "KMS_ACCESS_DENIED")
        assert await it.metric("sidekey_cache_size") == 0
        assert (await it.page("/readyz"))[0] == 503
        kms.fail_wrap_with = kms.fail_unwrap_with = None

        async def is_ready() -> bool:
            return not await is_not_ready()

        await until(is_ready)
        clock.advance(FORGOTTEN)
        assert await opened(it, row, await sealed(it, b"more")) == [b"v", b"more"]
