"""A keystore that reads data keys many at a time, however singly they are asked for."""

import asyncio
from collections.abc import Sequence

import structlog

from sidecar.errors import CorruptKeyError, SidekeyError
from sidecar.keystore.forwarding import ForwardingKeystore
from sidecar.keystore.port import MOST_IDS, DataKeyRecord, Keystore

log = structlog.get_logger(__name__)


class GatheringKeystore(ForwardingKeystore):
    """Implements the port on top of another implementation: the ``get`` calls of one turn of the event loop become one
    ``get_many``, or a few where there are thousands. For one event loop.
    """

    def __init__(self, keystore: Keystore) -> None:
        super().__init__(keystore)
        self._wanted: dict[str, asyncio.Future[DataKeyRecord | None]] = {}
        self._reads: set[asyncio.Task[None]] = set()

    async def get(self, key_id: str) -> DataKeyRecord | None:
        """As the port."""
        if not self._wanted:
            asyncio.get_running_loop().call_soon(self._read_wanted)
        answer = self._wanted.get(key_id)
        if answer is None:
            answer = self._wanted[key_id] = asyncio.get_running_loop().create_future()
        try:
            # Shielded: a caller that is cancelled leaves the answer to the others.
            return await asyncio.shield(answer)
        except SidekeyError as error:
            raise type(error)(*error.args) from None

    async def close(self) -> None:
        """As the port; reads that nobody can wait for any more end."""
        for read in self._reads:
            read.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)
        await super().close()

    def _read_wanted(self) -> None:
        wanted, self._wanted = self._wanted, {}
        key_ids = list(wanted)
        for start in range(0, len(key_ids), MOST_IDS):
            part = {key_id: wanted[key_id] for key_id in key_ids[start : start + MOST_IDS]}
            read = asyncio.create_task(self._answer(part), name="sidekey-read")
            self._reads.add(read)
            read.add_done_callback(self._reads.discard)

    async def _answer(self, wanted: dict[str, asyncio.Future[DataKeyRecord | None]]) -> None:
        try:
            found = await self._read(list(wanted))
        except BaseException as error:
            for answer in wanted.values():
                _fail(answer, error)
            if not isinstance(error, Exception):
                raise
            return
        for key_id, answer in wanted.items():
            record = found.get(key_id)
            if answer.done():
                continue
            if isinstance(record, CorruptKeyError):
                _fail(answer, record)
            else:
                answer.set_result(record)

    async def _read(self, key_ids: Sequence[str]) -> dict[str, DataKeyRecord | CorruptKeyError]:
        """One round trip; more only where a row does not parse, to tell it from the others, by halves."""
        try:
            return dict(await self._asked(self._keystore.get_many(key_ids)))
        except CorruptKeyError as error:
            if len(key_ids) == 1:
                log.error(  # noqa: TRY400  (nothing is known beyond what is said here)
                    "data_key_corrupt", key_id=key_ids[0], hint="its row of the keystore does not parse: restore it"
                )
                return {key_ids[0]: error}
        middle = len(key_ids) // 2
        return {**await self._read(key_ids[:middle]), **await self._read(key_ids[middle:])}


def _fail(answer: "asyncio.Future[DataKeyRecord | None]", error: BaseException) -> None:
    if answer.done():
        return
    if isinstance(error, asyncio.CancelledError):
        answer.cancel()
        return
    answer.set_exception(error)
    answer.exception()  # retrieved here, since all who asked may have left
