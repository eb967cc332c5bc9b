"""DynamoDB's real HTTP API on loopback: moto's server, one for each test process, and the environment that leads there.

Fixtures; to use them in a suite, import them into its conftest:

    from tests.keystore.dynamodb import aws_environment, dynamodb, dynamodb_server
"""

import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.kms.moto import aws_environment

__all__ = ["DynamoDb", "aws_environment", "dynamodb", "dynamodb_server"]

REGION = "eu-west-1"
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "environment-secret-access-key",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class DynamoDb:
    """A place for one keystore: a table's name that no other test uses. The table itself is not there yet."""

    endpoint: str
    table: str

    @property
    def url(self) -> str:
        """The keystore's URL."""
        return f"dynamodb://{self.table}?region={REGION}"

    @property
    def environment(self) -> dict[str, str]:
        """What another process needs in its environment to use the URL."""
        return {**_ENVIRONMENT, "AWS_ENDPOINT_URL_DYNAMODB": self.endpoint}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """A client of its own, for what no keystore does."""
        async with get_session().create_client(
            "dynamodb",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=_ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        ) as made:
            yield made


class _OneAtATime:
    """moto's application, one request after the other.

    DynamoDB's conditions and transactions are atomic, and moto's are not between threads: each looks first and then
    writes, and a canceled transaction puts the whole table back as it was when it began.
    """

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._turn:
            return list(self._application(environ, start_response))


@pytest.fixture(scope="session")
def dynamodb_server() -> Iterator[str]:
    """The URL of a server that lasts for the session; other processes may use it too."""
    server = make_server("127.0.0.1", 0, _OneAtATime(), threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dynamodb(dynamodb_server: str, aws_environment: pytest.MonkeyPatch) -> DynamoDb:
    """A place for a new keystore, with this process's environment leading there."""
    place = DynamoDb(dynamodb_server, f"sidekey-{secrets.token_hex(8)}")
    for name, value in place.environment.items():
        aws_environment.setenv(name, value)
    return place
