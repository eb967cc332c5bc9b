"""What stands around the encryption service: health, information, reflection, files and sockets."""

import stat
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sidekey.v1 import info_pb2

import sidecar as package
from sidecar.composition import Sidecar
from sidecar.config import load
from sidecar.errors import KmsDeniedError, KmsUnavailableError
from tests.fakes.kms import FakeKms
from tests.rpc.batches import values
from tests.rpc.running import ENCRYPTION_SERVICE, Refusal, Running, connected, refusal, running


async def test_the_information_is_the_version_the_limits_the_suites_and_the_kind_of_kms(sidecar: Running) -> None:
    info = await sidecar.caller.info.GetServerInfo(info_pb2.GetServerInfoRequest())
    assert (info.version, info.kms) == (package.__version__, "local")
    assert (info.limits.max_message_bytes, info.limits.max_rows) == (16 << 20, 1 << 20)
    assert [(suite.id, suite.name, suite.overhead_bytes) for suite in info.suites] == [
        (0xF8, "AES-256-SIV, deterministic", 24),
        (0xF9, "AES-256-SIV, randomized", 40),
    ]


async def test_health_knows_the_server_and_the_service_and_nothing_else(sidecar: Running) -> None:
    assert await sidecar.caller.status("") == "SERVING"
    assert await sidecar.caller.status() == "SERVING"
    refused = await refusal(sidecar.caller.status("sidekey.v1.Unknown"))
    assert refused == Refusal(grpc.StatusCode.NOT_FOUND, "", "")
    assert await sidecar.page("/livez") == (200, "ok")
    assert (await sidecar.page("/readyz"))[0] == 200


async def test_who_watches_health_is_told_of_every_change_and_let_go_at_the_end(tmp_path: Path) -> None:
    kms = FakeKms()
    kms.fail_wrap_with = KmsUnavailableError("away")
    seen: list[str] = []
    async with running(tmp_path, kms=kms) as it:
        request = health_pb2.HealthCheckRequest(service=ENCRYPTION_SERVICE)
        watch = it.caller.health.Watch(request)

        async def read() -> str:
            answer = await watch.read()
            seen.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
            return seen[-1]

        assert await read() == "NOT_SERVING"
        assert await it.caller.status("") == "SERVING"
        kms.fail_wrap_with = None
        assert await read() == "SERVING"
        # A watcher never ends by itself; if it held up the drain, this test would run into its own time limit.
        await it.sidecar.drain(600)
        assert await read() == "NOT_SERVING"
        refused = await refusal(watch.read())
        assert refused.code is grpc.StatusCode.UNAVAILABLE


async def test_a_sidecar_with_a_warm_key_stays_ready_while_its_kms_denies(tmp_path: Path) -> None:
    kms = FakeKms()
    async with running(tmp_path, {"keyrings": {"*": {}}}, kms=kms) as it:
        await it.caller.still_serves()
        kms.fail_wrap_with = kms.fail_unwrap_with = KmsDeniedError("denied")
        refused = await refusal(it.caller.sealed(b"v", keyring="cold"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "KMS_ACCESS_DENIED")
        status, text = await it.page("/readyz")
        assert status == 200
        assert '"kms": "denied"' in text
        assert await it.caller.status() == "SERVING"
        await it.caller.still_serves()


async def _listed_services(it: Running) -> list[str]:
    channel: Any = it.caller.channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo(iter([request]))
    return sorted([service.name async for answer in call for service in answer.list_services_response.service])


async def test_reflection_is_off_unless_it_is_switched_on(tmp_path: Path, sidecar: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _listed_services(sidecar)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    async with running(tmp_path / "other", {"server.reflection": True}) as it:
        assert await _listed_services(it) == [
            *("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"),
            *("sidekey.v1.EncryptionService", "sidekey.v1.InfoService", "sidekey.v1.KeyringService"),
        ]


async def test_the_same_sidecar_serves_on_a_socket_and_on_tcp_with_port_0(tmp_path: Path) -> None:
    sidecar = Sidecar(
        load(None, {}, {"dataDir": str(tmp_path), "server.listen": [f"unix://{tmp_path}/s/a", "127.0.0.1:0"]})
    )
    (tmp_path / "s").mkdir(mode=0o750)
    try:
        (unix, tcp), http = await sidecar.start()
        assert http is None
        assert tcp.startswith("127.0.0.1:")
        assert not tcp.endswith(":0")
        async with connected(unix) as one, connected(tcp) as two:
            sealed = await one.sealed(b"here")
            answer = await two.decrypt(values(*sealed))
            assert list(answer.values.values) == [b"here"]
            await two.still_serves()
    finally:
        await sidecar.close()


async def test_files_are_for_their_owner_and_the_socket_for_its_group(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with running(data_dir) as it:
        await it.caller.still_serves()
        modes = {path.name: stat.filemode(path.lstat().st_mode) for path in data_dir.iterdir()}
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    owners = "-rw-------"
    assert modes == {
        **dict.fromkeys(("kek", "keystore.db", "keystore.db-wal", "keystore.db-shm", "sidekey.sock.lock"), owners),
        "sidekey.sock": "srw-rw----",
    }
    assert not (data_dir / "sidekey.sock").exists()


async def test_a_socket_directory_of_its_own_is_made_for_owner_and_group_alone(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "sidekey"
    async with running(tmp_path / "data", {"server.listen": [f"unix://{directory}/a.sock"]}) as it:
        assert stat.S_IMODE(directory.stat().st_mode) & 0o027 == 0
        await it.caller.still_serves()


async def test_the_http_side_says_not_ready_while_it_drains(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        assert (await it.page("/readyz"))[0] == 200
        await it.sidecar.drain(1)

        status, text = await it.page("/readyz")
        assert status == 503
        assert '"server": "draining"' in text
        assert (await it.page("/livez"))[0] == 200
