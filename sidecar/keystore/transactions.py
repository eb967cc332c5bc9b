"""Transactions of an SQL keystore: bounded in time, run to their end, with foreign exceptions stopped here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sidecar.errors import KeystoreUnavailableError, SidekeyError

_T = TypeVar("_T")
Refusal = Callable[[Exception], SidekeyError | None]
"""The error of ours for a foreign one; None where it is no more than an outage."""
_TEXT: Final = "the keystore cannot be reached, or did not do its work in time"

log = structlog.get_logger(__name__)


class Transactions:
    """Runs units of work, each in one transaction on a connection of ``engine``, which it owns.

    A caller may leave at any moment: by its deadline, or cancelled. The transaction goes on without it and is committed
    or rolled back as a whole, since a driver that is cancelled amid a call may be left with a connection that neither
    works nor closes. The database's own limits (lock, pool and statement timeouts) end what would hang.
    """

    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float, writes_at_once: int | None = None) -> None:
        """``writes_at_once``: so many transactions that write run at one time, the others in turn; None: all."""
        self._engine = engine
        self._timeout_seconds = timeout_seconds
        self._write_turns = None if writes_at_once is None else asyncio.Semaphore(writes_at_once)
        self._running: set[asyncio.Task[object]] = set()

    async def run(
        self,
        work: Callable[[AsyncConnection], Awaitable[_T]],
        *,
        write: bool = False,
        refusal: Refusal = lambda _error: None,
    ) -> _T:
        """The result of ``work``, committed; raises ``KeystoreUnavailableError``, or the error of ours ``work`` raises.

        ``write`` marks a transaction that writes, for the engine. ``refusal`` may know a better error.
        """
        task = asyncio.create_task(self._transact(work, write, refusal))
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise _unavailable(error) from None

    async def close(self) -> None:
        """Let the running transactions end, then close all connections."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=2 * self._timeout_seconds)
        await self._engine.dispose()

    def _ended(self, task: "asyncio.Task[object]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here, since its caller may have left, and has then been told of its deadline

    async def _transact(self, work: Callable[[AsyncConnection], Awaitable[_T]], write: bool, refusal: Refusal) -> _T:
        try:
            async with self._turn(write), self._engine.connect() as plain:
                connection = await plain.execution_options(write=write)
                async with connection.begin():
                    return await work(connection)
        except SidekeyError:
            raise
        except Exception as error:  # noqa: BLE001 - foreign: its text may hold SQL, addresses and rows
            raise refusal(error) or _unavailable(error) from None

    @asynccontextmanager
    async def _turn(self, write: bool) -> AsyncIterator[None]:
        if self._write_turns is None or not write:
            yield
            return
        async with asyncio.timeout(self._timeout_seconds):
            await self._write_turns.acquire()
        try:
            yield
        finally:
            self._write_turns.release()


def _unavailable(error: Exception) -> KeystoreUnavailableError:
    log.warning("keystore_call_failed", error=type(error).__name__)
    return KeystoreUnavailableError(_TEXT)
