"""The fleet under everything that may happen to it, in any order; what must hold is in ``facts`` and ``asks``."""

from contextlib import ExitStack
from datetime import timedelta
from typing import Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sidekey.v1 import encryption_pb2 as pb
from structlog.testing import capture_logs

from sidecar.errors import (
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
    UnknownKeyringError,
)
from sidecar.keystore.port import KeyState
from tests.fleet_model.facts import Acknowledged, Terms
from tests.fleet_model.fleet import Fleet
from tests.fleet_model.sidecar import JITTER, FleetSidecar

TICK = 1 / 64
TTL = 64.0
STALE = 256.0
REFRESH = TTL * (1 - JITTER) * 0.75
DUE = TTL * 0.7
"""A refresh is due before, for most jitters, and the life of hardly anything is over."""
DAY = 86_400.0
LEAD = 3_600.0
BUDGET = 60
KEYRINGS = st.sampled_from(["default", "people"])
MODES = st.sampled_from([pb.MODE_RANDOMIZED, pb.MODE_DETERMINISTIC])
WHICH = st.integers(0, 7)
SPANS = st.sampled_from([TICK, 0.5, 1.0, 5.0, 7.0, 30.0, REFRESH, TTL * 0.75, TTL, STALE, 3600.0, DAY - LEAD, DAY])
FAULTS: st.SearchStrategy[Literal["fail", "hold"]] = st.sampled_from(["fail", "hold"])
_DEFECTS = {"fetch_defect", "kms_provider_defect", "data_key_corrupt", "data_key_vanished", "data_key_copy_corrupt"}


class FleetMachine(RuleBasedStateMachine):
    """Rules begin calls, make trouble and let time pass; after each of them all goes on that can."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.logs = self.stack.enter_context(capture_logs())
        self.fleet: Fleet

    @initialize(sidecars=st.integers(2, 4), kmses=st.integers(1, 2), stale=st.sampled_from([TTL, STALE]))
    def begin(self, sidecars: int, kmses: int, stale: float) -> None:
        terms = Terms(TTL, stale, REFRESH, timedelta(seconds=DAY), timedelta(seconds=LEAD), BUDGET, BUDGET * 9 // 10)
        self.fleet = Fleet(terms, sidecars=sidecars, kmses=kmses)
        self.stack.callback(self.fleet.check_and_end)

    def value(self, data: st.DataObject) -> Acknowledged:
        values = self.fleet.facts.values
        return values[data.draw(st.integers(0, len(values) - 1))]

    def sidecar(self, which: int) -> FleetSidecar:
        return self.fleet.sidecars[which % len(self.fleet.sidecars)]

    # --- Callers -----------------------------------------------------------------------------------------------------

    @rule(which=WHICH, keyring=KEYRINGS, mode=MODES, count=st.sampled_from([1, 1, 2, 5, 20]))
    def encrypt(self, which: int, keyring: str, mode: pb.Mode, count: int) -> None:
        self.fleet.encrypt(self.sidecar(which), keyring, mode, count)
        self.fleet.pass_time()

    @rule(keyring=KEYRINGS, mode=MODES, each=st.integers(1, 3))
    def encrypt_everywhere(self, keyring: str, mode: pb.Mode, each: int) -> None:
        for sidecar in self.fleet.sidecars * each:
            self.fleet.encrypt(sidecar, keyring, mode)
        self.fleet.pass_time()

    @precondition(lambda self: self.fleet.facts.values)
    @rule(which=WHICH, data=st.data())
    def decrypt(self, which: int, data: st.DataObject) -> None:
        values = self.fleet.facts.values
        rows = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=4))
        self.fleet.decrypt(self.sidecar(which), [values[row] for row in rows])
        self.fleet.pass_time()

    @precondition(lambda self: self.fleet.facts.values)
    @rule(each=st.integers(1, 3))
    def decrypt_of_every_data_key_everywhere(self, each: int) -> None:
        values = {value.key_id: value for value in self.fleet.facts.values}
        for sidecar in self.fleet.sidecars * each:
            self.fleet.decrypt(sidecar, list(values.values())[-20:])
        self.fleet.pass_time()

    @precondition(lambda self: self.fleet.calls)
    @rule(data=st.data())
    def a_caller_leaves(self, data: st.DataObject) -> None:
        self.fleet.calls[data.draw(st.integers(0, len(self.fleet.calls) - 1))].task.cancel()
        self.fleet.pass_time()

    # --- Operators ---------------------------------------------------------------------------------------------------

    @rule(which=WHICH, keyring=KEYRINGS, times=st.integers(1, 2))
    def rotate(self, which: int, keyring: str, times: int) -> None:
        for _ in range(times):
            self.fleet.rotate(self.sidecar(which), keyring)
        self.fleet.pass_time()

    @precondition(lambda self: self.fleet.facts.states)
    @rule(which=WHICH, data=st.data(), state=st.sampled_from(KeyState))
    def set_state(self, which: int, data: st.DataObject, state: KeyState) -> None:
        key_ids = list(self.fleet.facts.states)
        key_id = key_ids[data.draw(st.integers(0, len(key_ids) - 1))]
        self.fleet.set_states(self.sidecar(which), [(key_id, state)])
        self.fleet.pass_time()

    @precondition(lambda self: self.fleet.facts.values)
    @rule(which=WHICH, data=st.data(), destroy=st.booleans())
    def retire_what_has_encrypted(self, which: int, data: st.DataObject, destroy: bool) -> None:
        value = self.value(data)
        self.fleet.rotate(self.sidecar(which), value.keyring)
        self.fleet.pass_time()
        states = [KeyState.DISABLED, KeyState.DESTROYED] if destroy else [KeyState.DISABLED]
        self.fleet.set_states(self.sidecar(which), [(value.key_id, state) for state in states])
        self.fleet.pass_time()

    @rule(which=WHICH, keyring=st.none() | KEYRINGS, limit=st.sampled_from([1, 2, 100]), dry_run=st.booleans())
    def rewrap(self, which: int, keyring: str | None, limit: int, dry_run: bool) -> None:
        sidecar = self.sidecar(which)

        async def rewrap() -> None:
            page = await sidecar.administration.rewrap(keyring, after=None, limit=limit, dry_run=dry_run)
            while page.next is not None:
                page = await sidecar.administration.rewrap(keyring, after=page.next, limit=limit, dry_run=dry_run)

        self.fleet.administer(sidecar, rewrap, "rewrap", UnknownKeyringError)
        self.fleet.pass_time()

    @rule(which=WHICH)
    def an_alias_is_pointed_at_another_wrapping_key(self, which: int) -> None:
        kms = list(self.fleet.kmses.values())[which % len(self.fleet.kmses)]
        kms.earlier_kek_ids.add(kms.kek_id)
        kms.kek_id = f"{kms.kek_id.split('/')[0]}/{len(kms.earlier_kek_ids)}"

    # --- Trouble -----------------------------------------------------------------------------------------------------

    @rule(which=WHICH, kind=st.sampled_from([KmsDeniedError, KmsDisabledError]), all_of=st.booleans())
    def a_kms_refuses(self, which: int, kind: type[SidekeyError], all_of: bool) -> None:
        self.fleet.facts.refusals.add(kind)
        kmses = list(self.fleet.kmses.values())
        for kms in kmses if all_of else [kmses[which % len(kmses)]]:
            kms.fail_wrap_with = kind("refused")
            kms.fail_unwrap_with = kind("refused") if which % 4 else None

    @rule(which=WHICH, data=st.data(), everybody=st.booleans(), throttled=st.booleans())
    def a_service_is_away(self, which: int, data: st.DataObject, everybody: bool, throttled: bool) -> None:
        service = data.draw(st.sampled_from(["keystore", *self.fleet.kmses]))
        kind = KmsThrottledError if throttled else KmsUnavailableError
        for sidecar in self.fleet.sidecars if everybody else [self.sidecar(which)]:
            sidecar.links[service].down = KeystoreUnavailableError if service == "keystore" else kind

    @rule(which=WHICH, data=st.data(), wait=st.integers(0, 7), fault=FAULTS)
    def a_call_will_fail_or_hang(
        self, which: int, data: st.DataObject, wait: int, fault: Literal["fail", "hold"]
    ) -> None:
        links = list(self.sidecar(which).links.values())
        links[data.draw(st.integers(0, len(links) - 1))].faults.append((wait, fault))

    @rule(fault=FAULTS, wait=st.integers(0, 1))
    def a_call_of_each_will_fail_or_hang(self, fault: Literal["fail", "hold"], wait: int) -> None:
        for link in self.fleet.links:
            link.faults.append((wait, fault))

    @precondition(lambda self: self.fleet.held)
    @rule(data=st.data(), fail=st.booleans())
    def what_hangs_goes_on(self, data: st.DataObject, fail: bool) -> None:
        self.fleet.held[data.draw(st.integers(0, len(self.fleet.held) - 1))].release(fail=fail)
        self.fleet.pass_time()

    @rule()
    def trouble_ends(self) -> None:
        self.fleet.end_trouble()

    # --- Time and upkeep ---------------------------------------------------------------------------------------------

    @rule(seconds=SPANS)
    def time_passes(self, seconds: float) -> None:
        self.fleet.pass_time(seconds)

    @rule(data=st.data(), limit=st.sampled_from([5.0, REFRESH, TTL * 0.75, TTL, STALE]))
    def time_passes_to_a_limit(self, data: st.DataObject, limit: float) -> None:
        near = data.draw(st.sampled_from([-TICK, 0.0, TICK]))
        now = self.fleet.loop.time()
        ahead = sorted(at + limit + near for at in self.fleet.moments() if at + limit + near > now)
        if ahead:
            self.fleet.pass_time(ahead[data.draw(st.integers(0, len(ahead) - 1))] - now)

    @precondition(lambda self: self.fleet.facts.values)
    @rule(which=WHICH, data=st.data(), kind=st.sampled_from([KmsDeniedError, KmsDisabledError]))
    def a_refresh_is_refused(self, which: int, data: st.DataObject, kind: type[SidekeyError]) -> None:
        """What is in use is asked about while it lives; the answer holds from then on."""
        sidecar, value = self.sidecar(which), self.value(data)
        self.fleet.decrypt(sidecar, [value])
        self.fleet.pass_time(DUE)
        self.a_kms_refuses(1, kind, all_of=True)
        for seconds in (0.0, TICK, 1.0):
            self.fleet.decrypt(sidecar, [value])
            self.fleet.pass_time(seconds)

    @precondition(lambda self: self.fleet.facts.values)
    @rule(which=WHICH, data=st.data(), hangs=st.sampled_from([1.0, 4.0]), fail=st.booleans())
    def a_fetch_hangs_and_its_limit_comes(self, which: int, data: st.DataObject, hangs: float, fail: bool) -> None:
        """Lives are counted from before a fetch began, however long it took."""
        self.restart(which, crash=False)
        sidecar, value = self.sidecar(which), self.value(data)
        for name in self.fleet.kmses:
            sidecar.links[name].faults.append((0, "hold"))
        begun = self.fleet.loop.time()
        self.fleet.decrypt(sidecar, [value])
        self.fleet.pass_time(hangs)
        for held in list(self.fleet.held):
            held.release(fail=fail)
        self.fleet.pass_time(begun + TTL - self.fleet.loop.time())
        self.fleet.decrypt(sidecar, [value])
        self.fleet.pass_time()

    @rule(spans=st.integers(2, 8), seconds=st.sampled_from([1.0, 8.0, TTL / 2]), keyring=KEYRINGS)
    def life_goes_on(self, spans: int, seconds: float, keyring: str) -> None:
        for _ in range(spans):
            self.fleet.pass_time(seconds)
            for sidecar in self.fleet.sidecars:
                self.fleet.encrypt(sidecar, keyring)
                self.fleet.upkeep(sidecar)
            self.fleet.pass_time()

    @rule(which=WHICH)
    def upkeep(self, which: int) -> None:
        self.fleet.upkeep(self.sidecar(which))
        self.fleet.pass_time()

    @rule(which=WHICH, seconds=st.sampled_from([-2 * DAY, -LEAD, -1.0, 1.0, LEAD, DAY, 2 * DAY]))
    def a_clock_jumps(self, which: int, seconds: float) -> None:
        self.fleet.set_clock(self.sidecar(which), seconds)

    @rule(which=WHICH, crash=st.booleans())
    def restart(self, which: int, crash: bool) -> None:
        self.fleet.restart(which % len(self.fleet.sidecars), crash=crash)

    @rule()
    def all_is_well(self) -> None:
        self.fleet.check_all_is_well()

    @invariant()
    def what_is_stored_is_as_it_must_be(self) -> None:
        if hasattr(self, "fleet"):
            self.fleet.check()
        assert not _DEFECTS & {line["event"] for line in self.logs}
        self.logs.clear()

    def teardown(self) -> None:
        self.stack.close()
