"""The provider in docs/kms-providers.md works as it stands there: installed as a package, against a transit engine."""

import base64
import os
import re
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.errors import (
    CorruptKeyError,
    KmsDeniedError,
    KmsDisabledError,
    KmsUnavailableError,
    SidekeyError,
    StartupError,
)
from sidecar.kms.context import encryption_context
from sidecar.kms.guard import GuardedKms
from sidecar.kms.port import SettingsError
from sidecar.kms.providers import find
from sidecar.metrics import Metrics
from tests.kms import loopback

PAGE = (Path(__file__).parents[2] / "docs" / "kms-providers.md").read_text()
DATA_KEY = bytes(range(32))
CONTEXT = encryption_context("default", "0123456789abcd")


def block(language: str) -> str:
    """The page's only block of code in this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(found)


async def transit(request: web.Request) -> web.StreamResponse:
    """What Vault's transit engine does with one key and a token."""
    if request.headers["X-Vault-Token"] != "test-token":
        return web.json_response({"errors": ["permission denied"]}, status=403)
    if not request.path.endswith("/sidekey"):
        return web.json_response({"errors": ["no such key"]}, status=404)
    cipher, body = AESGCM(b"v" * 32), await request.json()
    associated_data = base64.b64decode(body["associated_data"])
    if "/encrypt/" in request.path:
        nonce = os.urandom(12)
        sealed = nonce + cipher.encrypt(nonce, base64.b64decode(body["plaintext"]), associated_data)
        return web.json_response({"data": {"ciphertext": f"vault:v1:{base64.b64encode(sealed).decode()}"}})
    sealed = base64.b64decode(body["ciphertext"].removeprefix("vault:v1:"))
    try:
        plain = cipher.decrypt(sealed[:12], sealed[12:], associated_data)
    except InvalidTag:
        return web.json_response({"errors": ["message authentication failed"]}, status=400)
    return web.json_response({"data": {"plaintext": base64.b64encode(plain).decode()}})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's package, as pip leaves it behind."""
    ((plugin, target),) = tomllib.loads(block("toml"))["project"]["entry-points"]["sidekey.kms"].items()
    module = target.partition(":")[0]
    (tmp_path / f"{module}.py").write_text(block("python"))
    metadata = tmp_path / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sidekey-kms-vault\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[sidekey.kms]\n{plugin} = {target}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop(module, None)


@pytest.fixture
async def server() -> AsyncIterator[loopback.LoopbackKms]:
    async with loopback.serve(transit) as made:
        yield made


async def opened(url: str, tmp_path: Path, *, token: str = "test-token", key_name: str = "sidekey") -> GuardedKms:  # noqa: S107
    (tmp_path / "token").write_text(token + "\n")
    settings = {"plugin": "vaultKms", "address": url, "keyName": key_name, "tokenFile": str(tmp_path / "token")}
    kms = GuardedKms(find("vaultKms")(settings), Metrics())
    await kms.open()
    return kms


@pytest.mark.usefixtures("installed")
async def test_the_pages_provider_wraps_and_unwraps_and_binds_both_pairs(
    server: loopback.LoopbackKms, tmp_path: Path
) -> None:
    kms = await opened(server.url, tmp_path)
    wrapped_key = await kms.wrap(DATA_KEY, CONTEXT)
    assert await kms.unwrap(wrapped_key, CONTEXT) == DATA_KEY
    for moved in (encryption_context("other", "0123456789abcd"), encryption_context("default", "0123456789abce")):
        with pytest.raises(CorruptKeyError):
            await kms.unwrap(wrapped_key, moved)
    await kms.close()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("token", "key_name", "kind"), [("wrong", "sidekey", KmsDeniedError), ("test-token", "gone", KmsDisabledError)]
)
async def test_the_pages_provider_sorts_its_errors(
    server: loopback.LoopbackKms, tmp_path: Path, token: str, key_name: str, kind: type[SidekeyError]
) -> None:
    kms = await opened(server.url, tmp_path, token=token, key_name=key_name)
    with pytest.raises(kind):
        await kms.wrap(DATA_KEY, CONTEXT)
    await kms.close()


@pytest.mark.usefixtures("installed")
async def test_the_pages_provider_finds_a_missing_vault_unavailable(tmp_path: Path) -> None:
    kms = await opened("http://127.0.0.1:9", tmp_path)
    with pytest.raises(KmsUnavailableError):
        await kms.unwrap(b"vault:v1:AAAA", CONTEXT)
    await kms.close()


@pytest.mark.usefixtures("installed")
def test_the_pages_provider_says_everything_that_is_wrong_with_its_block() -> None:
    with pytest.raises(SettingsError) as caught:
        find("vaultKms")({"plugin": "vaultKms", "isKms": True, "keyName": 5, "address": "https://vault.example"})
    assert caught.value.problems == ("keyName: missing; must be a string", "tokenFile: missing; must be a string")


@pytest.mark.usefixtures("installed")
async def test_the_pages_provider_does_not_start_without_its_token_and_closes_all_the_same(tmp_path: Path) -> None:
    settings = {"address": "https://vault.example", "keyName": "k", "tokenFile": str(tmp_path / "missing")}
    kms = find("vaultKms")(settings)
    with pytest.raises(StartupError, match=r"token cannot be read from .*/missing") as caught:
        await kms.open()
    assert caught.value.__suppress_context__
    await kms.close()


@pytest.mark.usefixtures("installed")
def test_the_pages_provider_knows_its_own_wrapping_keys() -> None:
    kms = find("vaultKms")({"address": "https://vault.example", "keyName": "k", "tokenFile": "/t"})
    assert [
        kms.may_unwrap(kek_id) for kek_id in (kms.kek_id, "https://vault.example/older", "local:00", "arn:aws")
    ] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("body", [b"{}", b"<html>", b'{"data": {}}', b'{"data": {"plaintext": "%%%"}}'])
async def test_the_pages_provider_takes_an_answer_that_makes_no_sense_for_an_outage(
    tmp_path: Path, body: bytes
) -> None:
    async def nonsense(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    async with loopback.serve(nonsense) as server:
        kms = await opened(server.url, tmp_path)
        with pytest.raises(KmsUnavailableError):
            await kms.wrap(DATA_KEY, CONTEXT)
        with pytest.raises(KmsUnavailableError):
            await kms.unwrap(b"vault:v1:AAAA", CONTEXT)
        await kms.close()
