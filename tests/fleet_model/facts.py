"""What is known of the fleet by what went in and came out, in plain dicts; and what must follow from it.

Nothing here asks a sidecar. A sidecar is an object with a name of its own; one that was restarted is another one.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from sidecar.crypto.format import RowFailure
from sidecar.errors import RETRYABLE, KmsDeniedError, KmsDisabledError, SidekeyError
from sidecar.keys.clock import Clock
from sidecar.keystore.port import DataKeyRecord, KeyState, Usage, WrappedCopy
from tests.fakes.keystore import MemoryDatabase
from tests.fleet_model.asks import Ask, Asks

FORGIVING_SECONDS = 6.0
"""A failure of any kind is remembered for less: so long after the last trouble nothing may fail."""


class KnownSidecar(Protocol):
    """What the facts need to be told of a sidecar."""

    made_on_call: Counter[str]
    """Rotations of each keyring that were asked of it and may still make a data key."""

    @property
    def clock(self) -> Clock:
        """Its clocks."""
        ...

    @property
    def trouble_at(self) -> float:
        """When one of its links last failed, refused or hung; now, where one hangs."""
        ...

    @property
    def outage_at(self) -> float:
        """The same without refusals."""
        ...

    def unflushed(self, key_id: str) -> int:
        """Values encrypted that the keystore is not known to have counted."""
        ...


@dataclass(frozen=True)
class Terms:
    """What the fleet was started with; seconds."""

    ttl: float
    stale: float
    refresh: float
    """No data key is unwrapped again earlier."""
    period: timedelta
    longest_lead: timedelta
    max_values: int
    prepared_values: int


@dataclass(frozen=True)
class Moment:
    """When a call began: the time, and its place among everything that was ever told."""

    time: float
    number: int


@dataclass(frozen=True)
class Acknowledged:
    """A value that a caller was given a ciphertext for."""

    keyring: str
    key_id: str
    plaintext: bytes
    ciphertext: bytes


class Facts:
    """Everything that was acknowledged, done and answered."""

    def __init__(self, terms: Terms, database: MemoryDatabase, asks: Asks) -> None:
        self.terms = terms
        self.values: list[Acknowledged] = []
        self.states: dict[str, list[tuple[float, KeyState]]] = {}
        """Of each data key, from when on."""
        self.encrypted: Counter[str] = Counter()
        self.counted_twice: Counter[str] = Counter()
        self.not_counted: Counter[str] = Counter()
        self.refusals: set[type[Exception]] = set()
        """What a KMS was ever set to refuse with."""
        self._rows = database.rows
        self._asks = asks
        self._told: dict[tuple[object, str], Moment] = {}
        self._proved: defaultdict[object, set[bytes]] = defaultdict(set)

    def moment(self) -> Moment:
        """Now."""
        self._asks.number += 1
        return Moment(self._asks.now(), self._asks.number)

    def told(self, sidecar: object, key_id: str) -> None:
        """A sidecar has told its caller that a data key is as it wanted it: disabled, it works there no more."""
        if self.states[key_id][-1][1] is not KeyState.ENABLED:
            self._told[sidecar, key_id] = self.moment()

    # --- What the links tell -------------------------------------------------------------------------------------

    def unwrapped(self, ask: Ask, wrapped_key: bytes) -> None:
        """A sidecar was given a data key."""
        self._proved[ask.sidecar].add(wrapped_key)

    def check_copies(self, sidecar: object, copies: Sequence[WrappedCopy], known: Sequence[WrappedCopy] = ()) -> None:
        """Nothing is stored that was not unwrapped before, by the sidecar that stores it."""
        unproved = [
            copy.kek_id for copy in copies if copy not in known and copy.wrapped_key not in self._proved[sidecar]
        ]
        self._asks.must(not unproved, f"stored without a proof: {unproved}")

    def check_insert(self, sidecar: object, record: DataKeyRecord) -> None:
        """Called before the keystore does it."""
        self.check_copies(sidecar, record.copies)

    def inserted(self, sidecar: KnownSidecar, record: DataKeyRecord, *, done: bool) -> None:
        """A new data key is durable: it is the next generation, and there was a reason for it."""
        if not done:
            return
        older = [row for row in self._rows.values() if row.keyring == record.keyring and row.key_id != record.key_id]
        self._asks.must(record.generation == len(older) + 1, "generations are 1, 2, … without a gap or a number twice")
        self.states[record.key_id] = [(self._asks.now(), KeyState.ENABLED)]
        enabled = [row for row in older if row.state is KeyState.ENABLED]
        if not enabled:
            self._asks.must(not older, "there was no primary to roll over")
            return
        primary = max(enabled, key=lambda row: row.generation)
        if not self._wants_rollover(sidecar, primary):
            self._asks.must(
                sidecar.made_on_call[record.keyring] > 0, f"{primary.key_id} was rolled over before its time"
            )
            sidecar.made_on_call[record.keyring] -= 1

    def _wants_rollover(self, sidecar: KnownSidecar, primary: DataKeyRecord) -> bool:
        terms = self.terms
        # While a flush is under way its counts may be on both sides: too many is safe, and documented.
        spent = primary.values_encrypted + 2 * sidecar.unflushed(primary.key_id)
        due_at = primary.created_at + terms.period - terms.longest_lead
        return sidecar.clock.now() >= due_at or spent >= terms.prepared_values

    def state_set(self, key_id: str, state: KeyState, *, done: bool) -> None:
        """The keystore changed a state, or found it so already."""
        if done and self.states[key_id][-1][1] is not state:
            self.states[key_id].append((self._asks.now(), state))
            if state is KeyState.ENABLED:
                self._told = {place: moment for place, moment in self._told.items() if place[1] != key_id}

    def keyring_of(self, key_id: str) -> str:
        """The keyring of a data key that was ever stored."""
        return self._rows[key_id].keyring

    def answer_to_usage_lost(self, usage: Mapping[str, Usage]) -> None:
        """The keystore has counted it and its sidecar does not know: it will be counted again."""
        for key_id, used in usage.items():
            self.counted_twice[key_id] += used.values_encrypted

    def ended(self, sidecar: KnownSidecar) -> None:
        """A sidecar is no more, and what it has not flushed is lost."""
        for key_id in self.states:
            self.not_counted[key_id] += sidecar.unflushed(key_id)

    # --- What callers were answered ------------------------------------------------------------------------------

    def check_encrypted(self, sidecar: KnownSidecar, begun: Moment, value: Acknowledged) -> None:
        """A value was encrypted, by a call that began then."""
        assert value.key_id in self._rows, "a value was acknowledged under a data key that is not durable"
        row = self._rows[value.key_id]
        assert row.keyring == value.keyring
        self._check_worked(sidecar, begun, value.key_id)
        since = begun.time - (self.terms.ttl if sidecar.outage_at == -math.inf else self.terms.stale)
        newer = [
            other.generation
            for other in self._rows.values()
            if other.keyring == row.keyring
            and other.generation > row.generation
            and self.enabled_throughout(other.key_id, since)
        ]
        assert not newer, f"generation {row.generation} encrypts although {newer} are there for longer than the limit"
        self.encrypted[value.key_id] += 1
        self.values.append(value)

    def check_decrypted(self, sidecar: KnownSidecar, begun: Moment, value: Acknowledged, plaintext: bytes) -> None:
        """A value was decrypted, by a call that began then."""
        assert plaintext == value.plaintext
        self._check_worked(sidecar, begun, value.key_id)

    def _check_worked(self, sidecar: KnownSidecar, begun: Moment, key_id: str) -> None:
        """Nothing works on what the keystore or the KMS said too long ago, or after a refusal."""
        ask = self._asks.last_unwrapped(sidecar, key_id)
        calm = sidecar.outage_at < (ask.ended if ask.fetched else -math.inf) or sidecar.outage_at == -math.inf
        since = begun.time - (self.terms.ttl if calm else self.terms.stale)
        assert self.enabled_at(key_id) > since, f"{key_id} works although it was disabled before the limit"
        assert ask.begun > since, f"{key_id} works although the KMS was not asked since the limit"
        told = self._told.get((sidecar, key_id))
        assert told is None or begun.number < told.number, f"{key_id} works where its disabling was acknowledged"
        refused = self._asks.refused.get((sidecar, key_id))
        assert refused is None or refused > begun.number, f"{key_id} works although the KMS has refused it"

    def check_failed(self, sidecar: KnownSidecar, begun: Moment, key_id: str, failure: RowFailure) -> None:
        """A row could not be decrypted: there must be a reason."""
        states = {state for _, state in self.states[key_id]}
        reasons = {
            RowFailure.KEY_UNAVAILABLE: sidecar.outage_at > -math.inf,
            RowFailure.KEY_DISABLED: KeyState.DISABLED in states or KmsDisabledError in self.refusals,
            RowFailure.KEY_DESTROYED: KeyState.DESTROYED in states,
            RowFailure.PERMISSION_DENIED: KmsDeniedError in self.refusals,
        }
        assert reasons.get(failure, False), f"{key_id}: {failure.name} without a reason"
        if self.enabled_throughout(key_id, begun.time - FORGIVING_SECONDS):
            self._check_troubled(sidecar, begun)

    def check_trouble(self, sidecar: KnownSidecar, begun: Moment, error: SidekeyError) -> None:
        """A call failed with what is said of trouble: there was some."""
        assert isinstance(error, RETRYABLE) or type(error) in self.refusals
        self._check_troubled(sidecar, begun)

    def _check_troubled(self, sidecar: KnownSidecar, begun: Moment) -> None:
        """A sidecar was in trouble during a call that has ended, or a moment before."""
        assert sidecar.trouble_at >= begun.time - FORGIVING_SECONDS, "a call failed without any trouble"

    # --- States ----------------------------------------------------------------------------------------------------

    def enabled_throughout(self, key_id: str, since: float) -> bool:
        """Whether a data key is there since then, and enabled all the time until now."""
        began_at, state = self.states[key_id][-1]
        return state is KeyState.ENABLED and began_at <= since

    def enabled_at(self, key_id: str) -> float:
        """When a data key was last enabled."""
        return next(
            (
                self._asks.now() if after is None else after
                for (_, state), after in reversed(self._with_ends(key_id))
                if state is KeyState.ENABLED
            ),
            -math.inf,
        )

    def _with_ends(self, key_id: str) -> list[tuple[tuple[float, KeyState], float | None]]:
        states = self.states[key_id]
        ends = [at for at, _ in states[1:]]
        return list(zip(states, [*ends, None], strict=True))

    def check_database(self, sidecars: Sequence[KnownSidecar]) -> None:
        """What holds at every moment, of every row."""
        assert not self._asks.found, self._asks.found
        assert self._rows.keys() == self.states.keys()
        generations: defaultdict[str, list[int]] = defaultdict(list)
        for key_id, row in self._rows.items():
            generations[row.keyring].append(row.generation)
            assert row.state is self.states[key_id][-1][1]
            destroyed = KeyState.DESTROYED in (state for _, state in self.states[key_id])
            assert destroyed is (row.state is KeyState.DESTROYED), "destroyed is final"
            assert destroyed is not bool(row.wrapped_key), "a destroyed data key has no copy, and any other one"
            assert not (destroyed and row.further_copies)
            assert row.values_encrypted <= self.encrypted[key_id] + self.counted_twice[key_id]
            counted = row.values_encrypted + sum(sidecar.unflushed(key_id) for sidecar in sidecars)
            assert counted >= self.encrypted[key_id] - self.not_counted[key_id], "counts were lost"
        assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in generations.values())
