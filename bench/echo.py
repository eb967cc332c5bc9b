"""The limit of the transport: a gRPC server that answers with the sidecar's sizes and encrypts nothing.

It parses each request, takes the batch out as Python bytes, and answers a batch of the size and shape that the sidecar
would answer, with as little work of its own as can be. With ``--loop`` it is the naive sidecar instead: one AES-SIV
call a value, in the handler, for value batches only. Of the sidecar it imports the options of its gRPC server.
"""

import argparse
import asyncio
import json
import signal
import sys
from typing import Protocol

import grpc.aio
import numpy as np
from numpy.typing import NDArray
from sidekey.v1 import encryption_pb2 as pb
from sidekey.v1 import encryption_pb2_grpc as pb_grpc

from bench.cases import MESSAGE_LIMIT, Mode
from bench.naive import KEY_ID, SUITE_BYTES, NaiveSiv
from bench.wire import PB_MODES
from sidecar.allocator import keep_freed_memory
from sidecar.rpc.options import server_options

_MODES = {number: mode for mode, number in PB_MODES.items()}
_MODE_OF_SUITE = {suite: mode for mode, suite in SUITE_BYTES.items()}


class Fillers(dict[int, bytes]):
    """Bytes of any length, made once each; looked up by that length less ``grow``, so that no lookup has to add."""

    def __init__(self, first: bytes, grow: int) -> None:
        super().__init__()
        self._first = first
        self._grow = grow

    def __missing__(self, length: int) -> bytes:
        filler = self[length] = self._first.ljust(length + self._grow, b"\0")
        return filler


class Answers(Protocol):
    """What a handler needs: batches in, batches out."""

    def encrypt_values(self, values: list[bytes], mode: Mode, associated_data: bytes) -> list[bytes]: ...

    def decrypt_values(self, values: list[bytes], associated_data: bytes) -> list[bytes]: ...

    def encrypt_column(self, column: pb.ColumnBatch, mode: Mode) -> pb.ColumnBatch: ...

    def decrypt_column(self, column: pb.ColumnBatch) -> pb.ColumnBatch: ...


class EchoAnswers:
    """Batches of the right size, from caches. Its ciphertexts begin with a suite byte, by which it knows them again."""

    def __init__(self) -> None:
        self._ciphertexts = {mode: Fillers(bytes([SUITE_BYTES[mode]]) + KEY_ID, mode.overhead) for mode in Mode}
        self._plaintexts = {mode: Fillers(b"", -mode.overhead) for mode in Mode}
        self._pads = {mode: Fillers(bytes([SUITE_BYTES[mode]]), 0) for mode in Mode}
        self._ramps: dict[tuple[int, int], NDArray[np.int32]] = {}

    def encrypt_values(self, values: list[bytes], mode: Mode, associated_data: bytes) -> list[bytes]:  # noqa: ARG002
        """Values of the mode's overhead more each."""
        return list(map(self._ciphertexts[mode].__getitem__, map(len, values)))

    def decrypt_values(self, values: list[bytes], associated_data: bytes) -> list[bytes]:  # noqa: ARG002
        """Values of the overhead less each; the first value's suite byte says which mode all of them are of."""
        return list(map(self._plaintexts[_MODE_OF_SUITE[values[0][0]]].__getitem__, map(len, values)))

    def encrypt_column(self, column: pb.ColumnBatch, mode: Mode) -> pb.ColumnBatch:
        """A column of the mode's overhead more each row."""
        data = column.data
        pad = self._pads[mode][mode.overhead * _row_count(column, data)]
        return self._column(column, pad + data, mode.overhead)

    def decrypt_column(self, column: pb.ColumnBatch) -> pb.ColumnBatch:
        """A column of the overhead less each row; the first byte says which mode all rows are of."""
        data = column.data
        overhead = _MODE_OF_SUITE[data[0]].overhead
        return self._column(column, data[overhead * _row_count(column, data) :], -overhead)

    def _column(self, asked: pb.ColumnBatch, data: bytes, grow: int) -> pb.ColumnBatch:
        if asked.byte_width:
            return pb.ColumnBatch(data=data, byte_width=asked.byte_width + grow)
        offsets = np.frombuffer(asked.offsets, "<i4")
        return pb.ColumnBatch(data=data, offsets=(offsets + self._ramp(len(offsets), grow)).tobytes())

    def _ramp(self, length: int, step: int) -> NDArray[np.int32]:
        key = (length, step)
        if key not in self._ramps:
            self._ramps[key] = np.arange(length, dtype="<i4") * np.int32(step)
        return self._ramps[key]


class LoopAnswers(EchoAnswers):
    """Value batches really encrypted, one call a value."""

    def __init__(self) -> None:
        super().__init__()
        self._siv = NaiveSiv()

    def encrypt_values(self, values: list[bytes], mode: Mode, associated_data: bytes) -> list[bytes]:
        """The naive sidecar's ciphertexts."""
        return self._siv.encrypt(values, mode, associated_data)

    def decrypt_values(self, values: list[bytes], associated_data: bytes) -> list[bytes]:
        """The values again."""
        return self._siv.decrypt(values, associated_data)

    def encrypt_column(self, column: pb.ColumnBatch, mode: Mode) -> pb.ColumnBatch:
        """Not measured, so not answered: an echo here would pass for a cipher."""
        raise NotImplementedError

    def decrypt_column(self, column: pb.ColumnBatch) -> pb.ColumnBatch:
        """Not measured, so not answered."""
        raise NotImplementedError


class EchoService(pb_grpc.EncryptionServiceServicer):
    """The sidecar's service, without the sidecar."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def Encrypt(self, request: pb.EncryptRequest, context: object) -> pb.EncryptResponse:  # noqa: ARG002, N802
        """Answer what would be the ciphertexts."""
        mode = _MODES[request.mode]
        if request.HasField("column"):
            return pb.EncryptResponse(column=self._answers.encrypt_column(request.column, mode))
        values = self._answers.encrypt_values(list(request.values.values), mode, request.associated_data)
        return pb.EncryptResponse(values=pb.ValueBatch(values=values))

    async def Decrypt(self, request: pb.DecryptRequest, context: object) -> pb.DecryptResponse:  # noqa: ARG002, N802
        """Answer what would be the values."""
        if request.HasField("column"):
            return pb.DecryptResponse(column=self._answers.decrypt_column(request.column))
        values = self._answers.decrypt_values(list(request.values.values), request.associated_data)
        return pb.DecryptResponse(values=pb.ValueBatch(values=values))


async def serve(target: str, answers: Answers) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = grpc.aio.server(options=server_options(MESSAGE_LIMIT))
    service = EchoService(answers)  # type: ignore[abstract]  # the stubs answer UNIMPLEMENTED to what is not measured
    pb_grpc.add_EncryptionServiceServicer_to_server(service, server)
    server.add_insecure_port(target)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await server.start()
    print(json.dumps({"event": "serving", "listen": [target]}), file=sys.stderr, flush=True)
    await stopped.wait()
    await server.stop(grace=1.0)


def _row_count(column: pb.ColumnBatch, data: bytes) -> int:
    return len(data) // column.byte_width if column.byte_width else len(column.offsets) // 4 - 1


def main() -> None:
    """Serve on the given address."""
    parser = argparse.ArgumentParser(prog="python -m bench.echo", description=__doc__.partition("\n")[0])
    parser.add_argument("target", help="where to listen: unix:///path or host:port")
    parser.add_argument("--loop", action="store_true", help="encrypt value batches, one AES-SIV call a value")
    args = parser.parse_args()
    keep_freed_memory()
    asyncio.run(serve(args.target, LoopAnswers() if args.loop else EchoAnswers()))


if __name__ == "__main__":
    main()
