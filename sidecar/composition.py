"""Puts a sidecar together: the only place that builds objects and wires them."""

import asyncio
import functools
import secrets
from collections.abc import Callable, Mapping

from sidecar import __version__
from sidecar.config import Config
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.siv import Path as CipherPath
from sidecar.http import HttpServer
from sidecar.keys.administration import Administration
from sidecar.keys.clock import Clock, SystemClock
from sidecar.keys.completion import Completion
from sidecar.keys.data_key import DataKeys
from sidecar.keys.inventory import Inventory
from sidecar.keys.keyrings import Keyrings
from sidecar.keys.lifetime import Lifetime
from sidecar.keys.outage import Pace
from sidecar.keys.readiness import Readiness, probe
from sidecar.keys.rewrapping import Rewrapping
from sidecar.keys.upkeep import Upkeep
from sidecar.keys.usage import UsageCounts
from sidecar.keys.wrapping import Wrapper, WrappingKeys
from sidecar.keystore.factory import upgrades_itself
from sidecar.keystore.port import Keystore
from sidecar.keystore.watched import WatchedKeystore
from sidecar.kms.port import Kms
from sidecar.metrics import Metrics
from sidecar.parts import keystore_of, make_data_dir, terms_in, wrapping_keys_of
from sidecar.rpc.admission import Admission, InFlightLimits
from sidecar.rpc.batches import BatchLimits
from sidecar.rpc.encryption import EncryptionService
from sidecar.rpc.info import InfoService
from sidecar.rpc.keyring import KeyringService
from sidecar.rpc.requests import DEFAULT_KEYRING
from sidecar.rpc.server import RpcServer
from sidecar.rpc.traffic import Traffic

_SWEEPS_A_TTL = 60
_LOOKS_AT_STATES_A_TTL = 8
_LONGEST_SWEEP_SECONDS = 1.0
_COMPLETION_SECONDS = 5.0
_WILDCARDS = frozenset("*?")


class Sidecar:
    """One sidecar with all its parts; ``start``, then ``drain``, then ``close``."""

    def __init__(
        self,
        config: Config,
        *,
        kms: Kms | Mapping[str, Kms] | None = None,
        keystore: Keystore | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``kms`` (one, or several by name, in their order), ``keystore``, ``clock``: in place of the usual ones."""
        self._config = config
        metrics = Metrics()
        clock = clock or SystemClock()
        self._readiness = readiness = Readiness(lambda: self._keyrings.cached_keys, lambda: self._keyrings.stale_keys)
        names = (name for name in config.keyrings if not _WILDCARDS & set(name))
        self._probe_keyring = next(names, DEFAULT_KEYRING)
        self._keystore: Keystore = WatchedKeystore(
            keystore or keystore_of(config), functools.partial(_on_keystore_result, metrics, readiness)
        )
        kmses = kms if isinstance(kms, Mapping) or kms is None else {kms.name: kms}
        self.wrapping_keys = wrapping_keys_of(config, metrics, readiness.kms_result, kmses, keystore=self._keystore)
        self._completion = Completion(self._keystore, self.wrapping_keys, metrics, keyring=self._probe_keyring)
        self._usage = UsageCounts(self._keystore, clock)
        make_data_keys = functools.partial(_data_keys_of, config, clock, self._completion)
        self._keyrings = Keyrings(
            self._keystore,
            self.wrapping_keys,
            make_data_keys,
            _lifetime_of(config),
            Pace(config.kms.retries_per_second, config.kms.max_calls_per_second),
            clock,
            metrics,
            configured=terms_in(config),
            may_make=config.may_create_keyring,
            unflushed=self._usage.unflushed,
            max_calls=config.kms.max_concurrent_calls,
            wait_seconds=config.kms.deadline_seconds,
        )
        administration = Administration(
            self._keystore,
            Inventory(self._keystore, terms_in(config)),
            self._keyrings,
            Rewrapping(self._keystore, self.wrapping_keys),
            clock,
            disabled_before_destroyed=config.disabled_before_destroyed,
        )
        self._rpc = _rpc_of(config, self._keyrings, self._usage, administration, self.wrapping_keys, metrics)
        self._http = _http_of(config, metrics, self._state)
        self._draining = False
        self._upkeep = Upkeep(
            readiness,
            [
                (min(config.cache.ttl_seconds / _SWEEPS_A_TTL, _LONGEST_SWEEP_SECONDS), self._sweep),
                (config.usage.flush_seconds, self._usage.flush),
                (config.cache.ttl_seconds / _LOOKS_AT_STATES_A_TTL, self._keyrings.look_at_states),
                (_COMPLETION_SECONDS, self._completion.run_once),
            ],
            probe=self._probe,
            on_ready=self._rpc.set_ready,
        )
        self._upkeep_task: asyncio.Task[None] | None = None
        metrics.build.labels(__version__, ", ".join(self.wrapping_keys.names)).set(1)

    @property
    def ready(self) -> bool:
        """Whether values can be encrypted and decrypted now."""
        return self._readiness.ready

    async def start(self) -> tuple[list[str], str | None]:
        """Open everything and listen; returns the gRPC addresses, and the HTTP address or None.

        Raises:
            StartupError: something cannot be opened; call ``close`` all the same.
        """
        make_data_dir(self._config)
        # A shared keystore is upgraded by who runs the fleet, when they mean to: sidecars of two versions may share it.
        await self._keystore.open(upgrade=upgrades_itself(self._config.keystore.url))
        await self.wrapping_keys.open()
        addresses = await self._rpc.start()
        http_address = None
        if self._http is not None:
            host, port = await self._http.start()
            http_address = f"{host}:{port}"
        # The first look at the KMS, before anybody is told that there is something to call; bounded by its deadline.
        await self._probe()
        await self._rpc.set_ready(self.ready)
        self._upkeep_task = asyncio.create_task(self._upkeep.run(), name="sidekey-upkeep")
        return addresses, http_address

    async def drain(self, grace_seconds: float) -> None:
        """Take no new calls, and give those that run some time to finish."""
        self._draining = True
        await self._rpc.stop(grace_seconds)

    async def close(self) -> None:
        """Stop everything that was started; nothing counted is lost."""
        await self._rpc.stop(0)
        if self._upkeep_task is not None:
            self._upkeep_task.cancel()
            await asyncio.gather(self._upkeep_task, return_exceptions=True)
        if self._http is not None:
            await self._http.stop()
        await self._usage.flush()
        await self._keyrings.close()
        await self.wrapping_keys.close()
        await self._keystore.close()

    async def _sweep(self) -> None:
        self._keyrings.sweep()

    async def _probe(self) -> None:
        await probe(self.wrapping_keys, self._keystore, self._probe_keyring)
        if not self._readiness.in_trouble:
            self._keyrings.trouble_is_over()

    def _state(self) -> tuple[bool, Mapping[str, str]]:
        """For the HTTP side: whether calls are answered, and named checks."""
        checks = self._readiness.checks()
        return (False, {**checks, "server": "draining"}) if self._draining else (self.ready, checks)


def _data_keys_of(
    config: Config, clock: Clock, completion: Completion, keystore: Keystore, wrapper: Wrapper
) -> DataKeys:
    path = CipherPath.OPENSSL if config.crypto.force_openssl else CipherPath.AUTO
    make_cipher = functools.partial(DataKeyCipher, path=path)
    return DataKeys(keystore, wrapper, clock, secrets.token_bytes, make_cipher, on_record=completion.offer)


def _lifetime_of(config: Config) -> Lifetime:
    return Lifetime(
        ttl_seconds=config.cache.ttl_seconds,
        jitter_fraction=config.cache.jitter_fraction,
        refresh_after_fraction=config.cache.refresh_after_fraction,
        failure_seconds=config.cache.unknown_key_seconds,
        max_entries=config.cache.max_keys,
        stale_on_outage_seconds=config.cache.stale_on_outage_seconds,
    )


def _rpc_of(
    config: Config,
    keyrings: Keyrings,
    usage: UsageCounts,
    administration: Administration,
    wrapping_keys: WrappingKeys,
    metrics: Metrics,
) -> RpcServer:
    server = config.server
    limits = BatchLimits(server.max_message_bytes, server.max_rows)
    in_flight = InFlightLimits(server.max_calls_in_flight, server.max_rows_in_flight, server.max_bytes_in_flight)
    admission = Admission(in_flight, metrics)
    return RpcServer(
        EncryptionService(keyrings, usage, admission, limits, Traffic(metrics)),
        InfoService(limits, ", ".join(wrapping_keys.names)),
        KeyringService(
            administration, admission, may_manage=server.manage_keys, max_message_bytes=server.max_message_bytes
        ),
        metrics,
        addresses=[str(address) for address in server.listen],
        max_message_bytes=server.max_message_bytes,
        with_reflection=server.reflection,
    )


def _http_of(
    config: Config, metrics: Metrics, state: Callable[[], tuple[bool, Mapping[str, str]]]
) -> HttpServer | None:
    address = config.server.http
    if address is None:
        return None
    return HttpServer(
        (address.host, address.port),
        metrics,
        state,
    )


def _on_keystore_result(metrics: Metrics, readiness: Readiness, reachable: bool) -> None:
    if not reachable:
        metrics.keystore_errors.inc()
    readiness.keystore_result(reachable)
