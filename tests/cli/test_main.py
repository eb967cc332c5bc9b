"""The command as its callers see it: output, one message on stderr, exit code."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sidecar
from sidecar import cli, config
from sidecar.cli import arguments
from sidecar.config import Config, TcpAddress
from sidecar.errors import StartupError
from sidecar.keys.administration import MAX_ROLL_OVER_DAYS

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
COMMANDS = (
    *("serve", "check-config", "print-config", "healthcheck"),
    *("keyrings", "keys", "set-state", "rotate", "rewrap"),
)
NESTED = ("keyrings create", "keystore status", "keystore upgrade")


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SIDEKEY_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    """A file to write a configuration into."""
    return tmp_path / "sidekey.yaml"


def test_check_config_says_ok(yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml.write_text("cache: {ttlSeconds: 60}")
    assert cli.main(["check-config", "--config", str(yaml)]) == 0
    assert capsys.readouterr() == ("ok\n", "")


def test_check_config_warns_of_static_credentials_and_shows_none(
    yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml.write_text(
        "plugins: {awsKms: {plugin: awsKms, isKms: true, keyId: k, region: eu-west-1, "
        "extraKmsConfig: {credentials: {accessKeyId: AKIDX, secretAccessKey: hunter2}}}}"
    )
    assert cli.main(["check-config", "--config", str(yaml)]) == 0
    out, err = capsys.readouterr()
    assert out == "ok\n"
    assert err.startswith("sidekey: warning: plugins.awsKms.extraKmsConfig.credentials: static credentials")
    assert "hunter2" not in err
    assert "AKIDX" not in err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cache: {ttlSeconds: 0}", "cache.ttlSeconds: found 0; it must be more than 0"),
        ("keystore: {url: 'mysql://u:hunter2@h/d'}", "keystore.url: "),
        ("plugins: {k: {plugin: awsKm, isKms: true}}", "plugins.k.plugin: "),
        ("plugins: {k: {plugin: awsKms, isKms: true, keyId: k}}", "plugins.k.region"),
        ("plugins: {k: {plugin: awsKms, isKms: true, keyId: [hunter2], region: eu-west-1}}", "plugins.k.keyId"),
    ],
)
def test_check_config_refuses_what_would_not_serve(
    yaml: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    yaml.write_text(text)
    assert cli.main(["check-config", "--config", str(yaml)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sidekey: configuration: {expected}")
    assert "hunter2" not in err
    assert "Traceback" not in err


def test_check_config_lists_what_keystore_and_kms_refuse_together(
    yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml.write_text("plugins: {k: {plugin: awsKm, isKms: true}}\nkeystore: {url: 'mysql://h/d'}")
    assert cli.main(["check-config", "--config", str(yaml)]) == 2
    assert "configuration: 2 problems\n  - keystore.url" in capsys.readouterr().err


def test_print_config_loads_again_and_takes_the_flags_of_serve(yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--listen",
        "127.0.0.1:7000",
        "--listen",
        "unix:///run/s.sock",
        "--http",
        "127.0.0.1:0",
        "--data-dir",
        "/d",
    ]
    assert cli.main(["print-config", *flags, "--log-level", "debug", "--log-format", "json"]) == 0
    yaml.write_text(capsys.readouterr().out)
    loaded = config.load(yaml, {}, {})
    assert [str(address) for address in loaded.server.listen] == ["127.0.0.1:7000", "unix:///run/s.sock"]
    assert loaded.server.http == TcpAddress("127.0.0.1", 0)
    assert loaded.data_dir == Path("/d")
    assert (loaded.log.level, loaded.log.format) == ("debug", "json")


def test_serve_hands_its_configuration_over_and_returns_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Config] = []

    def run(config: Config) -> int:
        served.append(config)
        return 7

    module = ModuleType("sidecar.serve")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sidecar.serve", module)
    assert cli.main(["serve", "--http", "off", "--listen", "127.0.0.1:0"]) == 7
    assert served[0].server.listen == (TcpAddress("127.0.0.1", 0),)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StartupError("the data directory is not writable"), 1, "sidekey: the data directory is not writable\n"),
        (config.ConfigError(["a: b"]), 2, "sidekey: configuration: a: b\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    def fail(_config: Config) -> str:
        raise error

    monkeypatch.setattr(config, "dump", fail)
    assert cli.main(["print-config"]) == code
    assert capsys.readouterr() == ("", text)


def test_a_defect_says_where_and_never_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_config: Config) -> str:
        raise ValueError("hunter2")

    monkeypatch.setattr(config, "dump", fail)
    assert cli.main(["print-config"]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(r"sidekey: internal error: ValueError at cli/test_main\.py:\d+:fail < .*\n", err)


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["serv"], ["serve", "--lisen", "x"], ["healthcheck", "--timeout", "0"], ["keystore"]),
        *(["keys", "--limit", limit] for limit in ("0", "-1", "x", "1.5", "9" * 30, "²")),
        *(["keys", "--unused-since", since] for since in ("", "yesterday", "30", "d", "999999d", "2026-13-01")),
        *(["keys", "--unused-since", since] for since in ("0d", "0m", "2999-01-01", "9999-12-31T23:00-05:00")),
        *(["keys", "--after", place] for place in ("", "default", "default/", "default/x", "Default/1", "/1")),
        *(["keys", "--keyring", "Default"], ["keys", "--state", "lost"], ["keyrings", "--after", "A"]),
        *(["keyrings", "create"], ["keyrings", "create", ""], ["keyrings", "create", "A"], ["keyrings", "drop", "a"]),
        *(
            ["keyrings", "create", "a", "--roll-over-days", days]
            for days in ("0", "-1", "nan", "inf", "soon", "99999999")
        ),
        ["keyrings", "create", "a", "--deterministic", "--no-deterministic"],
        *(["rotate"], ["rotate", "A"], ["rewrap", "--keyring", ""], ["rewrap", "default"]),
        *(["set-state", "0a1b2c3d4e5f60"], ["set-state", "0A1B2C3D4E5F60", "disabled"], ["set-state", "1", "enabled"]),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "usage: sidekey" in capsys.readouterr().err


def test_days_beyond_the_limit_are_refused_with_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments.MOST_DAYS == MAX_ROLL_OVER_DAYS
    assert cli.main(["keyrings", "create", "a", "--roll-over-days", "36501"]) == 2
    assert "must be days, more than 0 and at most 36500, or never" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sidekey {sidecar.__version__}\n"


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in (*COMMANDS, "keystore"):
        assert f"\n    {command}" in text
    assert "exit codes: 0 done, 1 failed, 2 wrong usage or configuration" in text


def _documented_flags(command: str) -> set[str]:
    """The flags of a command by the documentation's table: a row names the commands that take its flag."""
    rows = [line.strip("|").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| `--")]
    return {
        match.group()
        for flag, commands, *_ in rows
        if commands.strip() == "all" or command in re.findall(r"`([^`]+)`", commands)
        for match in [re.search(r"--[a-z-]+", flag)]
        if match
    }


@pytest.mark.parametrize("command", [*COMMANDS, *NESTED])
def test_every_flag_is_documented_for_its_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    usage = capsys.readouterr().out.split("usage:")[1].split("\n\n")[0]
    assert set(re.findall(r"--[a-z-]+", usage)) == _documented_flags(command)


@pytest.mark.parametrize("command", [*COMMANDS, *NESTED])
@pytest.mark.parametrize("flag", ["--config", "--data-dir"])
def test_an_empty_path_is_refused_and_is_no_default(
    command: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command.split(), flag, ""]) == 2
    assert f"argument {flag}: must not be empty" in capsys.readouterr().err


def test_it_runs_as_a_module_and_a_reader_that_went_away_is_no_crash(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "print-config"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
        timeout=30,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")
