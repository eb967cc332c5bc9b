"""One server and one channel to it: makes the calls of a case, after proving that they are answered rightly."""

from functools import partial
from typing import Self

import grpc.aio
from sidekey.v1 import encryption_pb2_grpc as pb_grpc

from bench import wire
from bench.cases import Case, Direction
from bench.measure import Call, Contender, over_grpc
from bench.results import Repeat
from bench.servers import Server

_TIMEOUT_SECONDS = 30.0


class ContenderFailedError(Exception):
    """A contender answered with an error; the text is its gRPC status."""

    def __init__(self, contender: str, status: str) -> None:
        super().__init__(status)
        self.contender = contender
        self.status = status


class Caller:
    """Calls one server with the generated stub, with messages that are built before the clock runs."""

    def __init__(self, server: Server, *, exact: bool) -> None:
        """``exact``: what is encrypted must decrypt to itself; otherwise the sizes of the answers must be right."""
        self.server = server
        self._exact = exact

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.server.target, options=wire.CLIENT_OPTIONS)
        # The stub is the same class for both kinds of channel; its types know them as two.
        self._stub: pb_grpc.EncryptionServiceAsyncStub = pb_grpc.EncryptionServiceStub(self._channel)  # type: ignore[assignment]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def contender(self, case: Case, in_flight: int) -> Contender:
        """The case as something to measure.

        Raises ``WrongAnswerError`` where an answer is wrong, and, like the contender, ``ContenderFailedError``.
        """
        try:
            run = over_grpc(await self._call(case), in_flight)
        except grpc.aio.AioRpcError as error:
            raise ContenderFailedError(self.server.name, error.code().name) from error
        return partial(self._guarded, run)

    async def _call(self, case: Case) -> Call:
        encrypt = wire.encrypt_request(case)
        encrypted = await self._stub.Encrypt(encrypt, timeout=_TIMEOUT_SECONDS)
        wire.check_sizes(case, Direction.ENCRYPT, wire.batch_of(encrypted))
        decrypt = wire.decrypt_request(encrypted)
        decrypted = wire.batch_of(await self._stub.Decrypt(decrypt, timeout=_TIMEOUT_SECONDS))
        wire.check_sizes(case, Direction.DECRYPT, decrypted)
        if self._exact:
            wire.check_plaintext(case, decrypted)
        if case.direction is Direction.ENCRYPT:
            return partial(self._stub.Encrypt, encrypt, timeout=_TIMEOUT_SECONDS)
        return partial(self._stub.Decrypt, decrypt, timeout=_TIMEOUT_SECONDS)

    async def _guarded(self, run: Contender, seconds: float) -> Repeat:
        try:
            return await run(seconds)
        except grpc.aio.AioRpcError as error:
            raise ContenderFailedError(self.server.name, error.code().name) from error
