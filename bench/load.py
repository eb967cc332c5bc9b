"""The load of a soak: good calls, calls that are cancelled, and calls whose deadline is too short for them."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import grpc.aio
from sidekey.v1 import encryption_pb2_grpc as pb_grpc

from bench import wire
from bench.cases import B32, RAGGED, SEED, Case, Direction, Mode, Shape

WORKERS = 8

GOOD, CANCELLED, SHORT = "good", "to be cancelled", "short deadline"
_OK = grpc.StatusCode.OK.name
_INTENDED = {
    GOOD: _OK,
    CANCELLED: grpc.StatusCode.CANCELLED.name,
    SHORT: grpc.StatusCode.DEADLINE_EXCEEDED.name,
}
"""What a call of each kind should end with; any may also be answered in time."""

_CASES = (
    Case(B32, 10_000, Shape.COLUMN, Mode.DETERMINISTIC, Direction.ENCRYPT),
    Case(RAGGED, 1_000, Shape.COLUMN, Mode.RANDOMIZED, Direction.ENCRYPT),
    Case(B32, 1_000, Shape.VALUES, Mode.RANDOMIZED, Direction.ENCRYPT),
    Case(B32, 1, Shape.VALUES, Mode.DETERMINISTIC, Direction.ENCRYPT),
)
_WEIGHTS = (18, 1, 1)
"""Of twenty calls one is cancelled and one out of time: many more than an engine loses, and few enough for gRPC's own
leak of some hundred bytes a cut call (docs/benchmarks.md) not to hide a leak of ours."""
_TIMEOUT_SECONDS = 30.0
_LONGEST_PATIENCE_SECONDS = 0.004
"""Calls are cancelled, or out of time, at a random moment up to this: before, during and after their handler runs."""


@dataclass(slots=True)
class Tally:
    """How many calls of each kind ended with which gRPC status."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def cut(self) -> int:
        """Calls that ended before their answer came."""
        return sum(calls for (_, status), calls in self.outcomes.items() if status != _OK)

    @property
    def as_intended(self) -> bool:
        """Whether every kind of call ended as it should at least once, and none otherwise than it may."""
        wanted = set(_INTENDED.items())
        return wanted <= set(self.outcomes) <= wanted | {(kind, _OK) for kind in _INTENDED}


class Load:
    """Several workers on one channel, each making one random call after the other."""

    def __init__(self, target: str) -> None:
        self.tally = Tally()
        self._target = target
        self._random = random.Random(SEED)
        self._calls: list[Callable[..., grpc.aio.Call]] = []

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._target, options=wire.CLIENT_OPTIONS)
        # The stub is the same class for both kinds of channel; its types know them as two.
        stub: pb_grpc.EncryptionServiceAsyncStub = pb_grpc.EncryptionServiceStub(self._channel)  # type: ignore[assignment]
        for case in _CASES:
            request = wire.encrypt_request(case)
            answer = await stub.Encrypt(request, timeout=_TIMEOUT_SECONDS)
            self._calls += [partial(stub.Encrypt, request), partial(stub.Decrypt, wire.decrypt_request(answer))]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def run(self, seconds: float) -> None:
        """Keep the server busy for so many seconds; what was begun is waited for."""
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._work(end) for _ in range(WORKERS)))

    async def _work(self, end: float) -> None:
        while time.monotonic() < end:
            (kind,) = self._random.choices((GOOD, CANCELLED, SHORT), weights=_WEIGHTS)
            patience = self._random.uniform(0, _LONGEST_PATIENCE_SECONDS)
            call = self._random.choice(self._calls)(timeout=patience if kind == SHORT else _TIMEOUT_SECONDS)
            if kind == CANCELLED:
                await asyncio.sleep(patience)
                call.cancel()
            self.tally.outcomes[kind, (await call.code()).name] += 1
