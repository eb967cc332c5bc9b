"""The printed configuration and its warnings: complete, and without secrets."""

from pathlib import Path

import yaml

from sidecar.config import dump, load, warnings_of
from sidecar.config.keys import settings

from .test_loading import HOME, IMMUTA, from_yaml


def test_what_is_printed_loads_to_an_equal_value(tmp_path: Path) -> None:
    text = (
        "server: {listen: ['127.0.0.1:0', 'unix:///run/s.sock'], http: '[::1]:9464', reflection: true}\n"
        "cache: {ttlSeconds: 12.5}\nkeyrings: {hr-*: {}, '*': }\nlog: {format: json}\ndataDir: /d\n"
        "plugins: {k: {plugin: awsKms, isKms: true, keyId: a, region: eu-west-1},\n"
        "  old: {plugin: awsKms, formerKms: true, keyId: b, region: eu-west-1}}\n"
    )
    config = from_yaml(tmp_path, text)
    assert from_yaml(tmp_path, dump(config)) == config


def test_the_default_is_printed_whole_and_loads_to_an_equal_value(tmp_path: Path) -> None:
    config = load(None, HOME, {})
    printed = yaml.safe_load(dump(config))
    for key in settings().values():
        node = printed
        for part in key.path:
            node = node[part]
    assert from_yaml(tmp_path, dump(config)) == config


def test_print_config_shows_no_secret(tmp_path: Path) -> None:
    text = IMMUTA.replace("schedule:", "  other: {plugin: smtp, host: h1, password: pw1, list: [pw2]}\nschedule:")
    printed = dump(from_yaml(tmp_path, text + "keystore: {url: 'postgresql://u:pw3@h/d?sslpassword=pw4&x=1'}\n"))
    for secret in ("AKIDEXAMPLE", "hunter2", "tok\n", "pw1", "pw2", "pw3", "pw4"):
        assert secret not in printed
    tree = yaml.safe_load(printed)
    assert tree["plugins"]["awsKms"]["keyId"] == "some-key-id"
    assert tree["plugins"]["awsKms"]["extraKmsConfig"]["credentials"]["secretAccessKey"] == "<redacted>"
    assert tree["keystore"]["url"] == "postgresql://u:<redacted>@h/d?sslpassword=<redacted>&x=1"


def test_what_is_unwise_is_warned_of_without_secrets(tmp_path: Path) -> None:
    text = IMMUTA.replace("365", "0.01").replace("schedule:", "  other: {plugin: awsKms, keyId: pw}\nschedule:")
    warnings = warnings_of(
        from_yaml(tmp_path, text + "server: {http: '0.0.0.0:9464', listen: '127.0.0.1:0', manageKeys: true}\n")
    )
    assert [warning.split(":")[0] for warning in warnings] == [
        "plugins.awsKms.extraKmsConfig.credentials",
        "plugins.other",
        "schedule.dataKeyRollOverLength",
        "server.listen",
        "server.manageKeys",
        "server.http",
    ]
    assert "hunter2" not in "".join(warnings)


def test_a_former_kms_is_used_and_its_static_credentials_are_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings_of(from_yaml(tmp_path, IMMUTA.replace("isKms: true", "formerKms: true")))
    assert warning.startswith("plugins.awsKms.extraKmsConfig.credentials: ")


def test_the_default_has_nothing_to_warn_of() -> None:
    assert warnings_of(load(None, HOME, {})) == []
