"""Between one sidecar and one service: every await on the way there and back may fail, or hang until it is released.

The fakes behind it really store and really wrap; what they have done is told to the facts at the moment it is done.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar, cast

from sidecar.crypto import key_schedule
from sidecar.errors import RETRYABLE, KeystoreUnavailableError, KmsUnavailableError, SidekeyError
from sidecar.keystore.forwarding import ForwardingKeystore
from sidecar.keystore.port import DataKeyRecord, KeyState, Keystore, Usage, WrappedCopy
from tests.fakes.kms import FakeKms
from tests.fleet_model.asks import Asks
from tests.fleet_model.facts import Facts, KnownSidecar
from tests.fleet_model.stepping import SteppingLoop

DEADLINE_SECONDS = 5.0
Service = Literal["keystore", "kms"]
_T = TypeVar("_T")
_OUTAGES = {"keystore": KeystoreUnavailableError, "kms": KmsUnavailableError}


@dataclass(eq=False)
class Held:
    """A call that hangs; ``outcome`` takes None to let it go on, or what it fails with."""

    link: "Link"
    outcome: asyncio.Future[None]

    def release(self, *, fail: bool) -> None:
        """Let it go on, or fail."""
        if self.outcome.done():
            return
        if fail:
            self.outcome.set_exception(self.link.outage())
        else:
            self.outcome.set_result(None)


@dataclass(eq=False)
class Link:
    """Knobs. A call passes it twice: before its work, and with its answer.

    ``down``: what every call fails with before its work. ``faults``: after so many passings the next one fails or is
    held, the first of the list first. ``held``: what hangs, in the order in which it came.
    """

    loop: SteppingLoop
    service: Service
    held: list[Held]
    down: type[SidekeyError] | None = None
    faults: list[tuple[int, Literal["fail", "hold"]]] = field(default_factory=list)
    trouble_at: float = -math.inf
    """When it last failed, refused or hung."""
    outage_at: float = -math.inf
    """The same without refusals."""

    def outage(self) -> SidekeyError:
        """What it fails with where nothing else is said."""
        return _OUTAGES[self.service]("the link is down")

    def met(self, error: BaseException) -> None:
        """A call ended so, here or behind it."""
        self.trouble_at = self.loop.time()
        if not isinstance(error, SidekeyError) or isinstance(error, RETRYABLE):
            self.outage_at = self.loop.time()

    async def pass_there(self) -> None:
        """Before the work."""
        if self.down is not None:
            raise self.down("the service is away")
        await self._pass()

    async def pass_back(self) -> None:
        """With the answer."""
        await self._pass()

    async def _pass(self) -> None:
        if not self.faults:
            return
        wait, fault = self.faults[0]
        if wait:
            self.faults[0] = (wait - 1, fault)
            return
        del self.faults[0]
        if fault == "fail":
            raise self.outage()
        held = Held(self, self.loop.create_future())
        self.held.append(held)
        try:
            await held.outcome
        finally:
            self.held.remove(held)
            self.trouble_at = self.loop.time()


class LinkedKeystore(ForwardingKeystore):
    """The shared database as one sidecar reaches it; in bounded time, as the port wants it."""

    def __init__(self, keystore: Keystore, link: Link, facts: Facts, asks: Asks, sidecar: KnownSidecar) -> None:
        super().__init__(keystore)
        self._link = link
        self._facts = facts
        self._asks = asks
        self._sidecar = sidecar

    async def _asked(self, answer: Awaitable[_T]) -> _T:
        with closing(cast(Any, answer)):  # a coroutine, which never runs where the call does not get there
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await self._link.pass_there()
                    found = await answer
                    await self._link.pass_back()
                    return found
            except TimeoutError:
                self._link.met(self._link.outage())
                raise KeystoreUnavailableError("the keystore does not answer in time") from None
            except BaseException as error:
                self._link.met(error)
                raise

    async def insert(self, record: DataKeyRecord) -> bool:
        """As the port."""
        self._facts.check_insert(self._sidecar, record)
        return await self._asked(
            _told(
                lambda: self._keystore.insert(record),
                lambda done: self._facts.inserted(self._sidecar, record, done=done),
            )
        )

    async def set_state(self, key_id: str, state: KeyState, *, at: datetime) -> bool:
        """As the port."""
        try:
            return await self._asked(
                _told(
                    lambda: self._keystore.set_state(key_id, state, at=at),
                    lambda done: self._facts.state_set(key_id, state, done=done),
                )
            )
        finally:
            self._asks.forgotten(self._sidecar, self._facts.keyring_of(key_id), key_id)

    async def replace_copies(self, key_id: str, expected: Sequence[WrappedCopy], copies: Sequence[WrappedCopy]) -> bool:
        """As the port."""
        self._facts.check_copies(self._sidecar, copies, known=expected)
        return await self._asked(self._keystore.replace_copies(key_id, expected, copies))

    async def add_usage(self, usage: Mapping[str, Usage]) -> Mapping[str, SidekeyError]:
        """As the port."""
        added: list[Mapping[str, SidekeyError]] = []
        try:
            return await self._asked(_told(lambda: self._keystore.add_usage(usage), added.append))
        except BaseException:
            if added:
                self._facts.answer_to_usage_lost(usage)
            raise


class LinkedKms:
    """A KMS as one sidecar reaches it. Implements the port."""

    name = "linked"

    def __init__(self, kms: FakeKms, link: Link, facts: Facts, asks: Asks, sidecar: KnownSidecar) -> None:
        self._kms = kms
        self._link = link
        self._facts = facts
        self._asks = asks
        self._sidecar = sidecar

    @property
    def kek_id(self) -> str:
        """As the port."""
        return self._kms.kek_id

    def may_unwrap(self, kek_id: str) -> bool:
        """As the port."""
        return self._kms.may_unwrap(kek_id)

    async def open(self) -> None:
        """As the port."""
        await self._kms.open()

    async def close(self) -> None:
        """As the port."""
        await self._kms.close()

    async def wrap(self, data_key: bytes | bytearray, encryption_context: Mapping[str, str]) -> bytes:
        """As the port."""
        ask = self._asks.asked(self._sidecar, self._kms, "wrap", encryption_context)
        try:
            await self._link.pass_there()
            wrapped_key = await self._kms.wrap(data_key, encryption_context)
            await self._link.pass_back()
        except BaseException as error:
            self._link.met(error)
            self._asks.answered(ask, error)
            raise
        self._asks.answered(ask, None)
        return wrapped_key

    async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
        """As the port; an answer that gets lost is overwritten, as a provider does."""
        ask = self._asks.asked(self._sidecar, self._kms, "unwrap", encryption_context)
        data_key = bytearray()
        try:
            await self._link.pass_there()
            data_key = await self._kms.unwrap(wrapped_key, encryption_context)
            await self._link.pass_back()
        except BaseException as error:
            key_schedule.overwrite(data_key)
            self._link.met(error)
            self._asks.answered(ask, error)
            raise
        self._asks.answered(ask, None)
        self._facts.unwrapped(ask, wrapped_key)
        return data_key


async def _told(ask: Callable[[], Awaitable[_T]], tell: Callable[[_T], None]) -> _T:
    """The answer of a fake, which has done its work when it is there; told in the same moment."""
    found = await ask()
    tell(found)
    return found
