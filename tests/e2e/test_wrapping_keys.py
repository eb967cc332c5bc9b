"""From the local wrapping key to AWS KMS, to another region, and back, with sidecars that serve all the while."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session  # type: ignore[import-untyped]

from sidecar.config import load
from sidecar.errors import KmsUnavailableError
from sidecar.keys.rewrapping import RewrapPage, Rewrapping
from sidecar.metrics import Metrics
from sidecar.parts import keystore_of, wrapping_keys_of
from tests.e2e.conftest import Serve
from tests.fakes.kms import FakeKms
from tests.kms.moto import MotoKms
from tests.rpc.batches import Row, rows_of, values
from tests.rpc.running import Running, connected, running, until

FAR_REGION = "us-east-1"
SETTINGS: Mapping[str, Any] = {"keyrings": {"*": {}}}


@pytest.fixture
async def far_kms(moto_server: str, aws_environment: pytest.MonkeyPatch) -> AsyncIterator[MotoKms]:
    """A wrapping key in another region than ``moto_kms``."""
    aws_environment.setenv("AWS_ENDPOINT_URL_KMS", moto_server)
    async with get_session().create_client("kms", region_name=FAR_REGION) as client:
        made = (await client.create_key())["KeyMetadata"]
        yield MotoKms(client, made["KeyId"], made["Arn"], FAR_REGION)


class Fleet:
    """One data directory, served under configurations that follow one another."""

    def __init__(self, tmp_path: Path) -> None:
        self.data_dir = tmp_path / "data"
        self.config = tmp_path / "sidekey.yaml"
        self.sealed: dict[str, list[Row]] = {}

    def configure(self, **plugins: Mapping[str, Any]) -> None:
        """The configuration of the sidecars that start from now on."""
        self.config.write_text(json.dumps({"plugins": plugins}))  # JSON is YAML

    def serving(self) -> Any:
        """A sidecar."""
        return running(self.data_dir, SETTINGS, config=self.config)

    async def uses(self, it: Running, keyring: str) -> None:
        """Encrypt under a new keyring, and decrypt what was encrypted so far."""
        self.sealed[keyring] = await it.caller.sealed(keyring.encode(), keyring=keyring)
        await self.decrypts_all(it)

    async def decrypts_all(self, it: Running) -> None:
        """Decrypt what was encrypted so far."""
        for keyring, sealed in self.sealed.items():
            assert rows_of(await it.caller.decrypt(values(*sealed))) == [keyring.encode()]

    @asynccontextmanager
    async def _rewrapping(self) -> AsyncIterator[tuple[Rewrapping, Any]]:
        config = load(self.config, {}, {"dataDir": str(self.data_dir), **SETTINGS})
        keystore = keystore_of(config)
        await keystore.open()
        keys = wrapping_keys_of(config, Metrics(), keystore=keystore)
        await keys.open()
        try:
            yield Rewrapping(keystore, keys), keystore
        finally:
            await keys.close()
            await keystore.close()

    async def rewrap(self) -> RewrapPage:
        """Rewrap everything, beside whoever serves."""
        async with self._rewrapping() as (rewrapping, _):
            return await rewrapping.page(None, None, 1000, dry_run=False)

    async def kek_ids(self) -> set[frozenset[str]]:
        """The sets of wrapping keys that data keys are wrapped under."""
        async with self._rewrapping() as (_, keystore):
            rows = await keystore.list_keys()
        return {frozenset(copy.kek_id for copy in row.copies) for row in rows}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


async def test_data_keys_move_from_local_to_aws_to_another_region_and_back_and_every_value_stays_readable(
    fleet: Fleet, moto_kms: MotoKms, far_kms: MotoKms
) -> None:
    fleet.configure()
    async with fleet.serving() as it:
        await fleet.uses(it, "local")
        await fleet.uses(it, "local2")

    # To AWS: the local wrapping key unwraps as long as its file is there.
    fleet.configure(near=moto_kms.settings())
    await _moves(fleet, "near", {frozenset({moto_kms.arn})})
    kek = fleet.data_dir / "kek"
    kept = fleet.data_dir / "kept"
    shutil.move(kek, kept)
    async with fleet.serving() as it:
        await fleet.decrypts_all(it)
    assert not await asyncio.to_thread(kek.exists)

    # To another region: its predecessor unwraps as a former KMS.
    former = moto_kms.settings(isKms=False, formerKms=True)
    fleet.configure(near=former, far=far_kms.settings())
    await _moves(fleet, "far", {frozenset({far_kms.arn})})
    fleet.configure(far=far_kms.settings())
    async with fleet.serving() as it:
        await fleet.decrypts_all(it)

    # And back: no data key needs the old local wrapping key, so that a new one may be made.
    fleet.configure(far=far_kms.settings(isKms=False, formerKms=True))
    (local,) = await _moves(fleet, "home", None)
    assert {kek_id.partition(":")[0] for kek_id in local} == {"local"}
    fleet.configure()
    async with fleet.serving() as it:
        await fleet.decrypts_all(it)
    assert kek.read_bytes() != kept.read_bytes()


async def _moves(fleet: Fleet, name: str, expected: set[frozenset[str]] | None) -> set[frozenset[str]]:
    """Serve before, during and after a rewrap under the present configuration."""
    async with fleet.serving() as it:
        await fleet.uses(it, f"{name}-before")
        used = asyncio.create_task(fleet.uses(it, f"{name}-during"))
        page = await fleet.rewrap()
        await used
        assert page.failures == ()
        await fleet.rewrap()  # whatever was made or completed meanwhile
        await fleet.uses(it, f"{name}-after")
    async with fleet.serving() as it:
        await fleet.decrypts_all(it)
    found = await fleet.kek_ids()
    assert expected is None or found == expected
    return found


async def test_each_of_two_regions_alone_unwraps_what_both_wrapped(
    fleet: Fleet, moto_kms: MotoKms, far_kms: MotoKms
) -> None:
    fleet.configure(near=moto_kms.settings(), far=far_kms.settings())
    async with fleet.serving() as it:
        await fleet.uses(it, "both")
        for name in ("near", "far"):
            for operation in ("wrap", "unwrap"):
                labels = {"kms": name, "operation": operation, "result": "ok"}
                assert await it.metric("sidekey_kms_calls_total", **labels) == 2  # the start's, and the new data key's
    assert await fleet.kek_ids() == {frozenset({moto_kms.arn, far_kms.arn})}
    for name, kms in {"near": moto_kms, "far": far_kms}.items():
        fleet.configure(**{name: kms.settings()})
        async with fleet.serving() as it:
            await fleet.decrypts_all(it)


async def test_a_former_kms_needs_no_permission_to_wrap_and_is_never_asked_to(
    fleet: Fleet, moto_kms: MotoKms, far_kms: MotoKms
) -> None:
    fleet.configure(near=moto_kms.settings())
    async with fleet.serving() as it:
        await fleet.uses(it, "near")
    fleet.configure(near=moto_kms.settings(isKms=False, formerKms=True), far=far_kms.settings())
    async with fleet.serving() as it:
        await fleet.decrypts_all(it)
        assert await it.metric("sidekey_kms_calls_total", kms="near", operation="wrap", result="ok") == 0
        assert await it.metric("sidekey_kms_calls_total", kms="near", operation="unwrap", result="ok") == 1


async def test_the_loss_of_one_kms_costs_nothing_and_its_copies_come_when_it_is_back(tmp_path: Path) -> None:
    near, far = FakeKms("fake:near"), FakeKms("fake:far")
    near.fail_wrap_with = near.fail_unwrap_with = KmsUnavailableError("away")
    async with running(tmp_path / "data", SETTINGS, kms={"near": near, "far": far}) as it:
        assert await it.caller.status() == "SERVING"
        sealed = await it.caller.sealed(b"v")
        assert await it.metric("sidekey_incomplete_data_keys") == 1
        near.fail_wrap_with = near.fail_unwrap_with = None

        async def completed() -> bool:
            return await it.metric("sidekey_incomplete_data_keys") == 0

        await until(completed, 60)
    async with running(tmp_path / "data", SETTINGS, kms={"near": near}) as it:
        assert rows_of(await it.caller.decrypt(values(*sealed))) == [b"v"]


async def test_a_lost_local_wrapping_key_is_not_replaced_and_one_that_is_restored_serves(
    tmp_path: Path, served: Serve
) -> None:
    data_dir = tmp_path / "data"
    first = served(data_dir).serving()
    async with connected(first.target) as caller:
        sealed = await caller.sealed(b"kept")
    first.stop()
    shutil.move(data_dir / "kek", tmp_path / "backup")
    refused = served(data_dir)
    assert refused.exit_code() == 1
    message = refused.stderr.splitlines()[-1]
    assert message == (
        f"sidekey: the wrapping key {data_dir}/kek is missing, and data keys are wrapped under it: "
        "restore it from its backup, for nothing else unwraps them"
    )
    assert "Traceback" not in refused.stderr
    assert not await asyncio.to_thread((data_dir / "kek").exists)
    shutil.move(tmp_path / "backup", data_dir / "kek")
    third = served(data_dir).serving()
    async with connected(third.target) as caller:
        assert rows_of(await caller.decrypt(values(*sealed))) == [b"kept"]
    third.stop()
