"""How far a rewrap has come is shown on a terminal; an interrupt ends it at once and leaves all data keys well."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.cli.keystores import Command, fill
from tests.cli.terminal import OnTerminal, hear_interrupts
from tests.keystore.records import record


def test_a_terminal_shows_a_bar_with_all_data_keys(command: Command) -> None:
    command.done("keystore", "upgrade")
    for name in ("a", "b", "c"):
        command.done("keyrings", "create", name)
    with OnTerminal(command, "rewrap") as terminal:
        shown = terminal.end(0)
    assert "rewrapping" in shown
    assert "3/3" in shown
    assert re.search(r"\d/s", shown)
    assert "rewrapped: 0; unchanged: 3; failed: 0\r\n" in shown


def test_an_interrupt_ends_a_rewrap_at_once_and_says_how_to_go_on(command: Command) -> None:
    command.data_dir.mkdir()
    fill(command.data_dir, [record("pay", 1)])
    before = command.json("keys")[0]["kekIds"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "rewrap", "--config", str(_aws(command))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(command.data_dir),
                "SIDEKEY_DATA_DIR": str(command.data_dir),
                "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "AWS_ACCESS_KEY_ID": "none",
                "AWS_SECRET_ACCESS_KEY": "none",
            },
            preexec_fn=hear_interrupts,
        )
        try:
            # It asks the KMS, which takes the call and never answers.
            with silent.accept()[0]:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, out) == (130, "")
    assert err.endswith("sidekey: interrupted; every data key is whole, and the same command again goes on\n")
    assert "Traceback" not in err
    assert command.json("keys")[0]["kekIds"] == before


def _aws(command: Command) -> Path:
    yaml = command.data_dir / "sidekey.yaml"
    yaml.write_text(
        "kms: {deadlineSeconds: 600}\n"
        "plugins: {awsKms: {plugin: awsKms, isKms: true, region: eu-west-1, keyId: alias/none}}\n"
    )
    return yaml
