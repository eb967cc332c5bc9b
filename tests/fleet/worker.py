"""A sidecar without gRPC: the real keystore, wrapping keys, keyrings and counts, put together as in ``sidecar.serve``.

Does what it is told by lines of JSON on a stream, and answers each. Whatever it encrypts it acknowledges in its ledger
at once, before it goes on.
"""

import asyncio
import contextlib
import json
import os
import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sidecar import log
from sidecar.config import Config, load
from sidecar.crypto import few
from sidecar.crypto.format import RowFailure
from sidecar.keys.data_key import DataKeys
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.lifetime import Lifetime
from sidecar.keys.outage import Pace
from sidecar.keys.rewrapping import Rewrapping
from sidecar.keys.terms import KeyringTerms, schedule_of
from sidecar.keys.usage import UsageCounts
from sidecar.keys.wrapping import WrappingKeys
from sidecar.kms.guard import GuardedKms
from sidecar.kms.port import Kms
from sidecar.metrics import Metrics
from sidecar.parts import former_kmses_of, keystore_of, kmses_of
from tests.fleet import ledger
from tests.fleet.clock import FleetClock
from tests.fleet.ledger import Acknowledged, Ledger
from tests.fleet.points import PointedKeystore, PointedKms, Points

KEYRING = "default"
_BATCH = 3
_KEYS_A_CALL = 64
_PAUSE_SECONDS = 0.002
_PATIENCE_SECONDS = 60.0
"""With a KMS: no test here is of a slow one."""
_REWRAP_PAGE = 3


def run(stream: socket.socket, spec: dict[str, Any]) -> None:
    """Live until the stream ends."""
    os.environ.update(spec["environment"])
    log.configure("error", "json")
    asyncio.run(_live(stream, spec))


async def _live(stream: socket.socket, spec: dict[str, Any]) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=stream, limit=1 << 20)
    worker = Worker(spec)
    await worker.open()
    try:
        async for line in reader:
            what, arguments = json.loads(line)
            doing: Callable[..., Awaitable[object]] = getattr(worker, what)
            writer.write(json.dumps(await doing(**arguments)).encode() + b"\n")
            await writer.drain()
    finally:
        await worker.close()


class Worker:
    """One sidecar; every public method is what it can be told."""

    def __init__(self, spec: dict[str, Any]) -> None:
        config = load(Path(spec["config"]), {}, {})
        chance = random.Random(spec["seed"])  # noqa: S311 - of kills, and of nothing secret
        self._clock = FleetClock(Path(spec["clock"]))
        self._ledger = Ledger(Path(spec["ledger"]))
        self._metrics = Metrics()
        self._points = Points(spec["point"], spec["passes"], chance)
        self._keystore = PointedKeystore(
            keystore_of(config), self._points, seconds=spec["keystore_seconds"], chance=chance
        )

        def pointed(kmses: dict[str, Kms]) -> dict[str, Kms]:
            return {
                name: GuardedKms(
                    PointedKms(kms, self._points, wrap_seconds=spec["wrap_seconds"], chance=chance),
                    self._metrics,
                    deadline_seconds=_PATIENCE_SECONDS,
                )
                for name, kms in kmses.items()
            }

        self._wrapping_keys = WrappingKeys(
            pointed(kmses_of(config, self._keystore)),
            former=pointed(former_kmses_of(config)),
            failover_seconds=_PATIENCE_SECONDS,
        )
        self._usage = UsageCounts(self._keystore, self._clock)
        self._keyrings = _keyrings_of(
            config, self._keystore, self._wrapping_keys, self._usage, self._clock, self._metrics
        )
        self._encrypting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open what a sidecar opens."""
        await self._keystore.open()
        await self._wrapping_keys.open()
        self._points.watch_commits()

    async def close(self) -> None:
        """Close it in order."""
        await self.pause()
        await self._usage.flush()
        await self._keyrings.close()
        await self._wrapping_keys.close()
        await self._keystore.close()

    async def arm(self) -> None:
        """From now on the points count."""
        self._points.armed = True

    async def encrypt(self) -> int:
        """Encrypt and acknowledge a few values; the generation that encrypted them."""
        self._keyrings.sweep()
        asked_at = self._clock.monotonic()
        data_key, suite = await self._keyrings.encryption(KEYRING, None)
        values = [secrets.token_bytes(12) for _ in range(_BATCH)]
        ciphertexts = data_key.cipher.encrypt_values(values, suite, b"", secrets.token_bytes)
        self._points.passed("encrypted")
        pairs = zip(values, ciphertexts, strict=True)
        self._ledger.write(
            Acknowledged(asked_at, data_key.generation, data_key.key_id, value, ciphertext)
            for value, ciphertext in pairs
        )
        self._points.passed("acknowledged")
        self._usage.encrypted(data_key.key_id, len(values))
        return data_key.generation

    async def begin(self) -> None:
        """Go on encrypting until told to pause."""
        self._encrypting = asyncio.create_task(self._go_on())

    async def pause(self) -> None:
        """Encrypt no more, and let what was begun in the background come to its end."""
        if self._encrypting is not None:
            self._encrypting.cancel()
            # Whatever else has ended it before ends this worker too.
            with contextlib.suppress(asyncio.CancelledError):
                await self._encrypting
            self._encrypting = None
        while fetches := [task for task in asyncio.all_tasks() if task.get_name() == "sidekey-fetch"]:
            await asyncio.wait(fetches)

    async def flush(self) -> None:
        """Add the counts of use to the keystore."""
        await self._usage.flush()

    async def rotate(self) -> int:
        """Make a new primary; its generation."""
        return (await self._keyrings.rotate(KEYRING)).generation

    async def verify(self, ledgers: Sequence[str], cold: bool) -> list[str]:
        """Decrypt whatever the ledgers hold; what does not come out as it went in, in words.

        With ``cold`` every data key is read and unwrapped anew.
        """
        entries = [entry for path in ledgers for entry in ledger.read(Path(path))]
        key_ids = list(dict.fromkeys(entry.key_id for entry in entries))
        problems: list[str] = []
        for start in range(0, len(key_ids), _KEYS_A_CALL):
            some = key_ids[start : start + _KEYS_A_CALL]
            for key_id in some if cold else ():
                self._keyrings.forget(KEYRING, key_id)
            problems += await self._problems([entry for entry in entries if entry.key_id in set(some)])
        return problems

    async def rewrap(self) -> dict[str, Any]:
        """Bring all data keys under the configured wrapping keys, page by page."""
        rewrapping = Rewrapping(self._keystore, self._wrapping_keys, most_at_once=2)
        after: tuple[str, int] | None = None
        told: dict[str, Any] = {"rewrapped": 0, "unchanged": 0, "failures": []}
        while True:
            page = await rewrapping.page(None, after, _REWRAP_PAGE, dry_run=False)
            told["rewrapped"] += page.rewrapped
            told["unchanged"] += page.unchanged
            told["failures"] += page.failures
            if page.next is None:
                return told
            after = page.next

    async def rollovers(self) -> dict[str, float]:
        """How its attempts to roll over have ended so far."""
        samples = (sample for family in self._metrics.rollovers.collect() for sample in family.samples)
        return {sample.labels["result"]: sample.value for sample in samples if sample.name.endswith("_total")}

    async def _go_on(self) -> None:
        while True:
            await self.encrypt()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _problems(self, entries: Sequence[Acknowledged]) -> list[str]:
        ciphertexts = [entry.ciphertext for entry in entries]
        headers = [few.read_header(ciphertext) for ciphertext in ciphertexts]
        keys = await self._keyrings.for_decryption({entry.key_id for entry in entries}, KEYRING)
        opened = few.decrypt(ciphertexts, headers, keys, b"")
        return [
            f"{entry.key_id} of generation {entry.generation}: "
            + (found.name if isinstance(found, RowFailure) else "another value")
            for entry, found in zip(entries, opened, strict=True)
            if found != entry.value
        ]


def _keyrings_of(
    config: Config,
    keystore: PointedKeystore,
    wrapping_keys: WrappingKeys,
    usage: UsageCounts,
    clock: FleetClock,
    metrics: Metrics,
) -> Keyrings:
    cache = config.cache
    lifetime = Lifetime(
        ttl_seconds=cache.ttl_seconds,
        jitter_fraction=cache.jitter_fraction,
        refresh_after_fraction=cache.refresh_after_fraction,
        failure_seconds=cache.unknown_key_seconds,
        max_entries=cache.max_keys,
        stale_on_outage_seconds=cache.stale_on_outage_seconds,
    )
    schedule = schedule_of(config.schedule.data_key_roll_over_length, config.schedule.data_key_max_values)
    return Keyrings(
        keystore,
        wrapping_keys,
        lambda keystore, wrapper: DataKeys(keystore, wrapper, clock, secrets.token_bytes),
        lifetime,
        Pace(retries_per_second=config.kms.retries_per_second),
        clock,
        metrics,
        configured=lambda _keyring: KeyringTerms(schedule),
        may_make=config.may_create_keyring,
        unflushed=usage.unflushed,
    )
