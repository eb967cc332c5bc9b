"""KeyringService over real gRPC: what it answers, what it refuses, and what other sidecars see of it."""

import base64
import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sidekey.v1 import encryption_pb2, keyring_pb2_grpc
from sidekey.v1 import keyring_pb2 as pb
from structlog.testing import capture_logs

from sidecar.errors import KmsDeniedError, KmsUnavailableError
from tests.fakes.clock import FakeClock
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.keystore.records import record
from tests.rpc.batches import values
from tests.rpc.running import Running, refusal, running

MANAGED = {"server.manageKeys": True, "keyrings": {"*": {}}}


class Keyrings:
    """Calls the service; keywords are the request's fields."""

    def __init__(self, it: Running) -> None:
        channel: Any = it.caller.channel
        self._stub = keyring_pb2_grpc.KeyringServiceStub(channel)

    def __getattr__(self, method: str) -> Any:
        def call(**fields: Any) -> Any:
            return getattr(self._stub, method)(getattr(pb, f"{method}Request")(**fields), timeout=20)

        return call


@pytest.fixture
def store() -> MemoryKeystore:
    """What the sidecar keeps data keys in."""
    return MemoryKeystore()


@pytest.fixture
async def managed(tmp_path: Path, store: MemoryKeystore) -> AsyncIterator[Running]:
    """A sidecar whose callers may manage keys."""
    async with running(tmp_path / "data", MANAGED, kms=FakeKms(), keystore=store) as it:
        yield it
        await it.caller.still_serves()
        assert await it.metric("sidekey_calls_in_flight") == 0


@pytest.fixture
def keyrings(managed: Running) -> Keyrings:
    return Keyrings(managed)


async def test_a_keyring_is_created_shown_used_and_listed(managed: Running, keyrings: Keyrings) -> None:
    settings = pb.KeyringSettings(roll_over_days=30, default_mode=encryption_pb2.MODE_DETERMINISTIC)
    created = (await keyrings.CreateKeyring(name="pay", settings=settings)).keyring
    assert created.settings == pb.KeyringSettings(
        roll_over_days=30, default_mode=encryption_pb2.MODE_DETERMINISTIC, allow_deterministic=True
    )
    assert abs(created.created_at.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    assert (created.primary.generation, created.primary.primary) == (1, True)
    assert created.primary.state == pb.KEY_STATE_ENABLED
    assert list(created.primary.kek_ids) == ["fake:1"]
    assert not created.primary.HasField("last_used_at")
    await managed.caller.sealed(b"v", keyring="other")
    assert (await keyrings.GetKeyring(name="pay")).keyring == created
    listed = (await keyrings.ListKeyrings()).keyrings
    assert [(each.name, each.HasField("created_at")) for each in listed] == [("other", False), ("pay", True)]
    assert listed[1] == created
    (one,) = await managed.caller.sealed(b"v", keyring="pay")
    (two,) = await managed.caller.sealed(b"v", keyring="pay")
    assert one == two


@pytest.mark.parametrize(
    "settings",
    [
        pb.KeyringSettings(),
        pb.KeyringSettings(roll_over_never=True),
        pb.KeyringSettings(roll_over_days=0.25, allow_deterministic=False),
        pb.KeyringSettings(default_mode=encryption_pb2.MODE_RANDOMIZED, allow_deterministic=True),
    ],
)
async def test_settings_come_back_as_they_were_set_and_the_rest_as_configured(
    keyrings: Keyrings, settings: pb.KeyringSettings
) -> None:
    for _ in range(2):
        answer = (await keyrings.CreateKeyring(name="pay", settings=settings)).keyring.settings
        assert answer.WhichOneof("roll_over") == (settings.WhichOneof("roll_over") or "roll_over_days")
        assert answer.roll_over_days == (365 if settings.WhichOneof("roll_over") is None else settings.roll_over_days)
        assert answer.default_mode == encryption_pb2.MODE_RANDOMIZED
        assert answer.allow_deterministic is (
            settings.allow_deterministic if settings.HasField("allow_deterministic") else True
        )


async def test_rotate_disable_and_destroy_go_as_far_as_they_may(
    managed: Running, keyrings: Keyrings, store: MemoryKeystore
) -> None:
    (sealed,) = await managed.caller.sealed(b"v", keyring="pay")
    first = (await keyrings.RotateKeyring(name="pay", dry_run=True)).primary
    refused = await refusal(keyrings.SetKeyState(key_id=first.key_id, state=pb.KEY_STATE_DISABLED))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STATE_TRANSITION")
    assert "rotate the keyring first" in refused.text
    second = (await keyrings.RotateKeyring(name="pay")).primary
    assert (second.generation, second.primary) == (2, True)
    (now,) = await managed.caller.sealed(b"v", keyring="pay")
    assert _key_of(now) == second.key_id
    dry = (await keyrings.SetKeyState(key_id=first.key_id, state=pb.KEY_STATE_DISABLED, dry_run=True)).key
    assert (dry.state, dry.primary) == (pb.KEY_STATE_ENABLED, False)
    disabled = (await keyrings.SetKeyState(key_id=first.key_id, state=pb.KEY_STATE_DISABLED)).key
    assert disabled.state == pb.KEY_STATE_DISABLED
    assert disabled.HasField("state_changed_at")
    refused = await refusal(managed.caller.decrypt(values(sealed)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_DISABLED")
    for dry_run in (True, False):
        refused = await refusal(
            keyrings.SetKeyState(key_id=first.key_id, state=pb.KEY_STATE_DESTROYED, dry_run=dry_run)
        )
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STATE_TRANSITION")
        assert "may be destroyed from" in refused.text
    row = store.rows[first.key_id]
    store.rows[first.key_id] = replace(row, state_changed_at=datetime.now(UTC) - timedelta(seconds=3630))
    destroyed = (await keyrings.SetKeyState(key_id=first.key_id, state=pb.KEY_STATE_DESTROYED)).key
    assert not destroyed.kek_ids
    refused = await refusal(managed.caller.decrypt(values(sealed)))
    assert refused.reason == "KEY_DESTROYED"
    refused = await refusal(keyrings.SetKeyState(key_id=first.key_id, state=pb.KEY_STATE_ENABLED))
    assert "destroyed, and that is final" in refused.text


def _key_of(ciphertext: bytes | None) -> str:
    assert ciphertext is not None
    return ciphertext[1:8].hex()


async def test_nothing_changes_unless_the_configuration_lets_callers_manage_keys(tmp_path: Path) -> None:
    store = MemoryKeystore()
    async with running(tmp_path, {"keyrings": {"*": {}}}, kms=FakeKms(), keystore=store) as it:
        await it.caller.still_serves()
        before = dict(store.rows)
        keyrings = Keyrings(it)
        (key_id,) = before
        for call in (
            keyrings.CreateKeyring(name="pay"),
            keyrings.RotateKeyring(name="default"),
            keyrings.RotateKeyring(name="default", dry_run=True),
            keyrings.SetKeyState(key_id=key_id, state=pb.KEY_STATE_DISABLED),
            keyrings.RewrapKeys(),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "MANAGEMENT_OFF")
            assert "'manageKeys: true' under server" in refused.text
        assert store.rows == before
        assert [key.key_id for key in (await keyrings.ListKeys()).keys] == [key_id]
        assert (await keyrings.GetKeyring(name="default")).keyring.primary.key_id == key_id
        assert len((await keyrings.ListKeyrings()).keyrings) == 1


@pytest.mark.parametrize(
    ("method", "fields", "reason", "code"),
    [
        ("GetKeyring", {"name": "none"}, "UNKNOWN_KEYRING", grpc.StatusCode.NOT_FOUND),
        ("RotateKeyring", {"name": "none"}, "UNKNOWN_KEYRING", grpc.StatusCode.NOT_FOUND),
        ("ListKeys", {"keyring": "none"}, "UNKNOWN_KEYRING", grpc.StatusCode.NOT_FOUND),
        ("RewrapKeys", {"keyring": "none"}, "UNKNOWN_KEYRING", grpc.StatusCode.NOT_FOUND),
        ("SetKeyState", {"key_id": "0" * 13 + "1", "state": 2}, "NO_SUCH_KEY", grpc.StatusCode.NOT_FOUND),
        ("CreateKeyring", {"name": "Pay"}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("CreateKeyring", {"name": ""}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("GetKeyring", {"name": "a" * 1_000_000}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("SetKeyState", {"key_id": "0" * 13 + "1"}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("SetKeyState", {"key_id": "x", "state": 2}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("SetKeyState", {"key_id": "0" * 13 + "1", "state": 9}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("ListKeys", {"states": [1] * 100_000}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("ListKeys", {"keyring": "a" * 1_000_000}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("ListKeys", {"states": [0]}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("ListKeys", {"page_size": 1001}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("ListKeyrings", {"page_size": 1001}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("RewrapKeys", {"page_size": 2**32 - 1}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ("ListKeys", {"page_token": "x" * 1_000_000}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        (
            "ListKeys",
            {"unused_since": Timestamp(seconds=2**62)},
            "INVALID_REQUEST",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            "CreateKeyring",
            {"name": "a", "settings": pb.KeyringSettings(default_mode=7)},  # type: ignore[arg-type]
            "UNKNOWN_MODE",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        *(
            (
                "CreateKeyring",
                {"name": "a", "settings": settings},
                "INVALID_REQUEST",
                grpc.StatusCode.INVALID_ARGUMENT,
            )
            for settings in (
                pb.KeyringSettings(roll_over_days=0),
                pb.KeyringSettings(roll_over_days=math.nan),
                pb.KeyringSettings(roll_over_days=math.inf),
                pb.KeyringSettings(roll_over_days=36_501),
                pb.KeyringSettings(roll_over_never=False),
                pb.KeyringSettings(default_mode=encryption_pb2.MODE_DETERMINISTIC, allow_deterministic=False),
            )
        ),
    ],
)
async def test_what_does_not_hold_together_is_refused_by_its_reason(
    keyrings: Keyrings, method: str, fields: dict[str, Any], reason: str, code: grpc.StatusCode
) -> None:
    refused = await refusal(getattr(keyrings, method)(**fields))
    assert (refused.code, refused.reason) == (code, reason)
    assert len(refused.text) < 250


async def test_other_settings_of_a_keyring_that_is_there_are_an_operators_to_decide(keyrings: Keyrings) -> None:
    await keyrings.CreateKeyring(name="pay")
    settings = pb.KeyringSettings(roll_over_never=True)
    refused = await refusal(keyrings.CreateKeyring(name="pay", settings=settings))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEYRING_EXISTS")
    answer = await keyrings.CreateKeyring(name="pay", settings=settings, replace_settings=True)
    assert answer.keyring.settings.roll_over_never


@pytest.mark.parametrize("size", [1, 2, 3, 0])
async def test_pages_hold_every_data_key_once(keyrings: Keyrings, size: int) -> None:
    for name in ("a", "b"):
        await keyrings.CreateKeyring(name=name)
    for name in ("a", "a", "b"):
        await keyrings.RotateKeyring(name=name)
    found, token = [], ""
    while True:
        page = await keyrings.ListKeys(page_size=size, page_token=token)
        found += [(key.keyring, key.generation, key.primary) for key in page.keys]
        if not (token := page.next_page_token):
            break
    expected = [("a", 1, False), ("a", 2, False), ("a", 3, True), ("b", 1, False), ("b", 2, True)]
    assert found == expected
    names, token = [], ""
    while True:
        listed = await keyrings.ListKeyrings(page_size=size, page_token=token)
        names += [each.name for each in listed.keyrings]
        if not (token := listed.next_page_token):
            break
    assert names == ["a", "b"]


async def test_a_filter_by_state_and_use_answers_with_what_fits_alone(keyrings: Keyrings) -> None:
    await keyrings.CreateKeyring(name="pay")
    first = (await keyrings.GetKeyring(name="pay")).keyring.primary.key_id
    await keyrings.RotateKeyring(name="pay")
    await keyrings.SetKeyState(key_id=first, state=pb.KEY_STATE_DISABLED)
    states = [pb.KEY_STATE_DISABLED, pb.KEY_STATE_DESTROYED]
    assert [key.key_id for key in (await keyrings.ListKeys(states=states)).keys] == [first]
    past, future = Timestamp(), Timestamp()
    past.FromDatetime(datetime.now(UTC) - timedelta(days=1))
    future.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    assert not (await keyrings.ListKeys(unused_since=past)).keys
    assert len((await keyrings.ListKeys(unused_since=future)).keys) == 2


async def _token_of(keyrings: Keyrings) -> str:
    await keyrings.CreateKeyring(name="pay")
    await keyrings.RotateKeyring(name="pay")
    token: str = (await keyrings.ListKeys(keyring="pay", page_size=1)).next_page_token
    assert token
    return token


async def test_a_page_token_goes_with_its_own_question_alone(keyrings: Keyrings) -> None:
    token = await _token_of(keyrings)
    assert len((await keyrings.ListKeys(keyring="pay", page_token=token)).keys) == 1
    for call in (
        keyrings.ListKeys(page_token=token),
        keyrings.ListKeys(keyring="pay", states=[1], page_token=token),
        keyrings.ListKeys(keyring="pay", unused_since=Timestamp(seconds=1), page_token=token),
        keyrings.RewrapKeys(keyring="pay", page_token=token),
        keyrings.ListKeyrings(page_token=token),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert "of another listing" in refused.text


async def test_a_page_token_that_is_none_is_refused_whatever_is_in_it(keyrings: Keyrings) -> None:
    parsed = json.loads(base64.urlsafe_b64decode(await _token_of(keyrings)))
    bad_positions: list[Any] = [
        *(["pay"], ["pay", 0], ["pay", -1], ["pay", 2**63], ["pay", True], ["pay", 1.0], ["pay", "1"], ["pay", None]),
        *(["\0", 1], ["\ud800", 1], ["p" * 256, 1], ["", 1], [None, 1], "pay", None, {}, [], ["pay", 1, 1]),
    ]
    texts = [json.dumps({**parsed, "at": at}) for at in bad_positions]
    texts += [json.dumps({**parsed, "v": 2}), json.dumps({**parsed, "more": 1}), json.dumps([parsed])]
    texts += ["", "null", "{", "[" * 300, "NaN", "1e999"]
    tokens = [base64.urlsafe_b64encode(text.encode()).decode() for text in texts if text]
    tokens += ["=", "a", "!!!!", "ä", " ", base64.urlsafe_b64encode(b"\xff\xfe").decode()]
    for token in tokens:
        refused = await refusal(keyrings.ListKeys(keyring="pay", page_token=token))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), token
        assert "page_token" in refused.text


async def test_an_answer_over_the_message_limit_asks_for_a_smaller_page(tmp_path: Path) -> None:
    settings = {**MANAGED, "server.maxMessageBytes": 1024}
    async with running(tmp_path, settings, kms=FakeKms(), keystore=MemoryKeystore()) as it:
        keyrings = Keyrings(it)
        await keyrings.CreateKeyring(name="pay")
        for _ in range(40):
            await keyrings.RotateKeyring(name="pay")
        refused = await refusal(keyrings.ListKeys())
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert "smaller page" in refused.text
        assert len((await keyrings.ListKeys(page_size=5)).keys) == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KmsUnavailableError("away"), grpc.StatusCode.UNAVAILABLE),
        (KmsDeniedError("denied"), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_a_kms_that_fails_leaves_the_primary_as_it_is(
    tmp_path: Path, error: Exception, code: grpc.StatusCode
) -> None:
    kms = FakeKms()
    async with running(tmp_path, MANAGED, kms=kms, keystore=MemoryKeystore()) as it:
        keyrings = Keyrings(it)
        await keyrings.CreateKeyring(name="pay")
        kms.fail_wrap_with = error
        assert (await refusal(keyrings.RotateKeyring(name="pay"))).code is code
        assert (await keyrings.GetKeyring(name="pay")).keyring.primary.generation == 1


async def test_a_rewrap_goes_page_by_page_and_says_what_failed(tmp_path: Path) -> None:
    kms, store = FakeKms(), MemoryKeystore()
    async with running(tmp_path, MANAGED, kms=kms, keystore=store) as it:
        keyrings = Keyrings(it)
        for name in ("a", "b", "c"):
            await keyrings.CreateKeyring(name=name)
        kms.earlier_kek_ids.add(kms.kek_id)
        kms.kek_id = "fake:2"
        dry = await keyrings.RewrapKeys(dry_run=True)
        assert (dry.rewrapped, dry.unchanged, len(dry.failures)) == (3, 0, 0)
        first = await keyrings.RewrapKeys(page_size=2)
        assert (first.rewrapped, first.unchanged) == (2, 0)
        second = await keyrings.RewrapKeys(page_size=2, page_token=first.next_page_token)
        assert (second.rewrapped, second.next_page_token) == (1, "")
        again = await keyrings.RewrapKeys()
        assert (again.rewrapped, again.unchanged) == (0, 3)
        kms.earlier_kek_ids.clear()
        kms.kek_id = "fake:3"
        failed = await keyrings.RewrapKeys(keyring="b")
        assert (failed.rewrapped, [failure.keyring for failure in failed.failures]) == (0, ["b"])
        assert failed.failures[0].reason
        assert {row.kek_id for row in store.rows.values()} == {"fake:2"}
        kms.earlier_kek_ids.add("fake:2")


async def test_a_rewraps_answer_fits_however_many_data_keys_fail(tmp_path: Path) -> None:
    kms, settings = FakeKms(), {**MANAGED, "server.maxMessageBytes": 8192}
    async with running(tmp_path, settings, kms=kms, keystore=MemoryKeystore()) as it:
        keyrings = Keyrings(it)
        await keyrings.CreateKeyring(name="p" * 63)
        for _ in range(99):
            await keyrings.RotateKeyring(name="p" * 63)
        # 100 failures of some 100 bytes each are too many for one answer.
        kms.kek_id = "fake:2"
        failed, token = 0, ""
        while True:
            page = await keyrings.RewrapKeys(page_size=100, page_token=token)
            assert page.ByteSize() <= 8192
            failed += len(page.failures)
            if not (token := page.next_page_token):
                break
        assert failed == 100
        kms.earlier_kek_ids.add("fake:1")


async def test_a_damaged_row_hides_no_other_data_key_from_callers(tmp_path: Path) -> None:
    kms, store = FakeKms(), MemoryKeystore()
    async with running(tmp_path, MANAGED, kms=kms, keystore=store) as it:
        keyrings = Keyrings(it)
        for name in ("a", "b", "c"):
            await keyrings.CreateKeyring(name=name)
        damaged = (await keyrings.GetKeyring(name="b")).keyring.primary.key_id
        store.database.damaged.add(damaged)
        with capture_logs() as lines:
            listed = (await keyrings.ListKeys()).keys
        assert [(key.keyring, key.primary) for key in listed] == [("a", True), ("c", True)]
        (line,) = [line for line in lines if line["event"] == "data_key_corrupt"]
        assert (line["key_id"], line["keyring"], line["generation"]) == (damaged, "b", 1)
        kms.earlier_kek_ids.add(kms.kek_id)
        kms.kek_id = "fake:2"
        page = await keyrings.RewrapKeys()
        assert page.rewrapped == 2
        assert [(each.key_id, each.keyring, each.reason) for each in page.failures] == [(damaged, "b", "CORRUPT_KEY")]


NAMES = ("A b", "\x01" * 255, "\U0001f511" * 255, "\U0001f512", '"' * 255, "p" * 64)


async def test_a_listing_goes_on_after_any_name_that_the_keystore_may_hold(tmp_path: Path) -> None:
    store = MemoryKeystore()
    async with running(tmp_path, MANAGED, kms=FakeKms(), keystore=store) as it:
        keyrings = Keyrings(it)
        for name in NAMES:
            await store.insert(record(name))
        found: list[str] = []
        listed: list[str] = []
        token = ""
        while len(found) < len(NAMES):
            page = await keyrings.ListKeys(page_size=1, page_token=token)
            found += [key.keyring for key in page.keys]
            token = page.next_page_token
        assert (token, found) == ("", sorted(NAMES))
        while len(listed) < len(NAMES):
            keyrings_page = await keyrings.ListKeyrings(page_size=1, page_token=token)
            listed += [each.name for each in keyrings_page.keyrings]
            token = keyrings_page.next_page_token
        assert (token, listed) == ("", sorted(NAMES))


async def test_what_one_sidecar_changes_another_follows_within_its_ttl(tmp_path: Path) -> None:
    kms, store, clock = FakeKms(), MemoryKeystore(), FakeClock(datetime.now(UTC))
    async with (
        running(tmp_path / "one", MANAGED, kms=kms, keystore=store) as one,
        running(tmp_path / "two", MANAGED, kms=kms, keystore=MemoryKeystore(store.database), clock=clock) as two,
    ):
        (sealed,) = await two.caller.sealed(b"v", keyring="pay")
        keyrings = Keyrings(one)
        new = (await keyrings.RotateKeyring(name="pay")).primary.key_id
        await keyrings.SetKeyState(key_id=_key_of(sealed), state=pb.KEY_STATE_DISABLED)
        (still,) = await two.caller.sealed(b"v", keyring="pay")
        assert _key_of(still) == _key_of(sealed)
        clock.advance(300)
        (moved,) = await two.caller.sealed(b"v", keyring="pay")
        assert _key_of(moved) == new
        refused = await refusal(two.caller.decrypt(values(sealed)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_DISABLED")
