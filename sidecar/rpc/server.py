"""The gRPC server: services, listeners and drain."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sidekey.v1 import encryption_pb2, encryption_pb2_grpc, info_pb2, info_pb2_grpc, keyring_pb2, keyring_pb2_grpc

from sidecar.errors import StartupError
from sidecar.metrics import Metrics
from sidecar.rpc.boundary import Boundary
from sidecar.rpc.encryption import EncryptionService
from sidecar.rpc.info import InfoService
from sidecar.rpc.keyring import KeyringService
from sidecar.rpc.options import server_options
from sidecar.rpc.sockets import SocketLock

ENCRYPTION_SERVICE = encryption_pb2.DESCRIPTOR.services_by_name["EncryptionService"].full_name
_INFO_SERVICE = info_pb2.DESCRIPTOR.services_by_name["InfoService"].full_name
_KEYRING_SERVICE = keyring_pb2.DESCRIPTOR.services_by_name["KeyringService"].full_name
_UNIX = "unix://"
_LAST_WORDS_SECONDS = 0.25

log = structlog.get_logger(__name__)


class RpcServer:
    """Serves on every address until stopped. ``addresses``: ``unix:///path`` or ``host:port``, port 0 for any."""

    def __init__(
        self,
        encryption: EncryptionService,
        info: InfoService,
        keyring: KeyringService,
        metrics: Metrics,
        *,
        addresses: Sequence[str],
        max_message_bytes: int,
        with_reflection: bool,
    ) -> None:
        self._addresses = addresses
        self._locks = ExitStack()
        self._health = health.aio.HealthServicer()
        self._boundary = Boundary(metrics)
        self._server = grpc.aio.server(interceptors=[self._boundary], options=server_options(max_message_bytes))
        encryption_pb2_grpc.add_EncryptionServiceServicer_to_server(encryption, self._server)
        keyring_pb2_grpc.add_KeyringServiceServicer_to_server(keyring, self._server)
        info_pb2_grpc.add_InfoServiceServicer_to_server(info, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = (ENCRYPTION_SERVICE, _KEYRING_SERVICE, _INFO_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self) -> list[str]:
        """Listen; returns the addresses with the ports that were bound.

        Raises:
            StartupError: an address cannot be had; nothing is served then.
        """
        await self.set_ready(False)
        try:
            bound = [self._bind(address) for address in self._addresses]
        except StartupError:
            self._locks.close()
            raise
        await self._server.start()
        return bound

    def _bind(self, address: str) -> str:
        if address.startswith(_UNIX):
            lock = SocketLock(Path(address.removeprefix(_UNIX)))
            lock.acquire()
            self._locks.callback(lock.release)
            self._add_port(address)
            lock.guard()
            return address
        host = address.rpartition(":")[0]
        return f"{host}:{self._add_port(address)}"

    def _add_port(self, address: str) -> int:
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if not port:
            raise StartupError(f"cannot listen on {address}: it is in use or not allowed")
        return port

    async def set_ready(self, ready: bool) -> None:
        """Say by the health service whether values can be encrypted and decrypted now; "" stays SERVING: alive."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(ENCRYPTION_SERVICE, status)

    async def stop(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, take no new calls, and give those that run some time to finish."""
        await self._health.enter_graceful_shutdown()
        ending = asyncio.create_task(self._end_streams())
        await self._server.stop(grace_seconds)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        self._locks.close()

    async def _end_streams(self) -> None:
        """Cut streams off once nothing else runs: health's watchers never end, and would take all the time there is."""
        # By then watchers have been told, and what was on its way in when the listeners closed has begun.
        await asyncio.sleep(_LAST_WORDS_SECONDS)
        await self._boundary.idle()
        # Not 0: the last answers may still be on their way out.
        await self._server.stop(_LAST_WORDS_SECONDS)
