"""The client for threads. Owns one channel a process; everything else is shared with the async client."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from sidekey import _operations as operations
from sidekey import _plan
from sidekey._exchange import Conversation
from sidekey._link import Link, Stubs
from sidekey._operations import Settings
from sidekey._terms import FixedMode, Mode, OnError, Reencryption
from sidekey._window import Window, call
from sidekey.errors import RowError
from sidekey.info import ServerInfo, info_of
from sidekey.reports import ReencryptReport
from sidekey.v1 import info_pb2

if TYPE_CHECKING:
    import pyarrow as pa

    from sidekey._operations import AnyArray

C = TypeVar("C", bound=Conversation[Any])


class Client:
    """Encrypts and decrypts columns through a Sidekey sidecar.

    Threads may share a client. A forked child makes its own channel, if no call was running when it was forked. Large
    inputs are cut into messages of which several are under way at once; one that finds the sidecar or its KMS away is
    sent again until the timeout is over.
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
        """Connects when first used.

        Args:
            target: ``unix:///path/to/sidekey.sock`` or ``host:port``; by default ``$SIDEKEY_TARGET``.
            timeout: Seconds for each message, tries again included; a large column is many messages.
            max_in_flight: How many messages of one call may be under way at once.
            message_bytes: What a message aims at, in bytes, question or answer, whichever is longer.
            credentials: For TLS; by default the channel is plaintext, as for a Unix socket or loopback.
            channel_options: gRPC channel arguments on top of the client's own.

        Raises:
            ValueError: No target, or an argument out of range; the text says what would be right.
        """
        self._settings = Settings.of(target, timeout, max_in_flight, message_bytes, credentials, channel_options)
        self._links: dict[int, Link] = {}
        self._closed = False

    def encrypt(
        self,
        values: Iterable[bytes | None],
        *,
        keyring: str = "default",
        associated_data: bytes = b"",
        mode: Mode = "randomized",
    ) -> list[bytes | None]:
        """Encrypt a list of values; None stays None.

        Args:
            values: bytes of at most 8 MiB each, or None.
            keyring: Whose primary data key encrypts.
            associated_data: At most 64 KiB that decrypt must be given again; they are not in the ciphertext.
            mode: "randomized", "deterministic" (equal values give equal ciphertexts, for joins and GROUP BY), or
                "default": as the keyring is set.

        Returns:
            A ciphertext for each value, in order: 40 bytes longer, 24 if deterministic.

        Raises:
            TypeError: A row is neither bytes nor None.
            SidekeyError: As its subclasses say; InvalidArgumentError for a row that is too long.
        """
        return self._run(operations.encrypt_values(self._settings, values, keyring, associated_data, mode)).result()

    def decrypt(
        self,
        values: Iterable[bytes | None],
        *,
        associated_data: bytes = b"",
        keyring: str | None = None,
        on_error: OnError = "raise",
    ) -> list[bytes | None]:
        """Decrypt a list of ciphertexts, of any keys and modes; None stays None.

        Args:
            values: Ciphertexts, or None.
            associated_data: The bytes that encrypt was given.
            keyring: If given, a row of another keyring is an error.
            on_error: "raise", or "null": rows that cannot be decrypted become None (``decrypt_with_errors`` also says
                which and why).

        Returns:
            A value for each ciphertext, in order.

        Raises:
            TypeError: A row is neither bytes nor None.
            DecryptionError, KeyStateError, PermissionDeniedError: Rows cannot be decrypted; ``rows`` holds the first.
            UnavailableError: The sidecar or a row's data key cannot be had now, whatever ``on_error`` says.
            SidekeyError: As its other subclasses say.
        """
        return self._run(operations.decrypt_values(self._settings, values, associated_data, keyring, on_error)).result()

    def decrypt_with_errors(
        self, values: Iterable[bytes | None], *, associated_data: bytes = b"", keyring: str | None = None
    ) -> tuple[list[bytes | None], list[RowError]]:
        """As ``decrypt`` with ``on_error="null"``; returns also the rows that cannot be decrypted, in rising order."""
        done = self._run(operations.decrypt_values(self._settings, values, associated_data, keyring, "null"))
        return done.result(), done.row_errors()

    def encrypt_array(
        self, array: AnyArray, *, keyring: str = "default", associated_data: bytes = b"", mode: Mode = "randomized"
    ) -> Any:
        """Encrypt a pyarrow array or chunked array; NULL stays NULL.

        Args:
            array: Of binary or text (also large, views, fixed-size), booleans, numbers, decimals, dates, times,
                timestamps, durations, or dictionaries of those.
            keyring, associated_data, mode: As in ``encrypt``.

        Returns:
            For types of a fixed width w, fixed-size binary of w + 40 (deterministic: w + 24); otherwise binary, or
            large binary over 2 GiB. Chunked if ``array`` is.

        Raises:
            TypeError: The array's type has no bytes for its rows (list, struct, null, ...).
            ImportError: pyarrow or numpy is missing: ``pip install 'sidekey[arrow]'``.
            SidekeyError: As its subclasses say.
        """
        return self._run(operations.encrypt_array(self._settings, array, keyring, associated_data, mode)).result()

    def decrypt_array(
        self,
        array: AnyArray,
        *,
        type: pa.DataType | None = None,  # noqa: A002
        associated_data: bytes = b"",
        keyring: str | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Decrypt a pyarrow array or chunked array of ciphertexts to a type; NULL stays NULL.

        Args:
            array: Of binary (also large, view), fixed-size binary, or dictionaries of those.
            type: What comes back, by default ``pyarrow.binary()``; the type that was encrypted gives the equal array.
            associated_data, keyring, on_error: As in ``decrypt``.

        Returns:
            An array of ``type``, chunked if ``array`` is.

        Raises:
            TypeError: The array or the type is of a kind that ``encrypt_array`` does not take or give.
            InvalidArgumentError: What was encrypted does not fit ``type`` (width, UTF-8, true or false).
            ImportError: pyarrow or numpy is missing: ``pip install 'sidekey[arrow]'``.
            SidekeyError: As in ``decrypt``.
        """
        return self._run(
            operations.decrypt_array(self._settings, array, type, associated_data, keyring, on_error)
        ).result()

    def decrypt_array_with_errors(
        self,
        array: AnyArray,
        *,
        type: pa.DataType | None = None,  # noqa: A002
        associated_data: bytes = b"",
        keyring: str | None = None,
    ) -> tuple[Any, list[RowError]]:
        """As ``decrypt_array`` with ``on_error="null"``; returns also the rows that cannot be decrypted."""
        done = self._run(operations.decrypt_array(self._settings, array, type, associated_data, keyring, "null"))
        return done.result(), done.row_errors()

    def reencrypt(
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
        """Encrypt ciphertexts again under a keyring's primary; the plaintext stays in the sidecar. None stays None.

        Rows that are so already are verified, and come back as the same bytes.

        Args:
            values: Ciphertexts of any keys and modes, or None.
            associated_data: The bytes that encrypt was given.
            keyring: If given, a row of another keyring is an error.
            to_keyring: Whose primary encrypts; by default ``keyring``, and without that "default".
            to_associated_data: What decrypt must be given from now on; by default ``associated_data``.
            to_mode: "randomized" or "deterministic"; by default each row keeps its mode.
            on_error: As in ``decrypt``; such rows are no longer there in the answer, so keep the question.

        Returns:
            A ciphertext for each ciphertext, in order.

        Raises:
            As ``decrypt``, and InvalidArgumentError where ``to_keyring`` does not allow a row's mode.
        """
        terms = Reencryption(associated_data, keyring, to_keyring, to_associated_data, to_mode, on_error)
        return self._run(operations.reencrypt_values(self._settings, values, terms)).result()

    def reencrypt_with_report(
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
        return operations.report(self._run(operations.reencrypt_values(self._settings, values, terms)))

    def reencrypt_array(
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
        """As ``reencrypt``, for a pyarrow array or chunked array of ciphertexts; NULL stays NULL.

        Args:
            array: Of binary (also large, view), fixed-size binary, or dictionaries of those.
            associated_data, keyring, to_keyring, to_associated_data, to_mode, on_error: As in ``reencrypt``.

        Returns:
            Fixed-size binary where ``array`` is, 16 bytes wider or narrower if the mode changed; otherwise binary, or
            large binary over 2 GiB. Chunked if ``array`` is.

        Raises:
            TypeError: The array is of a kind that ``decrypt_array`` does not take.
            InvalidArgumentError: A fixed-size array holds rows of both modes, whose answers are not equally wide.
            ImportError: pyarrow or numpy is missing: ``pip install 'sidekey[arrow]'``.
            SidekeyError: As in ``reencrypt``.
        """
        terms = Reencryption(associated_data, keyring, to_keyring, to_associated_data, to_mode, on_error)
        return self._run(operations.reencrypt_array(self._settings, array, terms)).result()

    def reencrypt_array_with_report(
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
        return operations.report(self._run(operations.reencrypt_array(self._settings, array, terms)))

    def query_tokens(
        self, values: Iterable[bytes | None], *, keyring: str = "default", associated_data: bytes = b""
    ) -> list[list[bytes] | None]:
        """For each value its deterministic ciphertexts under every live data key of a keyring, for predicates.

        A row that was encrypted deterministically before the last rotation has another ciphertext than the same value
        today; it is always one of the value's tokens.

        Args:
            values: bytes of at most 8 MiB each, or None.
            keyring: Whose data keys.
            associated_data: The bytes that the rows were encrypted with.

        Returns:
            For each value its tokens, those of the newest data key first; None for None.

        Raises:
            TypeError: A row is neither bytes nor None.
            InvalidArgumentError: The keyring does not allow the deterministic mode, or a row is too long.
            LimitError: One value's tokens are too long for a message.
            SidekeyError: As its other subclasses say.
        """
        done = self._run(operations.query_values(self._settings, values, keyring, associated_data))
        return done.result()  # type: ignore[no-any-return]

    def query_tokens_array(self, array: AnyArray, *, keyring: str = "default", associated_data: bytes = b"") -> Any:
        """As ``query_tokens``, for a pyarrow array or chunked array of any type that ``encrypt_array`` takes.

        Returns:
            A list array, chunked if ``array`` is: for each row the list of its tokens, NULL for NULL. Tokens are
            fixed-size binary for types of a fixed width w (w + 24); otherwise binary, or large binary over 2 GiB.

        Raises:
            TypeError: The array's type has no bytes for its rows (list, struct, null, ...).
            ImportError: pyarrow or numpy is missing: ``pip install 'sidekey[arrow]'``.
            SidekeyError: As in ``query_tokens``.
        """
        return self._run(operations.query_array(self._settings, array, keyring, associated_data)).result()

    def server_info(self) -> ServerInfo:
        """What the sidecar says of itself. Raises SidekeyError."""
        ask, question = self._stubs().server_info, info_pb2.GetServerInfoRequest()
        answers: list[info_pb2.GetServerInfoResponse] = []
        call(lambda timeout: ask(question, timeout=timeout), answers.append, self._settings.attempts())
        return info_of(answers[0])

    def close(self) -> None:
        """Close this process's channel; calls that are running fail. May be called twice."""
        self._closed = True
        link = self._links.get(os.getpid())
        if link is not None:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stubs(self) -> Stubs:
        """This process's channel; a parent's stays as it is, since closing it here would act on its connection."""
        if self._closed:
            raise RuntimeError("the client is closed")
        pid = os.getpid()
        link = self._links.get(pid)
        if link is None:  # setdefault is atomic, where a lock of the parent's might be held for ever
            link = self._links.setdefault(pid, Link(self._settings))
        return link.stubs()

    def _run(self, exchange: C) -> C:
        stubs = self._stubs()
        messages = exchange.messages()
        first = list(itertools.islice(messages, exchange.head))
        if len(first) == 1:
            message = first[0]
            send = stubs.method(message.request)
            call(
                lambda timeout: send(message.request, timeout=timeout),
                lambda answer: exchange.accept(message, answer),
                self._settings.attempts(),
            )
            first = list(itertools.islice(messages, 1))
        if first:
            Window(
                exchange,
                lambda message, timeout: stubs.method(message.request).future(message.request, timeout=timeout),
                self._settings.attempts,
                self._settings.max_in_flight,
            ).run(itertools.chain(first, messages))
        return exchange
