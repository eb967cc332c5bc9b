"""What the parts that the configuration names refuse, and which of them there are."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Config, ConfigError, load
from sidecar.errors import CorruptKeyError, StartupError
from sidecar.keystore.port import DataKeyRecord, KeyState, WrappedCopy
from sidecar.metrics import Metrics
from sidecar.parts import check_parts, former_kmses_of, kmses_of, wrapping_keys_of
from tests.fakes.keystore import MemoryKeystore

AWS: dict[str, Any] = {"plugin": "awsKms", "isKms": True, "keyId": "alias/sidekey", "region": "eu-west-1"}
FORMER = AWS | {"isKms": False, "formerKms": True}
LOCAL, ARN = "local:0123456789abcdef", "arn:aws:kms:eu-west-1:123456789012:key/1"
FAR_ARN = "arn:aws:kms:us-east-1:123456789012:key/1"


def config_of(tmp_path: Path, plugins: Mapping[str, Any] | None = None, **settings: Any) -> Config:
    """A configuration whose data directory is ``tmp_path/data``."""
    file = tmp_path / "sidekey.yaml"
    file.write_text(json.dumps({"plugins": dict(plugins or {})}))  # JSON is YAML
    data_dir = tmp_path / "data"
    data_dir.mkdir(exist_ok=True)
    return load(file, {}, {"dataDir": str(data_dir), **settings})


def record(generation: int, *kek_ids: str, state: KeyState = KeyState.ENABLED) -> DataKeyRecord:
    first, *further = kek_ids
    copies = tuple(WrappedCopy(kek_id, b"wrapped") for kek_id in further)
    made = DataKeyRecord(
        f"{generation:014x}",
        "k",
        generation,
        state,
        datetime(2026, 1, 1, tzinfo=UTC),
        first,
        b"wrapped",
        bytes(32),
        copies,
    )
    return replace(made, wrapped_key=b"") if state is KeyState.DESTROYED else made


async def keystore_with(*records: DataKeyRecord) -> MemoryKeystore:
    store = MemoryKeystore()
    await store.open(upgrade=True)
    for each in records:
        assert await store.insert(each)
    return store


def test_everything_that_keystore_and_kmss_refuse_is_said_at_once_by_its_place(tmp_path: Path) -> None:
    plugins = {
        "near": {"plugin": "awsKms", "isKms": True, "region": "Frankfurt"},
        "far": {"plugin": "awsKMS", "isKms": True},
        "old": FORMER | {"keyId": ""},
    }
    with pytest.raises(ConfigError) as caught:
        check_parts(config_of(tmp_path, plugins, **{"keystore.url": "mysql://h/d"}))
    keystore, key_id, region, provider, old = caught.value.problems
    assert keystore.startswith("keystore.url: ")
    assert key_id == "plugins.near.keyId: missing; must be the id, ARN or alias of the wrapping key"
    assert region == "plugins.near.region: must be an AWS region such as eu-west-1"
    assert provider.startswith("plugins.far.plugin: no installed package provides the KMS plugin 'awsKMS'")
    assert old.startswith("plugins.old.keyId: missing")


def test_no_more_kmss_wrap_than_a_data_key_has_copies(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 16"):
        kmses_of(config_of(tmp_path, {f"k{number}": AWS for number in range(17)}))


@pytest.mark.parametrize("block", [AWS, FORMER], ids=["wraps", "former"])
def test_the_local_wrapping_keys_name_is_no_plugins(tmp_path: Path, block: Mapping[str, Any]) -> None:
    config = config_of(tmp_path, {"local": block})
    (tmp_path / "data" / "kek").touch()
    with pytest.raises(ConfigError) as caught:
        check_parts(config)
    assert caught.value.problems == (
        "plugins.local: this name is the local wrapping key's: give the block another one",
    )


def test_kmss_are_in_the_order_that_is_configured(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"a": AWS, "b": AWS, "c": AWS}, **{"kms.order": ["b", "c", "a"]})
    assert list(kmses_of(config)) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("plugins", "with_kek", "wrapping", "former"),
    [
        ({}, False, ["local"], []),
        ({}, True, ["local"], []),
        ({"a": AWS}, False, ["a"], []),
        ({"a": AWS}, True, ["a"], ["local"]),
        ({"a": FORMER}, True, ["local"], ["a"]),
        ({"a": AWS, "b": FORMER}, True, ["a"], ["b", "local"]),
        ({"a": AWS, "b": AWS | {"isKms": False}}, False, ["a"], []),
    ],
)
def test_which_kmss_wrap_and_which_only_unwrap(
    tmp_path: Path, plugins: Mapping[str, Any], with_kek: bool, wrapping: list[str], former: list[str]
) -> None:
    config = config_of(tmp_path, plugins)
    if with_kek:
        (tmp_path / "data" / "kek").touch()
    assert (list(kmses_of(config)), list(former_kmses_of(config))) == (wrapping, former)


async def test_a_local_wrapping_key_that_wraps_no_more_is_never_made(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"a": AWS})
    kek = tmp_path / "data" / "kek"
    kek.touch()
    former = former_kmses_of(config)["local"]
    kek.unlink()
    with pytest.raises(StartupError, match="kek is missing"):
        await former.open()
    assert os.listdir(tmp_path / "data") == []


MISSING = r"/kek is missing, .*: restore it from its backup"
ELSEWHERE = rf"data keys are wrapped under (local:[0-9a-f]+, )?{ARN}, no KMS is configured .* \(--config FILE\)"
MANY = [record(generation, ARN) for generation in range(1, 2001)]


@pytest.mark.parametrize(
    ("records", "refusal", "refusal_with_former"),
    [
        ([], None, None),
        ([record(1, ARN)], ELSEWHERE, None),
        ([record(1, ARN, state=KeyState.DISABLED)], ELSEWHERE, None),
        ([record(1, LOCAL)], MISSING, MISSING),
        ([record(1, LOCAL, "local:fedcba9876543210")], MISSING, MISSING),
        ([record(1, LOCAL, ARN)], ELSEWHERE, None),
        ([record(1, LOCAL, state=KeyState.DISABLED)], MISSING, MISSING),
        ([record(1, LOCAL, state=KeyState.DESTROYED)], None, None),
        ([*MANY, record(2001, LOCAL)], ELSEWHERE, MISSING),
        ([record(1, ARN), record(2, FAR_ARN)], ELSEWHERE, f"wrapped under {FAR_ARN}, no KMS is configured"),
        (MANY, ELSEWHERE, None),
    ],
    ids=[
        *("none", "aws", "aws disabled", "local", "two local", "both", "local disabled", "destroyed"),
        *("local on the last page", "two regions", "whole pages"),
    ],
)
@pytest.mark.parametrize("with_former", [False, True], ids=["no plugins", "former"])
async def test_a_local_wrapping_key_is_made_only_where_former_kmss_unwrap_all_that_is_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    records: list[DataKeyRecord],
    with_former: bool,
    refusal: str | None,
    refusal_with_former: str | None,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")  # or credentials would be looked for
    config = config_of(tmp_path, {"aws": FORMER} if with_former else {})
    keys = wrapping_keys_of(config, Metrics(), keystore=await keystore_with(*records))
    expected = refusal_with_former if with_former else refusal
    if expected is None:
        await keys.open()
        assert os.listdir(tmp_path / "data") == ["kek"]
    else:
        with pytest.raises(StartupError, match=expected):
            await keys.open()
        assert os.listdir(tmp_path / "data") == []
    await keys.close()


async def test_a_keystore_that_is_out_of_reach_is_known_by_its_first_page(tmp_path: Path) -> None:
    store = await keystore_with(*MANY)
    with pytest.raises(StartupError, match=ELSEWHERE):
        await wrapping_keys_of(config_of(tmp_path), Metrics(), keystore=store).open()
    assert store.calls["list_keys"] == 1


async def test_beside_a_data_key_whose_row_is_damaged_no_local_wrapping_key_is_made(tmp_path: Path) -> None:
    store = await keystore_with(record(1, ARN))
    store.database.damaged.add(f"{1:014x}")
    with pytest.raises(CorruptKeyError, match="column commitment"):
        await wrapping_keys_of(config_of(tmp_path), Metrics(), keystore=store).open()
    assert os.listdir(tmp_path / "data") == []


async def test_a_dry_run_uses_the_local_wrapping_key_that_is_there_and_makes_none(tmp_path: Path) -> None:
    config, store = config_of(tmp_path), await keystore_with()
    with pytest.raises(StartupError, match="kek is not there yet, and a dry run makes none"):
        await wrapping_keys_of(config, Metrics(), keystore=store, dry_run=True).open()
    assert os.listdir(tmp_path / "data") == []
    await wrapping_keys_of(config, Metrics(), keystore=store).open()
    await wrapping_keys_of(config, Metrics(), keystore=store, dry_run=True).open()


async def test_a_keystore_that_is_not_told_of_makes_no_local_wrapping_key(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="kek is missing"):
        await wrapping_keys_of(config_of(tmp_path), Metrics()).open()
