"""A fleet of workers on one keystore, as a test sees it."""

import asyncio
import json
import random
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sidecar.config.model import MOST_VALUES
from sidecar.keystore.factory import create
from sidecar.keystore.port import DataKeyRecord, VersionedKeystore
from tests.fleet import ledger
from tests.fleet.clock import FleetClock
from tests.fleet.ledger import Acknowledged
from tests.fleet.nursery import Nursery
from tests.keystore.records import whole

DAY: Final = 86_400.0
LEAD: Final = 3_660.0
"""So long before a primary is due after a day, no sidecar makes its successor yet."""
TTL: Final = 7_200.0
"""Longer than the lead of a rollover, so that one is met in the background too."""
_PATIENCE_SECONDS: Final = 60.0


class Hand:
    """What tells one worker what to do."""

    def __init__(self, name: str, nursery: Nursery, pid: int) -> None:
        self.name = name
        self._nursery = nursery
        self._pid = pid
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connect(self, stream: socket.socket) -> None:
        """Take up the stream to it."""
        self._streams = await asyncio.open_unix_connection(sock=stream, limit=1 << 20)

    async def do(self, what: str, **arguments: Any) -> Any:
        """Its answer; fails where it ends instead."""
        answer = await self.do_or_die(what, **arguments)
        assert answer is not None, f"{self.name} has ended: {self._nursery.log.read_text()}"
        return answer[0]

    async def do_or_die(self, what: str, **arguments: Any) -> tuple[Any] | None:
        """Its answer; None where it ended before it could give one."""
        assert self._streams is not None
        reader, writer = self._streams
        try:
            writer.write(json.dumps([what, arguments]).encode() + b"\n")
            async with asyncio.timeout(_PATIENCE_SECONDS):
                line = await reader.readline()
        except ConnectionError:
            return None
        return (json.loads(line),) if line else None

    async def kill(self) -> None:
        """End it at once; it is gone when this returns, whether it ended before or not."""
        self._nursery.kill(self._pid)
        await self.leave()

    async def leave(self) -> None:
        """Close the stream to it, which ends it in order."""
        assert self._streams is not None
        self._streams[1].close()


class Fleet:
    """Starts workers on one keystore, and reads what they and the keystore have written.

    Args:
        url: of the keystore.
        environment: what leads workers to it and to their KMS.
        seed: of whatever is drawn.
    """

    def __init__(self, nursery: Nursery, directory: Path, url: str, environment: Mapping[str, str], seed: int) -> None:
        self._nursery = nursery
        self._directory = directory
        self.url = url
        self.environment = dict(environment)
        self._configurations: dict[str, Path] = {}
        self._hands: list[Hand] = []
        self.ledgers: list[str] = []
        self.clock = FleetClock(directory / "clock")
        self.chance = random.Random(seed)  # noqa: S311 - of kills, and of nothing secret
        self.keystore: VersionedKeystore = create(url, timeout_seconds=30)

    async def open(self) -> None:
        """Make the keystore, and the local wrapping key."""
        await self.keystore.open(upgrade=True)
        (self._directory / "data").mkdir(mode=0o700)

    async def close(self) -> None:
        """End whoever still lives."""
        for hand in self._hands:
            await hand.kill()
        await self.keystore.close()

    async def start(
        self,
        name: str,
        *,
        plugins: Mapping[str, Mapping[str, Any]] | None = None,
        roll_over_days: float = 1.0,
        max_values: int = MOST_VALUES,
        point: str | None = None,
        passes: int = 1,
        wrap_seconds: tuple[float, float] = (0.0, 0.0),
        keystore_seconds: tuple[float, float] = (0.0, 0.0),
    ) -> Hand:
        """A new worker.

        Args:
            plugins: of its configuration; none: the local wrapping key.
            roll_over_days: of its configuration.
            max_values: of its configuration: under one data key, of the fleet.
            point: where it ends itself once armed, at which of its ``passes``.
            wrap_seconds: between which bounds its wraps take longer.
            keystore_seconds: between which bounds its calls to the keystore take longer.
        """
        path = self._directory / f"{name}.ledger"
        path.touch()
        self.ledgers.append(str(path))
        spec = {
            "config": str(self._configured(plugins or {}, roll_over_days, max_values)),
            "environment": self.environment,
            "clock": str(self.clock.path),
            "ledger": str(path),
            "point": point,
            "passes": passes,
            "wrap_seconds": wrap_seconds,
            "keystore_seconds": keystore_seconds,
            "seed": self.chance.getrandbits(64),
        }
        pid, stream = self._nursery.start(spec)
        hand = Hand(name, self._nursery, pid)
        self._hands.append(hand)
        await hand.connect(stream)
        return hand

    async def kill(self, hand: Hand) -> None:
        """End one at once, and forget it."""
        await hand.kill()
        self._hands.remove(hand)

    async def rows(self) -> Sequence[DataKeyRecord]:
        """All data keys of the keystore, in order."""
        return whole(await self.keystore.list_keys(limit=4096))

    def acknowledged(self) -> list[Acknowledged]:
        """Whatever any worker has ever acknowledged."""
        return [entry for path in self.ledgers for entry in ledger.read(Path(path))]

    async def check(self, generations: int) -> None:
        """What must hold of the keystore and the ledgers together, at any moment at which nobody makes a data key."""
        rows = await self.rows()
        assert [row.generation for row in rows] == list(range(1, generations + 1))
        stored = {row.key_id: row.generation for row in rows}
        assert len(stored) == len(rows)
        used = {(entry.key_id, entry.generation) for entry in self.acknowledged()}
        lost = [(key_id, generation) for key_id, generation in used if stored.get(key_id) != generation]
        assert not lost, f"data keys that encrypted and are not in the keystore: {lost}"

    async def verify(self, *hands: Hand, cold: bool = False) -> None:
        """Every worker here decrypts whatever any has acknowledged."""
        answers = await asyncio.gather(*(hand.do("verify", ledgers=self.ledgers, cold=cold) for hand in hands))
        for hand, problems in zip(hands, answers, strict=True):
            assert not problems, f"{hand.name} does not decrypt: {problems[:5]}"

    def _configured(self, plugins: Mapping[str, Mapping[str, Any]], days: float, max_values: int) -> Path:
        # JSON is YAML.
        text = json.dumps(
            {
                "dataDir": str(self._directory / "data"),
                "keystore": {"url": self.url, "timeoutSeconds": 30, "maxConnections": 2},
                "cache": {"ttlSeconds": TTL},
                "schedule": {"dataKeyRollOverLength": days, "dataKeyMaxValues": max_values},
                "plugins": plugins,
            }
        )
        if text not in self._configurations:
            # Once: another worker may be reading it by now.
            path = self._configurations[text] = self._directory / f"{len(self._configurations)}.yaml"
            path.write_text(text)
        return self._configurations[text]
