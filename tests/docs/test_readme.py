"""The README does what it says: its code runs, its commands and links are there, its table is the program's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sidecar.cli.parser import parser
from sidecar.config import load
from sidecar.errors import SidekeyError
from sidecar.rpc.statuses import STATUS_OF
from tests.docs.processes import ROOT, serving

_README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _README, re.DOTALL)


def test_the_python_block_runs_against_a_sidecar_as_it_stands(tmp_path: Path) -> None:
    (code,) = _blocks("python")
    with serving([sys.executable, "-m", "sidecar", "serve", "--data-dir", str(tmp_path)]):
        environment = os.environ | {"SIDEKEY_TARGET": f"unix://{tmp_path}/sidekey.sock"}
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_configuration_block_loads(tmp_path: Path) -> None:
    (text,) = _blocks("yaml")
    file = tmp_path / "sidekey.yaml"
    file.write_text(text)
    config = load(file, {}, {"dataDir": str(tmp_path)})
    (plugin,) = config.kms_plugins.values()
    assert plugin.settings["keyId"] == yaml.safe_load(text)["plugins"]["awsKms"]["keyId"]


def test_every_sidekey_command_parses() -> None:
    commands = re.findall(r"(?:^|or: |run `)sidekey ((?:[a-z-]+)(?: [^\s#`]+)*)", _README, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        assert parser().parse_args(command.split()).run


def test_every_make_target_is_in_the_makefile() -> None:
    help_text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^  make (\S+)", help_text, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", _README, re.MULTILINE))
    assert {"demo", "test", "run", "help", "bench", "lint"} <= named
    assert named <= targets


@pytest.mark.parametrize("page", sorted(p.relative_to(ROOT) for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / page.parent / target).exists(), target


def test_the_table_of_errors_is_the_programs() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| (`.*?) \|", _README, re.MULTILINE)
    documented = {(status, reason) for status, cell in rows for reason in re.findall(r"`([A-Z_]+)`", cell)}
    startup = {"STARTUP", "SELF_TEST_FAILED"}  # these never reach a caller
    actual = {(code.name, kind.reason) for kind, code in STATUS_OF.items() if kind.reason not in startup}
    assert documented == actual
    assert SidekeyError in STATUS_OF
