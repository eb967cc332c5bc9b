"""The health check against a real gRPC health service."""

import socket
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from sidecar import cli

SERVICE = "sidekey.v1.EncryptionService"


class Sidecar:
    """A server with nothing but health, on a Unix socket and on TCP."""

    def __init__(self, socket_path: Path) -> None:
        self.health = health.HealthServicer()
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.unix = f"unix://{socket_path}"
        self._server.add_insecure_port(self.unix)
        self.tcp = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.set("", serving=True)
        self.set(SERVICE, serving=True)
        self._server.start()

    def set(self, service: str, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        self.health.set(service, status.SERVING if serving else status.NOT_SERVING)

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sidecar]:
    monkeypatch.delenv("SIDEKEY_TARGET", raising=False)
    monkeypatch.delenv("SIDEKEY_CONFIG", raising=False)
    monkeypatch.setenv("SIDEKEY_DATA_DIR", str(tmp_path))
    sidecar = Sidecar(tmp_path / "sidekey.sock")
    yield sidecar
    sidecar.stop()


def test_a_healthy_sidecar_is_exit_code_0_and_silence(running: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["healthcheck", "--target", running.tcp]) == 0
    assert cli.main(["healthcheck", "--target", running.unix]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_target_is_the_environments_else_the_configured_address(
    running: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["healthcheck"]) == 0
    monkeypatch.setenv("SIDEKEY_TARGET", "unix:///nowhere.sock")
    assert cli.main(["healthcheck"]) == 1
    monkeypatch.setenv("SIDEKEY_TARGET", running.tcp)
    assert cli.main(["healthcheck"]) == 0


def test_a_configuration_that_is_named_wins_over_the_environment(
    running: Sidecar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SIDEKEY_TARGET", "unix:///nowhere.sock")
    assert cli.main(["healthcheck", "--data-dir", str(tmp_path)]) == 0
    yaml = tmp_path / "sidekey.yaml"
    yaml.write_text(f"server: {{listen: {running.tcp}}}")
    assert cli.main(["healthcheck", "--config", str(yaml)]) == 0
    assert cli.main(["healthcheck", "--config", str(yaml), "--target", "unix:///nowhere.sock"]) == 1


@pytest.mark.parametrize("target", ["foo", "127.0.0.1", "/run/sidekey.sock", "http://127.0.0.1:1", "a:b:1", ""])
def test_a_target_that_is_no_address_is_wrong_usage(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["healthcheck", "--target", target]) == 2
    assert "argument --target: must be unix:///absolute/path or host:port" in capsys.readouterr().err
    if target:
        monkeypatch.setenv("SIDEKEY_TARGET", target)
        assert cli.main(["healthcheck"]) == 2
        text = "sidekey: configuration: SIDEKEY_TARGET: it must be unix:///absolute/path or host:port\n"
        assert capsys.readouterr().err == text


def test_a_sidecar_that_cannot_encrypt_is_unhealthy_and_still_alive(
    running: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    running.set(SERVICE, serving=False)
    assert cli.main(["healthcheck", "--target", running.tcp]) == 1
    assert (
        capsys.readouterr().err
        == f"sidekey: {SERVICE} at {running.tcp} is not healthy: NOT_SERVING; its log and /readyz say why\n"
    )
    assert cli.main(["healthcheck", "--target", running.tcp, "--live"]) == 0
    running.set("", serving=False)
    assert cli.main(["healthcheck", "--target", running.tcp, "--live"]) == 1


def test_a_service_that_the_server_does_not_have_is_unhealthy(
    running: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["healthcheck", "--target", running.tcp, "--service", "other.Service"]) == 1
    assert capsys.readouterr().err == f"sidekey: the server at {running.tcp} has no service other.Service\n"


def test_no_sidecar_at_all_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = f"unix://{tmp_path}/none.sock"
    assert cli.main(["healthcheck", "--target", target]) == 1
    assert capsys.readouterr().err == f"sidekey: no sidecar answers at {target}\n"


def test_a_sidecar_that_hangs_is_given_up_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        assert cli.main(["healthcheck", "--target", target, "--timeout", "0.3"]) == 1
    assert capsys.readouterr().err == f"sidekey: no answer from {target} within 0.3 s\n"


def test_a_proxy_in_the_environment_is_not_used(running: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert cli.main(["healthcheck", "--target", running.tcp]) == 0
