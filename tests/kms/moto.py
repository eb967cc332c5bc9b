"""AWS KMS's real HTTP API on loopback: moto's server, one for each test process, and the environment that leads there.

Fixtures; import them into a conftest: ``from tests.kms.moto import aws_environment, moto_kms, moto_server``.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

REGION = "eu-west-1"
_AWS_VARIABLES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_KMS",
)
_NO_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class MotoKms:
    """A wrapping key in a KMS on loopback; ``client`` is a client of its own for what the sidecar never calls."""

    client: Any
    key_id: str
    arn: str
    region: str = REGION

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The plugin's block for it."""
        return {"plugin": "awsKms", "isKms": True, "keyId": self.key_id, "region": self.region, **changes}


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """The URL of a server that lasts for the session."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    assert server._server is not None
    server._server.server_close()


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment with test credentials, and with nothing of this machine's or its cloud's in it."""
    for variable in (*_AWS_VARIABLES, *_NO_CREDENTIALS):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "environment-secret-access-key")
    return monkeypatch


@pytest.fixture
async def moto_kms(moto_server: str, aws_environment: pytest.MonkeyPatch) -> AsyncIterator[MotoKms]:
    """A new wrapping key in moto's KMS, with ``AWS_ENDPOINT_URL_KMS`` leading there."""
    aws_environment.setenv("AWS_ENDPOINT_URL_KMS", moto_server)
    async with get_session().create_client("kms", region_name=REGION) as client:
        made = (await client.create_key(Description="wraps data keys"))["KeyMetadata"]
        yield MotoKms(client, made["KeyId"], made["Arn"])
