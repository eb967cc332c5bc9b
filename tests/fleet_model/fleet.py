"""Sidecars on one keystore and the same KMSs, and the calls to them: begun here, judged when they come to an end."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sidekey.v1 import encryption_pb2 as pb

from sidecar.crypto import few
from sidecar.crypto.format import RowFailure
from sidecar.errors import (
    KeystoreUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
    StateTransitionError,
    UnknownKeyringError,
)
from sidecar.keystore.port import KeyState
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.fleet_model.asks import PURPOSE, Asks
from tests.fleet_model.facts import FORGIVING_SECONDS, Acknowledged, Facts, Terms
from tests.fleet_model.links import Held, Link
from tests.fleet_model.sidecar import FleetClock, FleetSidecar, Surroundings
from tests.fleet_model.stepping import OWNER, SteppingLoop

_LONGEST_CALL_SECONDS = 40.0
_A_BATCH = 20
_NO_CONTEXT: Any = None
_TROUBLE = (KmsDeniedError, KmsDisabledError, KmsThrottledError, KmsUnavailableError, KeystoreUnavailableError)

Ask = Callable[[], Awaitable[object]]


@dataclass(eq=False)
class Call:
    """What somebody asked of a sidecar, and waits for."""

    sidecar: FleetSidecar
    task: "asyncio.Task[None]"


class Fleet:
    """All is still until ``pass_time``."""

    def __init__(self, terms: Terms, *, sidecars: int, kmses: int) -> None:
        self.loop = SteppingLoop()
        self.held: list[Held] = []
        self.calls: list[Call] = []
        self.sidecars: list[FleetSidecar] = []
        self.kmses = {f"kms{number}": FakeKms(f"fake:{number}") for number in range(kmses)}
        store = MemoryKeystore()
        self.asks = Asks(self.loop.time, terms.refresh, store.rows.__contains__)
        self.facts = Facts(terms, store.database, self.asks)
        self._around = Surroundings(self.loop, terms, store, self.kmses, self.facts, self.asks, self.held)
        self._plaintexts = (b"value %d" % number for number in itertools.count())
        for number in range(sidecars):
            self.sidecars.append(self._started(number, FleetClock(self.loop)))

    @property
    def links(self) -> list[Link]:
        """All ways of all sidecars."""
        return [link for sidecar in self.sidecars for link in sidecar.links.values()]

    def call(self, sidecar: FleetSidecar, ask: Ask, purpose: str = "use") -> None:
        """Begin a call, which comes to its end when it can."""

        async def asked() -> None:
            await ask()

        owner, why = OWNER.set(sidecar), PURPOSE.set(purpose)
        self.calls.append(Call(sidecar, self.loop.create_task(asked())))
        OWNER.reset(owner)
        PURPOSE.reset(why)

    def pass_time(self, seconds: float = 0.0) -> None:
        """Time passes, and all goes on that can; a call that has ended must have ended well."""
        self.loop.advance(seconds)
        ended = [call for call in self.calls if call.task.done()]
        self.calls = [call for call in self.calls if not call.task.done()]
        for call in ended:
            if not call.task.cancelled():
                call.task.result()

    # --- Calls -----------------------------------------------------------------------------------------------------

    def encrypt(self, sidecar: FleetSidecar, keyring: str, mode: pb.Mode = pb.MODE_RANDOMIZED, count: int = 1) -> None:
        """Encrypt new values."""
        begun = self.facts.moment()
        plaintexts = list(itertools.islice(self._plaintexts, count))
        request = pb.EncryptRequest(keyring=keyring, mode=mode, values=pb.ValueBatch(values=plaintexts))

        async def encrypt() -> None:
            try:
                answer: Any = await sidecar.values.Encrypt(request, _NO_CONTEXT)
            except _TROUBLE as error:
                self.facts.check_trouble(sidecar, begun, error)
                return
            for plaintext, ciphertext in zip(plaintexts, answer.values.values, strict=True):
                header = few.read_header(ciphertext)
                assert header is not None
                value = Acknowledged(keyring, header.key_id, plaintext, ciphertext)
                self.facts.check_encrypted(sidecar, begun, value)

        self.call(sidecar, encrypt)

    def decrypt(self, sidecar: FleetSidecar, values: Sequence[Acknowledged]) -> None:
        """Decrypt values that were acknowledged, whoever encrypted them."""
        begun = self.facts.moment()
        batch = pb.ValueBatch(values=[value.ciphertext for value in values])
        request = pb.DecryptRequest(on_error=pb.ON_ERROR_REPORT, values=batch)

        async def decrypt() -> None:
            answer: Any = await sidecar.values.Decrypt(request, _NO_CONTEXT)
            failures = {error.row: RowFailure(error.code) for error in answer.row_errors}
            for row, (value, plaintext) in enumerate(zip(values, answer.values.values, strict=True)):
                if row in failures:
                    self.facts.check_failed(sidecar, begun, value.key_id, failures[row])
                else:
                    self.facts.check_decrypted(sidecar, begun, value, plaintext)

        self.call(sidecar, decrypt)

    def administer(self, sidecar: FleetSidecar, ask: Ask, purpose: str, *expected: type[SidekeyError]) -> None:
        """A call by an operator, who is told of trouble, or of what forbids it (``expected``)."""
        begun = self.facts.moment()

        async def administered() -> None:
            try:
                await ask()
            except expected:
                return
            except _TROUBLE as error:
                self.facts.check_trouble(sidecar, begun, error)

        self.call(sidecar, administered, purpose)

    def rotate(self, sidecar: FleetSidecar, keyring: str) -> None:
        """An operator wants a new primary."""
        sidecar.made_on_call[keyring] += 1
        self.administer(sidecar, lambda: sidecar.administration.rotate(keyring), "rotate", UnknownKeyringError)

    def set_states(self, sidecar: FleetSidecar, states: Sequence[tuple[str, KeyState]]) -> None:
        """An operator changes states of data keys, one after the other, until one may not be."""

        async def set_states() -> None:
            for key_id, state in states:
                await sidecar.administration.set_key_state(key_id, state)
                self.facts.told(sidecar, key_id)
                self.asks.forgotten(sidecar, self.facts.keyring_of(key_id), key_id)

        self.administer(sidecar, set_states, "state", StateTransitionError)

    def set_clock(self, sidecar: FleetSidecar, seconds: float) -> None:
        """An operator sets the time of day ahead, or back."""
        sidecar.clock.ahead_seconds += seconds
        if seconds < 0 and self._calls_to(sidecar):
            # What was decided by the clock as it was is under way.
            sidecar.made_on_call.update({row.keyring for row in self.facts.values})

    def moments(self) -> set[float]:
        """From which lives are counted: when data keys were unwrapped, and when their states were changed."""
        return self.asks.moments() | {at for states in self.facts.states.values() for at, _ in states}

    def upkeep(self, sidecar: FleetSidecar) -> None:
        """One round of everything that ``sidecar.serve`` does in the background."""

        async def sweep() -> None:
            sidecar.keyrings.sweep()

        self.call(sidecar, sweep)
        self.call(sidecar, sidecar.usage.flush)
        self.call(sidecar, sidecar.complete, "completion")
        self.call(sidecar, sidecar.keyrings.look_at_states)

    # --- Begin and end ---------------------------------------------------------------------------------------------

    def _started(self, number: int, clock: FleetClock) -> FleetSidecar:
        sidecar = FleetSidecar(self._around, number, clock)
        self.call(sidecar, sidecar.open)
        self.pass_time()
        return sidecar

    def restart(self, at: int, *, crash: bool) -> None:
        """End a sidecar, and begin it anew with the same clocks and nothing else."""
        old = self.sidecars[at]
        self.end(old, crash=crash)
        self.sidecars[at] = self._started(old.number, old.clock)

    def end(self, sidecar: FleetSidecar, *, crash: bool) -> None:
        """Close it, or stop it dead wherever it is."""
        if not crash:
            for call in self._calls_to(sidecar):
                call.task.cancel()
            self.call(sidecar, sidecar.close)
            self.pass_time(_LONGEST_CALL_SECONDS)
            assert not self._calls_to(sidecar), "it does not come to its end"
        self.loop.kill(sidecar)
        self.pass_time()
        self.facts.ended(sidecar)

    def _calls_to(self, sidecar: FleetSidecar) -> list[Call]:
        return [call for call in self.calls if call.sidecar is sidecar]

    def end_trouble(self) -> None:
        """Everything answers again, what hangs goes on."""
        for kms in self.kmses.values():
            kms.fail_wrap_with = kms.fail_unwrap_with = None
        for link in self.links:
            link.down = None
            link.faults.clear()
        for held in list(self.held):
            held.release(fail=False)
        self.pass_time()

    def check_all_is_well(self) -> None:
        """Without trouble whatever was acknowledged decrypts on every sidecar, and all of them encrypt."""
        self.end_trouble()
        self.pass_time(_LONGEST_CALL_SECONDS)
        assert not self.calls, "calls wait for nothing"
        for sidecar in self.sidecars:
            assert sidecar.trouble_at < self.loop.time() - FORGIVING_SECONDS
            for values in (self.facts.values[at : at + _A_BATCH] for at in range(0, len(self.facts.values), _A_BATCH)):
                self.decrypt(sidecar, values)
            self.encrypt(sidecar, "default")
        self.pass_time()
        assert not self.calls, "calls wait although nothing is in trouble"

    def check(self) -> None:
        """What holds at every moment."""
        self.facts.check_database(self.sidecars)
        assert self.loop.defects == []

    def check_and_end(self) -> None:
        """All is well; then the sidecars are closed, and leave no plaintext data key behind."""
        try:
            self.check_all_is_well()
            for sidecar in self.sidecars:
                self.end(sidecar, crash=False)
            self.check()
            buffers = [buffer for kms in self.kmses.values() for buffer in kms.key_buffers]
            assert not any(map(any, buffers)), "a plaintext data key was left behind"
        finally:
            self.loop.close()
