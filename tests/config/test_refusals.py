"""What a refused configuration says: the key, the value unless it may be a secret, and what would be right."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import ConfigError, load

HOME = {"HOME": "/home/op"}
_DAYS = "it must be days, more than 0 and at most 36500, or 'never'"


def problems_of(
    tmp_path: Path, text: str = "", environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    path = tmp_path / "sidekey.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(path, {**HOME, **(environ or {})}, flags or {})
    # What is chained may be logged, and pydantic's and PyYAML's texts quote values.
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert refused.value.__cause__ is None
    return refused.value.problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cache: {ttlSeconds: 0}", "cache.ttlSeconds: found 0; it must be more than 0"),
        ("cache: {ttlSeconds: -1.5}", "cache.ttlSeconds: found -1.5; it must be more than 0"),
        ("cache: {ttlSeconds: .inf}", "cache.ttlSeconds: found inf; it must be a finite number"),
        ("cache: {jitterFraction: 1}", "cache.jitterFraction: found 1; it must be less than 1"),
        ("cache: {maxKeys: 1.5}", "cache.maxKeys: found 1.5; it must be a whole number"),
        ("cache: {maxKeys: true}", "cache.maxKeys: found true; it must be a whole number"),
        ("cache: {maxKeys: '5'}", "cache.maxKeys: found '5'; it must be a whole number"),
        ("cache: 5", "cache: found a number; it must be a mapping"),
        ("cach: {}", "cach: unknown key; did you mean 'cache'?"),
        ("server: {maxRow: 3}", "server.maxRow: unknown key; did you mean 'maxRows'?"),
        ("server: {max_rows: 3}", "server.max_rows: unknown key; did you mean 'maxRows'?"),
        ("crypto: {zzz: 3}", "crypto.zzz: unknown key; known here: forceOpenssl"),
        ("crypto: {forceOpenssl: 'no'}", "crypto.forceOpenssl: found 'no'; it must be true or false, without quotes"),
        ("schedule: {dataKeyRollOverLength: 0}", f"schedule.dataKeyRollOverLength: found 0; {_DAYS}"),
        ("schedule: {dataKeyRollOverLength: -3}", f"schedule.dataKeyRollOverLength: found -3; {_DAYS}"),
        (
            "schedule: {dataKeyRollOverLength: yearly}",
            f"schedule.dataKeyRollOverLength: found 'yearly'; {_DAYS}",
        ),
        ("schedule: {dataKeyRollOverLength: 1e9}", f"schedule.dataKeyRollOverLength: found '1e9'; {_DAYS}"),
        (
            "schedule: {dataKeyRollOverLength: 40000}",
            f"schedule.dataKeyRollOverLength: found 40000; {_DAYS}",
        ),
        (
            "log: {level: warn}",
            "log.level: found 'warn'; it must be one of 'debug', 'info', 'warning' or 'error'; did you mean 'warning'?",
        ),
        (
            "server: {maxMessageBytes: 1000000000}",
            "server.maxBytesInFlight: found 268435456; it must be at least server.maxMessageBytes, which is "
            "1000000000, or the largest call could never be made",
        ),
        (
            "keystore: {url: keystore.db}",
            "keystore.url: found 'keystore.db'; it must be a URL, for example sqlite:////",
        ),
        ("keyrings: {HR: {}}", "keyrings.HR: found 'HR'; a keyring's name has 1 to 63 of a-z"),
        (
            "keyrings: [default]",
            "keyrings: found a list; it must be a mapping of names to settings, for example `default: {}`",
        ),
        (
            "keyrings: {default: {ttl: 1}}",
            "keyrings.default.ttl: unknown key; known here: allowDeterministic, dataKeyRollOverLength, defaultMode",
        ),
        (
            "keyrings: {default: {alowDeterministic: false}}",
            "keyrings.default.alowDeterministic: unknown key; did you mean 'allowDeterministic'?",
        ),
        ("server: {listen: 5}", "server.listen: found 5; it must be an address or a list of them"),
        ("server: {http: 9464}", "server.http: found 9464; it must be host:port (IPv6: [::1]:port), or off"),
        ("server: {http: 'on'}", "server.http: found 'on'; it must be host:port (IPv6: [::1]:port), or off"),
        ("dataDir: 7", "dataDir: found 7; it must be text"),
        ("dataDir: /a?b", "dataDir: found '/a?b'; its path must have no %, ? or #"),
        ("plugins: {a: 3}", "plugins.a: found a number; it must be a mapping"),
        ("plugins: {a: {isKms: 'true'}}", "plugins.a.isKms: it must be true or false, without quotes"),
        (
            "plugins: {a: {isKms: true}}",
            "plugins.a: it must name its provider in 'plugin', for example 'plugin: awsKms'",
        ),
        ("plugins: {a: {plugin: awsKms, iskms: true}}", "plugins.a.iskms: unknown key; did you mean 'isKms'?"),
        ("plugins: {a: {plugin: x, formerKMS: true}}", "plugins.a.formerKMS: unknown key; did you mean 'formerKms'?"),
        ("plugins: {a: {plugin: awsKms, is_kms: true}}", "plugins.a.is_kms: unknown key; did you mean 'isKms'?"),
        (
            "plugins: {a: {plugin: x, isKms: true}, b: {plugin: y, isKms: true}}\nkms: {order: [a]}",
            "kms.order: it must name each plugin with 'isKms: true' once; missing: b",
        ),
        (
            "plugins: {a: {plugin: x, isKms: true}, b: {plugin: y, isKms: true}}\nkms: {order: [a, 'c\n', a, b]}",
            "kms.order: it must name each plugin with 'isKms: true' once; not such a plugin: c",
        ),
        (
            "plugins: {a: {plugin: x, isKms: true}, b: {plugin: y, isKms: true}}\nkms: {order: [a, b, a]}",
            "kms.order: it must name each plugin with 'isKms: true' once; more than once: a",
        ),
        (
            "keyrings: {hr: {defaultMode: deterministic, allowDeterministic: false}}",
            "keyrings.hr: defaultMode is deterministic, and allowDeterministic is false",
        ),
    ],
)
def test_a_refusal_names_the_key_and_what_would_be_right(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith(expected)


def test_the_choices_of_a_setting_are_said_once(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "log: {format: zzz}") == (
        "log.format: found 'zzz'; it must be one of 'auto', 'json' or 'console'",
    )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0.0.0.0:50051", "it must be a loopback address, since TCP has no TLS in this version"),
        ("[::]:50051", "it must be a loopback address"),
        ("10.1.2.3:1", "it must be a loopback address"),
        ("sidekey.example:1", "its host must be an IP address or localhost"),
        ("127.0.0.1", "it must be unix:///absolute/path or host:port"),
        (":50051", "it must be unix:///absolute/path or host:port"),
        ("127.0.0.1:70000", "its port must be at most 65535"),
        ("unix:relative.sock", "it must be unix:///absolute/path"),
        ("unix://host/path", "it must be unix:///absolute/path"),
        ("unix:///", "it must be unix:///absolute/path"),
        ("unix:///a%2fb", "its path must have no %, ? or #"),
        ("unix:///" + "x" * 107, "a socket's path has at most 107 bytes and this one 108"),
    ],
)
def test_an_address_that_cannot_be_served_is_refused(tmp_path: Path, address: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, flags={"server.listen": [address]})
    assert problem.startswith("server.listen[0] (command line): found '")
    assert expected in problem


def test_a_listen_list_without_addresses_or_with_one_twice_is_refused(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "server: {listen: []}") == (
        "server.listen: found a list; it must have at least one address",
    )
    assert (
        "no address may be there twice" in problems_of(tmp_path, 'server: {listen: ["127.0.0.1:1", "localhost:1"]}')[0]
    )


def test_a_problem_names_the_variable_that_set_it(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, environ={"SIDEKEY_KMS_DEADLINE_SECONDS": "soon"})
    assert problem == "kms.deadlineSeconds (SIDEKEY_KMS_DEADLINE_SECONDS): found 'soon'; it must be a number"


def test_an_unknown_variable_is_refused_with_a_suggestion_and_without_its_value(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, environ={"SIDEKEY_CACHE_TTL": "hunter2"})
    assert problem == "SIDEKEY_CACHE_TTL: unknown environment variable; did you mean 'SIDEKEY_CACHE_TTL_SECONDS'?"


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    text = "cache: {ttlSeconds: 0, maxKeys: 0}\nsrver: {}\nsecretAccessKey: x\n"
    assert len(problems_of(tmp_path, text, {"SIDEKEY_X": "1"})) == 5


@pytest.mark.parametrize(
    "text",
    [
        "secretAccessKey: hunter2",
        "aws_secret_access_key: hunter2",
        "credentials: {secretAccessKey: hunter2}",
        "server: {sessionToken: hunter2}",
        "plugins: {awsKms: {plugin: awsKms, isKms: true, secretAccessKey: hunter2}}",
        "plugins: {awsKms: {plugin: awsKms, isKms: true, credentials: {secretAccessKey: hunter2}}}",
        "plugins: {awsKms: {plugin: awsKms, isKms: true, extraKmsConfig: {accessKeyId: hunter2}}}",
    ],
)
def test_credentials_in_the_wrong_place_are_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    problems = problems_of(tmp_path, text)
    assert any("put them under plugins.awsKms.extraKmsConfig.credentials" in problem for problem in problems)
    assert "hunter2" not in "".join(problems)


@pytest.mark.parametrize(
    "text",
    [
        "plugins: hunter2",
        "plugins: {awsKms: hunter2}",
        "plugins: {awsKms: {plugin: awsKms, isKms: hunter2}}",
        "plugins: {awsKms: {plugin: [hunter2], isKms: true}}",
        "keystore: 'postgresql://u:hunter2@h/d'",
        "keystore: {url: 'postgresql//u://u:hunter2@h'}",
        "keystore: {url: 'postgresql ://u:p/hunter2@h@i'}",
        "keystore: {url: 'x y?password=hunter2'}",
        "dataDir: {secret: hunter2}",
        "unknown: hunter2",
        "schedule: hunter2",
        "server: {tls: {key: hunter2}}",
    ],
)
def test_what_may_be_a_secret_is_never_shown(tmp_path: Path, text: str) -> None:
    assert "hunter2" not in "".join(problems_of(tmp_path, text))


def test_print_configs_placeholder_is_no_credential(tmp_path: Path) -> None:
    text = (
        "plugins: {awsKms: {plugin: awsKms, isKms: true, extraKmsConfig: {credentials: {accessKeyId: '<redacted>'}}}}"
    )
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith(
        "plugins.awsKms.extraKmsConfig.credentials.accessKeyId: it holds print-config's placeholder"
    )


def test_long_and_odd_values_and_keys_stay_on_one_short_line(tmp_path: Path) -> None:
    text = f'cache: {{maxKeys: {"9" * 4000}, ttlSeconds: "{"x" * 4000}", "a\\nb": 1, {"y" * 1000}: 1}}'
    problems = problems_of(tmp_path, text)
    assert len(problems) == 4
    for problem in problems:
        assert problem.isprintable()
        assert len(problem) < 250
