"""Processes that end with their test, and the API of AWS KMS on loopback: moto's, with knobs before it."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.e2e.processes import Served
from tests.kms.loopback import Answer, LoopbackKms, serve
from tests.kms.moto import MotoKms, aws_environment, moto_kms, moto_server

__all__ = ["aws_environment", "moto_kms", "moto_server"]

Serve = Callable[..., Served]


@pytest.fixture
def served() -> Iterator[Serve]:
    """Starts processes; whichever still runs is ended after the test."""
    started: list[Served] = []

    def start(*arguments: Any, **keywords: Any) -> Served:
        started.append(Served(*arguments, **keywords))
        return started[-1]

    yield start
    for process in started:
        process.kill()


class KmsApi:
    """A wrapping key behind the real HTTP API. ``loopback.answer`` is the knob; ``forward`` is what it is at first.

    ``config`` is the file of a configuration that names it.
    """

    def __init__(self, loopback: LoopbackKms, forward: Answer, moto: MotoKms, config: Path) -> None:
        self.loopback = loopback
        self.forward = forward
        self.config = config
        # JSON is YAML.
        config.write_text(json.dumps({"plugins": {"awsKms": moto.settings()}}))

    def environment(self) -> dict[str, str]:
        """What leads a process there."""
        return {
            "AWS_ENDPOINT_URL_KMS": self.loopback.url,
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": "environment-secret-access-key",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@pytest.fixture
async def kms_api(
    moto_server: str, moto_kms: MotoKms, aws_environment: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[KmsApi]:
    """A KMS that works until a test turns its knob."""
    async with aiohttp.ClientSession() as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = {name: request.headers[name] for name in ("X-Amz-Target", "Content-Type", "Authorization")}
            async with session.post(moto_server, data=await request.read(), headers=headers) as answer:
                return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

        async with serve(forward) as loopback:
            aws_environment.setenv("AWS_ENDPOINT_URL_KMS", loopback.url)
            yield KmsApi(loopback, forward, moto_kms, tmp_path / "sidekey.yaml")
