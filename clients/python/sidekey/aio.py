"""The client for asyncio. Owns one channel a process and event loop; everything else is shared with ``Client``."""

from __future__ import annotations

import asyncio
import itertools
import os
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import grpc
import grpc.aio

from sidekey import _operations as operations
from sidekey import _plan
from sidekey._exchange import Conversation, Message
from sidekey._operations import Settings
from sidekey._retry import Attempts
from sidekey._status import FailedCall, Failure, failure_of
from sidekey._terms import FixedMode, Mode, OnError, Reencryption, Request, method_name
from sidekey.errors import RowError
from sidekey.info import ServerInfo, info_of
from sidekey.reports import ReencryptReport
from sidekey.v1 import encryption_pb2_grpc, info_pb2, info_pb2_grpc

if TYPE_CHECKING:
    import pyarrow as pa

    from sidekey._operations import AnyArray

A = TypeVar("A")
C = TypeVar("C", bound=Conversation[Any])

_pids: list[int] = []
"""The process that used gRPC's asyncio first, once there is one."""


def _check_fork() -> None:
    """Raises RuntimeError where gRPC would hang: a child's poller is a thread of its parent's, which no fork copies."""
    if not _pids:
        _pids.append(os.getpid())
    if _pids[0] != os.getpid():
        raise RuntimeError(
            "this process was forked after its parent had used AsyncClient, which gRPC's asyncio does not survive: "
            "start processes with spawn, or fork before the first call"
        )


async def _call(
    send: Callable[[float], Awaitable[A]], accept: Callable[[A], Failure | None], attempts: Attempts
) -> None:
    """Send one message until ``accept`` is content with the answer; ``send`` takes its timeout in seconds."""
    while True:
        try:
            answer = await send(attempts.begin())
        except grpc.RpcError as error:
            failure: Failure | None = failure_of(cast("FailedCall", error))
        else:
            failure = accept(answer)
        if failure is None:
            return
        await asyncio.sleep(attempts.pause(failure))


class _Stubs:
    """A channel and what speaks over it; belongs to the process and the loop that it was made in."""

    def __init__(self, settings: Settings) -> None:
        _check_fork()
        self._pid = os.getpid()
        self._loop = weakref.ref(asyncio.get_running_loop())
        if settings.credentials is None:
            self.channel = grpc.aio.insecure_channel(settings.target, options=settings.options)
        else:
            self.channel = grpc.aio.secure_channel(settings.target, settings.credentials, options=settings.options)
        self._encryption = encryption_pb2_grpc.EncryptionServiceStub(self.channel)
        self.server_info: Any = info_pb2_grpc.InfoServiceStub(self.channel).GetServerInfo

    def are_mine(self) -> bool:
        return self._pid == os.getpid() and self._loop() is asyncio.get_running_loop()

    def method(self, request: Request) -> Any:
        return getattr(self._encryption, method_name(request))


class AsyncClient:
    """``Client`` for asyncio: the same arguments, results and errors; every method but the constructor is awaited.

    The channel is made by the first call and belongs to its event loop; under another loop another is made. A process
    forked after the first call cannot use it (RuntimeError): gRPC's asyncio does not survive a fork.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float = 30.0,
        max_in_flight: int = 4,
        message_bytes: int = _plan.MESSAGE_BYTES,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: Mapping[str, str | int] | None = None,
    ) -> None:
        """Arguments and errors as in ``Client``; connects when first used."""
        self._settings = Settings.of(target, timeout, max_in_flight, message_bytes, credentials, channel_options)
        self._current: _Stubs | None = None
        self._closed = False

    async def encrypt(
        self,
        values: Iterable[bytes | None],
        *,
        keyring: str = "default",
        associated_data: bytes = b"",
        mode: Mode = "randomized",
    ) -> list[bytes | None]:
        """Encrypt a list of bytes or None; arguments, result and errors as in ``Client.encrypt``."""
        done = await self._run(operations.encrypt_values(self._settings, values, keyring, associated_data, mode))
        return done.result()

    async def decrypt(
        self,
        values: Iterable[bytes | None],
        *,
        associated_data: bytes = b"",
        keyring: str | None = None,
        on_error: OnError = "raise",
    ) -> list[bytes | None]:
        """Decrypt a list of ciphertexts or None; arguments, result and errors as in ``Client.decrypt``."""
        done = await self._run(operations.decrypt_values(self._settings, values, associated_data, keyring, on_error))
        return done.result()

    async def decrypt_with_errors(
        self, values: Iterable[bytes | None], *, associated_data: bytes = b"", keyring: str | None = None
    ) -> tuple[list[bytes | None], list[RowError]]:
        """As ``decrypt`` with ``on_error="null"``; returns also the rows that cannot be decrypted, in rising order."""
        done = await self._run(operations.decrypt_values(self._settings, values, associated_data, keyring, "null"))
        return done.result(), done.row_errors()

    async def encrypt_array(
        self, array: AnyArray, *, keyring: str = "default", associated_data: bytes = b"", mode: Mode = "randomized"
    ) -> Any:
        """Encrypt a pyarrow array; arguments, result and errors as in ``Client.encrypt_array``."""
        done = await self._run(operations.encrypt_array(self._settings, array, keyring, associated_data, mode))
        return done.result()

    async def decrypt_array(
        self,
        array: AnyArray,
        *,
        type: pa.DataType | None = None,  # noqa: A002
        associated_data: bytes = b"",
        keyring: str | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Decrypt a pyarrow array to ``type``; arguments, result and errors as in ``Client.decrypt_array``."""
        done = await self._run(
            operations.decrypt_array(self._settings, array, type, associated_data, keyring, on_error)
        )
        return done.result()

    async def decrypt_array_with_errors(
        self,
        array: AnyArray,
        *,
        type: pa.DataType | None = None,  # noqa: A002
        associated_data: bytes = b"",
        keyring: str | None = None,
    ) -> tuple[Any, list[RowError]]:
        """As ``decrypt_array`` with ``on_error="null"``; returns also the rows that cannot be decrypted."""
        done = await self._run(operations.decrypt_array(self._settings, array, type, associated_data, keyring, "null"))
        return done.result(), done.row_errors()

    async def reencrypt(
        self,
        values: Iterable[bytes | None],
        *,
        associated_data: bytes = b"",
        keyring: str | None = None,
        to_keyring: str | None = None,
        to_associated_data: bytes | None = None,
        to_mode: FixedMode | None = None,
        on_error: OnError = "raise",
    ) -> list[bytes | None]:
        """Reencrypt a list of ciphertexts or None; arguments, result and errors as in ``Client.reencrypt``."""
        terms = Reencryption(associated_data, keyring, to_keyring, to_associated_data, to_mode, on_error)
        return (await self._run(operations.reencrypt_values(self._settings, values, terms))).result()

    async def reencrypt_with_report(
        self,
        values: Iterable[bytes | None],
        *,
        associated_data: bytes = b"",
        keyring: str | None = None,
        to_keyring: str | None = None,
        to_associated_data: bytes | None = None,
        to_mode: FixedMode | None = None,
    ) -> ReencryptReport[list[bytes | None]]:
        """As ``reencrypt`` with ``on_error="null"``; also what could not be, and what needed not be reencrypted."""
        terms = Reencryption(associated_data, keyring, to_keyring, to_associated_data, to_mode, "null")
        return operations.report(await self._run(operations.reencrypt_values(self._settings, values, terms)))

    async def reencrypt_array(
        self,
        array: AnyArray,
        *,
        associated_data: bytes = b"",
        keyring: str | None = None,
        to_keyring: str | None = None,
        to_associated_data: bytes | None = None,
        to_mode: FixedMode | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Reencrypt a pyarrow array; arguments, result and errors as in ``Client.reencrypt_array``."""
        terms = Reencryption(associated_data, keyring, to_keyring, to_associated_data, to_mode, on_error)
        return (await self._run(operations.reencrypt_array(self._settings, array, terms))).result()

    async def reencrypt_array_with_report(
        self,
        array: AnyArray,
        *,
        associated_data: bytes = b"",
        keyring: str | None = None,
        to_keyring: str | None = None,
        to_associated_data: bytes | None = None,
        to_mode: FixedMode | None = None,
    ) -> ReencryptReport[Any]:
        """As ``reencrypt_array`` with ``on_error="null"``; also what could not be, and what needed not be."""
        terms = Reencryption(associated_data, keyring, to_keyring, to_associated_data, to_mode, "null")
        return operations.report(await self._run(operations.reencrypt_array(self._settings, array, terms)))

    async def query_tokens(
        self, values: Iterable[bytes | None], *, keyring: str = "default", associated_data: bytes = b""
    ) -> list[list[bytes] | None]:
        """The tokens of a list of bytes or None; arguments, result and errors as in ``Client.query_tokens``."""
        done = await self._run(operations.query_values(self._settings, values, keyring, associated_data))
        return done.result()  # type: ignore[no-any-return]

    async def query_tokens_array(
        self, array: AnyArray, *, keyring: str = "default", associated_data: bytes = b""
    ) -> Any:
        """The tokens of a pyarrow array; arguments, result and errors as in ``Client.query_tokens_array``."""
        return (await self._run(operations.query_array(self._settings, array, keyring, associated_data))).result()

    async def server_info(self) -> ServerInfo:
        """What the sidecar says of itself. Raises SidekeyError."""
        ask, question = self._stubs().server_info, info_pb2.GetServerInfoRequest()
        answers: list[info_pb2.GetServerInfoResponse] = []
        await _call(lambda timeout: ask(question, timeout=timeout), answers.append, self._settings.attempts())
        return info_of(answers[0])

    async def close(self) -> None:
        """Close the channel; calls that are running fail. May be called twice."""
        self._closed = True
        stubs, self._current = self._current, None
        if stubs is not None and stubs.are_mine():
            await stubs.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _stubs(self) -> _Stubs:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._current is None or not self._current.are_mine():
            self._current = _Stubs(self._settings)
        return self._current

    async def _run(self, exchange: C) -> C:
        messages = exchange.messages()
        first = list(itertools.islice(messages, exchange.head))
        if len(first) == 1:
            await self._send(exchange, first[0])
            first = list(itertools.islice(messages, 1))
        if first:
            await self._send_all(exchange, itertools.chain(first, messages))
        return exchange

    async def _send_all(self, exchange: Conversation[Any], messages: Iterator[Message]) -> None:
        """Each worker takes the next message when it is free; when one fails, the others are cancelled."""

        async def worker() -> None:
            for message in messages:
                await self._send(exchange, message)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.max_in_flight):
                    group.create_task(worker())
        except BaseExceptionGroup as failed:
            first = failed.exceptions[0]
        else:
            return
        raise first

    async def _send(self, exchange: Conversation[Any], message: Message) -> None:
        method = self._stubs().method(message.request)
        await _call(
            lambda timeout: method(message.request, timeout=timeout),
            lambda answer: exchange.accept(message, answer),
            self._settings.attempts(),
        )
