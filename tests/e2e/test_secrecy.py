"""Nothing of a value, a key, a credential or a foreign exception's text in anything that the sidecar says."""

import asyncio
import base64
import json
import sqlite3
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from sidekey.v1 import encryption_pb2 as pb

from tests.e2e.conftest import KmsApi, Serve
from tests.e2e.processes import Served
from tests.kms.loopback import error, raw, reset
from tests.rpc.batches import fixed, ragged, values
from tests.rpc.running import Caller, connected

PLAINTEXT = b"marked-plaintext-7f3a"
ASSOCIATED_DATA = b"marked-associated-data-91c4"
METADATA = "marked-metadata-55e0"
VENDOR = "vendor-text"
SECRET_ACCESS_KEY = "environment-secret-access-key"  # noqa: S105 (of the test's own KMS)


def _forms(secret: bytes) -> set[str]:
    """As it would look in text: as it is, in hex, in base64 of either alphabet, and as Python and JSON escape it."""
    return {
        secret.hex(),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        repr(secret)[2:-1],
        json.dumps(secret.decode("latin-1"))[1:-1],
        secret.decode("latin-1"),
    }


class Told:
    """Everything that a caller got to read."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def refused(self, call: Awaitable[object]) -> None:
        """A call that must fail; what it says is kept."""
        try:
            await call
        except grpc.aio.AioRpcError as error:
            self.texts.append(
                f"{error.code()} {error.details()} {error.trailing_metadata()} {error.debug_error_string()}"
            )
            return
        raise AssertionError("a bad call was answered")


async def _good_and_bad(caller: Caller, told: Told) -> None:
    """A bit of everything that callers do, with the marks in every place that a caller can write to."""
    marked: dict[str, Any] = {"associated_data": ASSOCIATED_DATA}
    sealed = await caller.encrypt(ragged(PLAINTEXT, None, PLAINTEXT * 30), **marked)
    await caller.decrypt(sealed.column, **marked)
    await caller.encrypt(fixed(PLAINTEXT, width=len(PLAINTEXT)), mode=pb.MODE_DETERMINISTIC, **marked)
    rows = await caller.sealed(*[PLAINTEXT] * 50, **marked)
    bad: list[Awaitable[object]] = [
        caller.decrypt(sealed.column),
        caller.decrypt(values(*rows), associated_data=PLAINTEXT),
        caller.decrypt(values(PLAINTEXT * 3), **marked),
        caller.decrypt(values(b"\xf8" + PLAINTEXT * 3), **marked),
        caller.encrypt(pb.ColumnBatch(data=PLAINTEXT, byte_width=4), **marked),
        caller.encrypt(pb.ColumnBatch(data=PLAINTEXT, offsets=PLAINTEXT[:20]), **marked),
        caller.encrypt(pb.ColumnBatch(data=PLAINTEXT), **marked),
        caller.encrypt(values(PLAINTEXT), keyring=PLAINTEXT.decode().upper(), **marked),
        caller.encrypt(values(PLAINTEXT), associated_data=ASSOCIATED_DATA * 3_000),
        caller.encrypt(values(PLAINTEXT), mode=77, **marked),
        caller.raw("/sidekey.v1.EncryptionService/Encrypt", b"\x22\x7f" + PLAINTEXT),
        caller.raw("/sidekey.v1.EncryptionService/Encrypt", PLAINTEXT * 1_000_000),
        caller.raw(f"/sidekey.v1.EncryptionService/{PLAINTEXT.decode()}", PLAINTEXT),
    ]
    for call in bad:
        await told.refused(call)
    answer = await caller.decrypt(values(*rows, PLAINTEXT), on_error=pb.ON_ERROR_REPORT, associated_data=b"other")
    told.texts.append(str(answer.row_errors))
    encrypt: Any = caller.stub.Encrypt
    request = pb.EncryptRequest(values=values(PLAINTEXT), **marked)
    await encrypt(request, metadata=(("x-marked", METADATA),))
    call = encrypt(pb.EncryptRequest(values=values(*[PLAINTEXT] * 5_000)), timeout=0.0005)
    told.texts.append(str(await asyncio.gather(call, return_exceptions=True)))


async def _everything_said(process: Served, told: Told) -> str:
    http = process.wait_for("serving")["http"]
    pages = []
    async with aiohttp.ClientSession() as session:
        for path in ("/metrics", "/readyz", "/livez", f"/{PLAINTEXT.decode()}"):
            async with session.get(f"http://{http}{path}", headers={"X-Marked": METADATA}) as answer:
                pages.append(await answer.text() + str(answer.headers))
    await asyncio.to_thread(process.stop)
    assert process.stdout == ""
    assert len(process.lines()) == len(process.stderr.splitlines()) > 5
    return "\n".join([process.stderr, process.stdout, *pages, *told.texts])


def _assert_silent_of(said: str, secrets: dict[str, bytes]) -> None:
    for name, secret in secrets.items():
        for form in _forms(secret):
            assert form not in said, f"{name} in {said[max(0, said.index(form) - 200) :][:400]}"


_MARKS = {"plaintext": PLAINTEXT, "associated data": ASSOCIATED_DATA, "metadata": METADATA.encode()}
_FLAGS = ("--http", "127.0.0.1:0", "--log-level", "debug")


async def test_the_embedded_default_says_nothing_of_values_or_its_wrapping_key(tmp_path: Path, served: Serve) -> None:
    process = served(tmp_path / "data", *_FLAGS)
    await asyncio.to_thread(process.serving)
    told = Told()
    async with connected(process.target) as caller:
        await _good_and_bad(caller, told)
        await caller.still_serves()
    said = await _everything_said(process, told)
    assert "call_failed" in said
    with closing(sqlite3.connect(tmp_path / "data" / "keystore.db")) as database:
        ((wrapped_key, commitment),) = database.execute("SELECT wrapped_key, commitment FROM data_keys")
    kek = (tmp_path / "data" / "kek").read_bytes()
    _assert_silent_of(said, _MARKS | {"kek": kek, "wrapped key": wrapped_key, "commitment": commitment})
    assert kek not in (tmp_path / "data" / "keystore.db").read_bytes()


async def test_a_sidecar_of_aws_says_nothing_of_data_keys_credentials_or_the_vendors_words(
    tmp_path: Path, served: Serve, kms_api: KmsApi
) -> None:
    # The end of the data keys' time: every trouble of the KMS reaches a refresh, a call and the log.
    environment = kms_api.environment() | {"SIDEKEY_CACHE_TTL_SECONDS": "0.2", "SIDEKEY_KMS_DEADLINE_SECONDS": "1"}
    environment |= {"SIDEKEY_CACHE_UNKNOWN_KEY_SECONDS": "0.01", "SIDEKEY_KEYRINGS": "*"}
    process = served(tmp_path / "data", "--config", str(kms_api.config), *_FLAGS, environment=environment)
    await asyncio.to_thread(process.serving)
    told = Told()
    async with connected(process.target) as caller:
        await _good_and_bad(caller, told)
        rows = await caller.sealed(PLAINTEXT)
        troubles = [error(400, code) for code in ("AccessDeniedException", "InvalidCiphertextException", "MadeUp")]
        for trouble in [*troubles, error(500, "KMSInternalException"), raw(200, VENDOR.encode()), reset]:
            kms_api.loopback.answer = trouble
            await asyncio.sleep(0.2)
            await told.refused(caller.decrypt(values(*rows)))
            await told.refused(caller.encrypt(values(PLAINTEXT), keyring="cold"))
        kms_api.loopback.answer = kms_api.forward
        await caller.serves_again()
    said = await _everything_said(process, told)
    assert "KMS_ACCESS_DENIED" in said
    assert VENDOR not in said
    assert "MadeUp" not in said
    bodies = [json.loads(body) for body in kms_api.loopback.bodies]
    data_keys = {base64.b64decode(body["Plaintext"]) for body in bodies if "Plaintext" in body}
    assert data_keys
    _assert_silent_of(said, _MARKS | {f"data key {n}": data_key for n, data_key in enumerate(data_keys)})
    _assert_silent_of(said, {"credential": SECRET_ACCESS_KEY.encode()})
    stored = (tmp_path / "data" / "keystore.db").read_bytes()
    assert not any(data_key in stored for data_key in data_keys)


def test_the_search_for_secrets_would_find_one() -> None:
    """The tests above are worth nothing if a leak looked different from what they look for."""
    for form in (repr({"key": PLAINTEXT}), json.dumps(PLAINTEXT.decode()), base64.b64encode(PLAINTEXT).decode()):
        assert any(wanted in form for wanted in _forms(PLAINTEXT))
    noise = bytes(range(256))
    for form in (repr({"key": noise}), json.dumps(noise.decode("latin-1")), f"{noise.hex()}"):
        assert any(wanted in form for wanted in _forms(noise))
