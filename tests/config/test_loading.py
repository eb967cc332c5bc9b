"""Where settings come from, and which source wins."""

import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Config, ConfigError, TcpAddress, UnixAddress, dump, load

HOME = {"HOME": "/home/op"}

IMMUTA = """
plugins:
  awsKms:
    plugin: 'awsKms'
    isKms: true
    keyId: some-key-id
    region: eu-west-1
    extraKmsConfig:
      credentials:
        accessKeyId: AKIDEXAMPLE
        secretAccessKey: hunter2
        sessionToken: tok
schedule:
  dataKeyRollOverLength: 365
"""


def from_yaml(tmp_path: Path, text: str, environ: Mapping[str, str] = HOME, **flags: Any) -> Config:
    """The configuration of a file that holds ``text``."""
    path = tmp_path / "sidekey.yaml"
    path.write_text(text)
    return load(path, environ, flags)


def test_no_configuration_at_all_is_the_embedded_default() -> None:
    config = load(None, HOME, {})
    assert config.data_dir == Path("/home/op/.local/state/sidekey")
    assert config.server.listen == (UnixAddress(Path("/home/op/.local/state/sidekey/sidekey.sock")),)
    assert config.keystore.url == "sqlite:////home/op/.local/state/sidekey/keystore.db"
    assert config.server.http is None
    assert config.kms_plugins == {}
    assert config.schedule.data_key_roll_over_length == 365
    assert list(config.keyrings) == ["default"]


def test_immutas_block_is_taken_verbatim(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, IMMUTA)
    (plugin,) = config.kms_plugins.values()
    assert plugin.settings == {
        "plugin": "awsKms",
        "isKms": True,
        "keyId": "some-key-id",
        "region": "eu-west-1",
        "extraKmsConfig": {
            "credentials": {"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "hunter2", "sessionToken": "tok"}
        },
    }


def test_plugins_that_are_no_kms_keep_their_keys_to_themselves(tmp_path: Path) -> None:
    config = from_yaml(
        tmp_path, "plugins: {mailer: {plugin: smtp, accessKeyId: x, anything: [1]}, other: {isKms: false}}"
    )
    assert config.kms_plugins == {}


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    text = "log: {level: error, format: json}\ncache: {ttlSeconds: 10, maxKeys: 7}\ndataDir: /from/file\n"
    environ = {
        **HOME,
        "SIDEKEY_LOG_LEVEL": "warning",
        "SIDEKEY_CACHE_TTL_SECONDS": "20.5",
        "SIDEKEY_DATA_DIR": "/from/env",
    }
    config = from_yaml(tmp_path, text, environ, **{"log.level": "debug", "dataDir": None})
    assert config.log.level == "debug"
    assert config.log.format == "json"
    assert config.cache.ttl_seconds == 20.5
    assert config.cache.max_keys == 7
    assert config.cache.jitter_fraction == 0.1
    assert config.data_dir == Path("/from/env")


def test_the_environment_names_the_file_where_no_flag_does(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("cache: {maxKeys: 3}")
    assert load(None, {**HOME, "SIDEKEY_CONFIG": str(path)}, {}).cache.max_keys == 3
    other = tmp_path / "d.yaml"
    other.write_text("cache: {maxKeys: 4}")
    assert load(other, {**HOME, "SIDEKEY_CONFIG": str(path)}, {}).cache.max_keys == 4


def test_the_environment_speaks_every_type() -> None:
    config = load(
        None,
        {
            **HOME,
            "SIDEKEY_SERVER_LISTEN": "unix:///run/s.sock, [::1]:7000",
            "SIDEKEY_SERVER_HTTP": "localhost:9464",
            "SIDEKEY_SERVER_MAX_ROWS": "12",
            "SIDEKEY_SERVER_DRAIN_SECONDS": "0",
            "SIDEKEY_CRYPTO_FORCE_OPENSSL": "true",
            "SIDEKEY_KEYRINGS": "default, hr-*",
            "SIDEKEY_SCHEDULE_DATA_KEY_ROLL_OVER_LENGTH": "0.5",
        },
        {},
    )
    assert config.server.listen == (UnixAddress(Path("/run/s.sock")), TcpAddress("::1", 7000))
    assert config.server.http == TcpAddress("127.0.0.1", 9464)
    assert (config.server.max_rows, config.server.drain_seconds) == (12, 0.0)
    assert config.crypto.force_openssl is True
    assert list(config.keyrings) == ["default", "hr-*"]
    assert config.schedule.data_key_roll_over_length == 0.5


def test_an_empty_variable_sets_nothing() -> None:
    assert load(None, {**HOME, "SIDEKEY_LOG_LEVEL": "", "SIDEKEY_CONFIG": ""}, {}).log.level == "info"


@pytest.mark.parametrize(
    "name",
    [
        "SIDEKEY_TARGET",
        "SIDEKEY_SERVICE_HOST",
        "SIDEKEY_SERVICE_PORT_GRPC",
        "SIDEKEY_PORT",
        "SIDEKEY_PORT_50051_TCP_ADDR",
    ],
)
def test_variables_of_the_client_and_of_kubernetes_are_let_be(name: str) -> None:
    load(None, {**HOME, name: "tcp://10.0.0.1:1"}, {})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/h"}, "/state/sidekey"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/sidekey"),
        ({"SIDEKEY_DATA_DIR": "~/keys", "HOME": "/h"}, "/h/keys"),
        ({"SIDEKEY_DATA_DIR": "/d/"}, "/d"),
    ],
)
def test_the_data_directory_follows_the_environment(environ: dict[str, str], expected: str) -> None:
    assert load(None, environ, {}).data_dir == Path(expected)


def test_without_home_the_data_directory_must_be_set() -> None:
    with pytest.raises(ConfigError, match="dataDir: it must be set where HOME is not"):
        load(None, {}, {})


def test_a_relative_data_directory_counts_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, HOME, {"dataDir": "state"}).data_dir == tmp_path / "state"


def test_a_section_with_every_key_commented_out_is_the_default(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, "server:\n  # listen: x\nkeyrings: {default: , hr-*: }\nplugins:\n")
    assert config == load(None, HOME, {"keyrings": {"default": {}, "hr-*": {}}})


def test_a_bare_off_is_off_although_yaml_reads_it_as_false(tmp_path: Path) -> None:
    assert from_yaml(tmp_path, "server: {http: off}").server.http is None


def test_keyrings_are_made_by_name_or_pattern_and_no_other() -> None:
    config = load(None, HOME, {"keyrings": {"default": {}, "hr-*": {}, "t?": {}}})
    for name in ("default", "hr-pay", "t1"):
        assert config.may_create_keyring(name)
    for name in ("", "Default", "hr", "t12", "hr-\n", "hr-" + "x" * 61, "*", "default\n"):
        assert not config.may_create_keyring(name)


def test_no_keyrings_at_all_is_a_lock() -> None:
    assert not load(None, HOME, {"keyrings": {}}).may_create_keyring("default")


def test_the_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, IMMUTA)
    with pytest.raises(ValueError, match="frozen"):
        config.cache.max_keys = 1
    (plugin,) = config.kms_plugins.values()
    plugin.settings["extraKmsConfig"].clear()
    assert plugin.settings["extraKmsConfig"] != {}


def test_no_repr_holds_a_credential(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, IMMUTA + "keystore: {url: 'sqlite://u:pw1234@h/d'}\n")
    assert "AKIDEXAMPLE" not in repr(config)
    assert "hunter2" not in repr(config)
    assert "pw1234" not in repr(config)


def test_a_minute_fraction_of_a_day_is_still_some_time() -> None:
    config = load(None, HOME, {"schedule.dataKeyRollOverLength": 1e-300})
    assert timedelta(days=config.schedule.data_key_roll_over_length) > timedelta(0)


def test_never_is_a_period() -> None:
    config = load(None, {**HOME, "SIDEKEY_SCHEDULE_DATA_KEY_ROLL_OVER_LENGTH": "never"}, {})
    assert config.schedule.data_key_roll_over_length == math.inf
    assert "dataKeyRollOverLength: never" in dump(config)


KEYRINGS = """
keyrings:
  hr-*: {dataKeyRollOverLength: 30}
  hr-pay: {dataKeyRollOverLength: never, defaultMode: deterministic}
  "*": {allowDeterministic: false}
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hr-pay", (math.inf, "deterministic", True)),  # its own name before any pattern
        ("hr-x", (30, "randomized", True)),
        ("sales", (None, "randomized", False)),
    ],
)
def test_a_keyring_has_the_settings_of_its_name_or_of_the_first_pattern_that_it_fits(
    tmp_path: Path, name: str, expected: tuple[float | None, str, bool]
) -> None:
    settings = from_yaml(tmp_path, KEYRINGS).keyring_settings(name)
    assert (
        settings.data_key_roll_over_length,
        settings.default_mode,
        settings.allow_deterministic,
    ) == expected


@pytest.mark.parametrize(("order", "expected"), [("", ["b", "a"]), ("kms: {order: [a, b]}", ["a", "b"])])
def test_several_kmses_are_asked_in_the_order_of_the_file_or_as_said(
    tmp_path: Path, order: str, expected: list[str]
) -> None:
    text = "plugins: {b: {plugin: x, isKms: true}, c: {}, a: {plugin: y, isKms: true}}\n"
    assert list(from_yaml(tmp_path, text + order).kms_plugins) == expected
