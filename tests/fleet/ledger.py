"""What a worker has acknowledged: a file that is written before the worker goes on, and survives its kill."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One value that was encrypted, and whose ciphertext the caller has."""

    asked_at: float
    """On the fleet's clock, before the data key was asked for."""
    generation: int
    key_id: str
    value: bytes
    ciphertext: bytes

    def line(self) -> bytes:
        """As it stands in the file."""
        words = (repr(self.asked_at), str(self.generation), self.key_id, self.value.hex(), self.ciphertext.hex())
        return " ".join(words).encode() + b"\n"


class Ledger:
    """The file of one worker."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, acknowledged: Iterable[Acknowledged]) -> None:
        """Hand them over in one call of the kernel, which keeps them whatever becomes of this process."""
        lines = b"".join(entry.line() for entry in acknowledged)
        assert os.write(self._file, lines) == len(lines)


def read(path: Path) -> Sequence[Acknowledged]:
    """Whatever was acknowledged; a line without its end never was."""
    return [_entry(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _entry(line: bytes) -> Acknowledged:
    asked_at, generation, key_id, value, ciphertext = line.decode().split()
    return Acknowledged(float(asked_at), int(generation), key_id, bytes.fromhex(value), bytes.fromhex(ciphertext))
