"""Run by an interpreter that has the oldest versions the client declares: every kind of call, against a target."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pyarrow
import sidekey

# Which type an array has is only known when it is there; the stubs want to know it before.
pa: Any = pyarrow

VALUES: list[bytes | None] = [None if row % 7 == 0 else b"%d" % row for row in range(3_000)]
ARRAYS = [
    pa.array([1, None, 3]).slice(1),
    pa.array(["a", None, ""]),
    pa.array([b"a" * 20, None], pa.binary_view()),
    pa.array(["b" * 20, None, "c"], pa.string_view()),
    pa.array([b"12345", None], pa.binary(5)),
    pa.array([True, None, False]),
    pa.array(["x", "y", "x", None]).dictionary_encode(),
    pa.chunked_array([["a"], [None, "b"]]),
]


def check(client: sidekey.Client) -> None:
    """Values, arrays, an error with its reason, and what the sidecar says of itself."""
    assert client.decrypt(client.encrypt(VALUES)) == VALUES
    for array in ARRAYS:
        assert client.decrypt_array(client.encrypt_array(array), type=array.type).equals(array), array.type
    error = _error_of(client.decrypt, [b"no ciphertext"])
    assert isinstance(error, sidekey.DecryptionError)
    assert pickle.loads(pickle.dumps(error)).rows == error.rows  # noqa: S301 (our own bytes)
    assert client.server_info().max_rows > 0


async def check_async(target: str) -> None:
    """Values through the async client."""
    async with sidekey.AsyncClient(target, message_bytes=10_000) as client:
        assert await client.decrypt(await client.encrypt(VALUES)) == VALUES


def check_reason(target: str) -> None:
    """A call that fails with a reason in its status details."""
    with sidekey.Client(target) as client:
        error = _error_of(client.encrypt, [b"a"])
    assert isinstance(error, sidekey.NotFoundError)
    assert error.reason == "UNKNOWN_KEYRING"


def _error_of(call: Callable[[list[bytes | None]], Any], values: list[bytes | None]) -> sidekey.SidekeyError:
    """What a call raises; pytest is not there to ask."""
    try:
        call(values)
    except sidekey.SidekeyError as error:
        return error
    raise AssertionError("the call did not fail")


def main() -> None:
    """``old_client.py TARGET FAILING_TARGET``; prints the versions that it ran with."""
    target, failing = sys.argv[1:]
    with sidekey.Client(target, message_bytes=10_000) as client:
        check(client)
    asyncio.run(check_async(target))
    check_reason(failing)
    names = ("grpcio", "protobuf", "numpy", "pyarrow")
    sys.stdout.write(" ".join(f"{name}={version(name)}" for name in names))


main()
