"""A small sidecar of one fixed data key, for tests of the client: FORMAT.md value by value, over a real socket.

It stands behind the contract only and shares no code with the sidecar or the client.
"""

from __future__ import annotations

import itertools
import secrets
import struct
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from sidekey.v1 import encryption_pb2 as pb
from sidekey.v1 import encryption_pb2_grpc, info_pb2, info_pb2_grpc

_DATA_KEY = bytes(range(32))
_KEY_ID = bytes.fromhex("0102030405060708")[1:]
_DETERMINISTIC, _RANDOMIZED = 0xF8, 0xF9
_MAX_MESSAGE_BYTES = 16 * 2**20

Row = bytes | None
Context = grpc.ServicerContext


def _cipher(suite: int) -> AESSIV:
    info = b"sidekey/v1 suite " + bytes([suite])
    return AESSIV(HKDF(algorithm=SHA512(), length=64, salt=None, info=info).derive(_DATA_KEY))


_CIPHERS = {suite: _cipher(suite) for suite in (_DETERMINISTIC, _RANDOMIZED)}


@dataclass(frozen=True)
class Call:
    """What one call was: enough to see how the client cut and repeated."""

    rows: int
    request_bytes: int
    answer_bytes: int
    seconds_left: float


@dataclass
class Reference:
    """The server's knobs and its record. Set the knobs before the call that they are for."""

    unavailable_first: int = 0
    """So many calls fail with UNAVAILABLE."""
    key_unavailable_first: int = 0
    """So many Decrypt calls report their first row as KEY_UNAVAILABLE."""
    delay: float = 0.0
    """Seconds before every answer, given up early when the call is cancelled."""
    delay_of_call: dict[int, float] = field(default_factory=dict)
    abort: tuple[grpc.StatusCode, str, str] | None = None
    """Status, reason ("" for no ErrorInfo) and text of every call."""
    abort_of_call: dict[int, tuple[grpc.StatusCode, str, str]] = field(default_factory=dict)
    row_errors: dict[int, int] = field(default_factory=dict)
    """Code of rows by their number in the batch."""
    live_keys: tuple[int, ...] = (1,)
    """The number of live data keys at each call; the last goes on."""
    tamper: Callable[[Any], None] | None = None
    """Changes an answer before it is sent."""
    calls: list[Call] = field(default_factory=list)
    begun: int = 0
    cancelled: int = 0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Encryption(encryption_pb2_grpc.EncryptionServiceServicer):
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def Encrypt(self, request: pb.EncryptRequest, context: Context) -> pb.EncryptResponse:  # noqa: N802
        number = self._begin(context)
        suite = _DETERMINISTIC if request.mode == pb.MODE_DETERMINISTIC else _RANDOMIZED
        rows = [None if row is None else encrypt(suite, row, request.associated_data) for row in _rows(request)]
        answer = pb.EncryptResponse()
        width = request.column.byte_width and request.column.byte_width + (24 if suite == _DETERMINISTIC else 40)
        _fill(answer, request, rows, width)
        self._end(number, request, answer, len(rows), context)
        return answer

    def Decrypt(self, request: pb.DecryptRequest, context: Context) -> pb.DecryptResponse:  # noqa: N802
        number = self._begin(context)
        rows: list[Row] = []
        answer = pb.DecryptResponse()
        for row, ciphertext in enumerate(_rows(request)):
            value, code = (None, 0) if ciphertext is None else decrypt(ciphertext, request.associated_data)
            code = self._reference.row_errors.get(row, code)
            rows.append(None if code else value)
            if code:
                answer.row_errors.add(row=row, code=code, retryable=code == pb.ROW_ERROR_CODE_KEY_UNAVAILABLE)
        if answer.row_errors and request.on_error != pb.ON_ERROR_REPORT:
            _abort(context, grpc.StatusCode.DATA_LOSS, "DECRYPT_FAILED", "rows cannot be decrypted")
        _fill(answer, request, rows, _plain_width(request))
        if self._take("key_unavailable_first"):
            answer.row_errors.add(row=0, code=pb.ROW_ERROR_CODE_KEY_UNAVAILABLE, retryable=True)
        self._end(number, request, answer, len(rows), context)
        return answer

    def Reencrypt(self, request: pb.ReencryptRequest, context: Context) -> pb.ReencryptResponse:  # noqa: N802
        """Keeps every row: knobs are all that there is to it."""
        number = self._begin(context)
        rows = _rows(request)
        answer = pb.ReencryptResponse(unchanged=len(rows) - rows.count(None))
        for row, code in self._reference.row_errors.items():
            rows[row] = None
            answer.row_errors.add(row=row, code=code)
        _fill(answer, request, rows, request.column.byte_width)
        self._end(number, request, answer, len(rows), context)
        return answer

    def QueryTokens(self, request: pb.QueryTokensRequest, context: Context) -> pb.QueryTokensResponse:  # noqa: N802
        """As many data keys as ``live_keys`` says, all of them the one."""
        number = self._begin(context)
        associated_data, rows = request.associated_data, _rows(request)
        tokens = [None if row is None else encrypt(_DETERMINISTIC, row, associated_data) for row in rows]
        answer = pb.QueryTokensResponse()
        for _ in range(self._reference.live_keys[min(number, len(self._reference.live_keys) - 1)]):
            width = request.column.byte_width and request.column.byte_width + 24
            _fill(answer.tokens.add(key_id=_KEY_ID.hex()), request, tokens, width)
        self._end(number, request, answer, len(rows), context)
        return answer

    def _begin(self, context: Context) -> int:
        reference = self._reference
        with reference.lock:
            number, reference.begun = reference.begun, reference.begun + 1
            reference.at_once += 1
            reference.most_at_once = max(reference.most_at_once, reference.at_once)
        context.add_callback(self._ended)
        if self._take("unavailable_first"):
            _abort(context, grpc.StatusCode.UNAVAILABLE, "KMS_UNAVAILABLE", "the KMS cannot be reached")
        abort = reference.abort_of_call.get(number, reference.abort)
        if abort is not None:
            _abort(context, *abort)
        return number

    def _ended(self) -> None:
        with self._reference.lock:
            self._reference.at_once -= 1

    def _take(self, knob: str) -> bool:
        with self._reference.lock:
            left: int = getattr(self._reference, knob)
            setattr(self._reference, knob, max(left - 1, 0))
            return left > 0

    def _end(self, number: int, request: Any, answer: Any, rows: int, context: Context) -> None:
        reference = self._reference
        self._sleep(reference.delay_of_call.get(number, reference.delay), context)
        if reference.tamper is not None:
            reference.tamper(answer)
        call = Call(rows, request.ByteSize(), answer.ByteSize(), context.time_remaining())
        with reference.lock:
            reference.calls.append(call)

    def _sleep(self, seconds: float, context: Context) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not context.is_active():
                with self._reference.lock:
                    self._reference.cancelled += 1
                return
            time.sleep(0.005)


class _Info(info_pb2_grpc.InfoServiceServicer):
    def GetServerInfo(  # noqa: N802
        self,
        request: info_pb2.GetServerInfoRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> info_pb2.GetServerInfoResponse:
        return info_pb2.GetServerInfoResponse(
            version="0.1.0",
            kms="local",
            limits=info_pb2.Limits(
                max_message_bytes=_MAX_MESSAGE_BYTES,
                max_rows=2**20,
                max_value_bytes=8 * 2**20,
                max_associated_data_bytes=2**16,
            ),
            suites=[info_pb2.Suite(id=_RANDOMIZED, name="AES-256-SIV, randomized", overhead_bytes=40)],
        )


def encrypt(suite: int, value: bytes, associated_data: bytes) -> bytes:
    """One ciphertext as FORMAT.md says."""
    header = bytes([suite]) + _KEY_ID
    if suite == _DETERMINISTIC:
        return header + _CIPHERS[suite].encrypt(value, [header + associated_data])
    nonce = secrets.token_bytes(16)
    return header + nonce + _CIPHERS[suite].encrypt(value, [header + associated_data, nonce])


def decrypt(ciphertext: bytes, associated_data: bytes) -> tuple[Row, int]:
    """The value, or the code that says why there is none."""
    suite = ciphertext[0] if ciphertext else 0
    if suite not in _CIPHERS or len(ciphertext) < (24 if suite == _DETERMINISTIC else 40):
        return None, pb.ROW_ERROR_CODE_MALFORMED
    header = ciphertext[:8]
    if header[1:] != _KEY_ID:
        return None, pb.ROW_ERROR_CODE_UNKNOWN_KEY
    nonce = [] if suite == _DETERMINISTIC else [ciphertext[8:24]]
    body = ciphertext[8:] if suite == _DETERMINISTIC else ciphertext[24:]
    try:
        return _CIPHERS[suite].decrypt(body, [header + associated_data, *nonce]), 0
    except InvalidTag:
        return None, pb.ROW_ERROR_CODE_AUTHENTICATION_FAILED


def _rows(request: Any) -> list[Row]:
    """A request's rows, checked as strictly as the contract words them."""
    batch = getattr(request, request.WhichOneof("batch"))
    if isinstance(batch, pb.ValueBatch):
        rows = list(batch.values)
    elif batch.byte_width:
        assert not batch.offsets
        assert len(batch.data) % batch.byte_width == 0
        rows = [batch.data[at : at + batch.byte_width] for at in range(0, len(batch.data), batch.byte_width)]
    else:
        offsets = struct.unpack(f"<{len(batch.offsets) // 4}i", batch.offsets)
        assert offsets[0] == 0
        assert offsets[-1] == len(batch.data)
        assert list(offsets) == sorted(offsets)
        rows = [batch.data[start:stop] for start, stop in itertools.pairwise(offsets)]
    assert not batch.validity or len(batch.validity) == (len(rows) + 7) // 8
    bits = batch.validity
    return [row if not bits or bits[at // 8] >> at % 8 & 1 else None for at, row in enumerate(rows)]


def _fill(answer: Any, request: Any, rows: list[Row], width: int) -> None:
    present = [b"" if row is None else row for row in rows]
    bits = sum(1 << at for at, row in enumerate(rows) if row is not None)
    validity = bits.to_bytes((len(rows) + 7) // 8, "little") if None in rows else b""
    if request.WhichOneof("batch") == "values":
        answer.values.CopyFrom(pb.ValueBatch(values=present, validity=validity))
    elif width:
        data = b"".join(bytes(width) if row is None else row for row in rows)
        answer.column.CopyFrom(pb.ColumnBatch(data=data, byte_width=width, validity=validity))
    else:
        ends = [0]
        for row in present:
            ends.append(ends[-1] + len(row))
        offsets = struct.pack(f"<{len(ends)}i", *ends)
        answer.column.CopyFrom(pb.ColumnBatch(data=b"".join(present), offsets=offsets, validity=validity))


def _plain_width(request: pb.DecryptRequest) -> int:
    """How wide a fixed-width answer is: as the mode of most of its rows says."""
    if not request.column.byte_width:
        return 0
    suites = [row[0] for row in _rows(request) if row]
    overhead = 24 if suites.count(_DETERMINISTIC) * 2 > len(suites) else 40
    return max(request.column.byte_width - overhead, 0)


def _abort(context: Context, code: grpc.StatusCode, reason: str, text: str) -> NoReturn:
    if reason:
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="sidekey"))
        number: int = code.value[0]
        status = status_pb2.Status(code=number, message=text, details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, text)


def serve(address: str, reference: Reference) -> grpc.Server:
    """A running server with these knobs; the caller stops it."""
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    encryption_pb2_grpc.add_EncryptionServiceServicer_to_server(_Encryption(reference), server)
    info_pb2_grpc.add_InfoServiceServicer_to_server(_Info(), server)
    server.add_insecure_port(address)
    server.start()
    return server
