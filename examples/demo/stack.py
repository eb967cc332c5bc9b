"""What the demo runs on: a sidecar process on its embedded default, or on the AWS KMS API, which moto serves."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

_READY_SECONDS = 30
_STOP_SECONDS = 15
_REGION = "eu-central-1"


@dataclass(frozen=True)
class Sidecar:
    """A running sidecar."""

    target: str
    metrics_url: str

    def metric(self, name: str, **labels: str) -> int:
        """The sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(self.metrics_url, timeout=5) as page:  # noqa: S310  (an http:// address of our own)
            families = text_string_to_metric_families(page.read().decode())
        samples = (sample for family in families for sample in family.samples)
        return int(sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items()))


@contextlib.contextmanager
def running(kms: str) -> Iterator[Sidecar]:
    """A sidecar with the local wrapping key (``local``) or AWS KMS (``aws``), stopped and removed after."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidekey-demo-")))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SIDEKEY_", "AWS_"))}
        command = [sys.executable, "-m", "sidecar", "serve", "--data-dir", str(directory), "--http", "127.0.0.1:0"]
        if kms == "aws":
            config, endpoint = stack.enter_context(_aws(directory))
            command += ["--config", str(config)]
            environment |= endpoint
        yield stack.enter_context(_process(command, environment))


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[Sidecar]:
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(_READY_SECONDS, process.kill)
    watchdog.start()
    try:
        yield _wait_until_serving(process, watchdog)
    finally:
        watchdog.cancel()
        process.terminate()
        process.wait(_STOP_SECONDS)


def _wait_until_serving(process: subprocess.Popen[str], watchdog: threading.Timer) -> Sidecar:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        with contextlib.suppress(json.JSONDecodeError):
            entry = json.loads(line)
            if entry.get("event") == "serving":
                watchdog.cancel()
                # From here on nobody reads the log, and a full pipe must not stop the sidecar.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                return Sidecar(entry["addresses"][0], f"http://{entry['http']}/metrics")
    raise SystemExit("the sidecar did not come up:\n" + "".join(lines))


@contextlib.contextmanager
def _aws(directory: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """moto's server with one KMS key; the configuration file that names it, and the environment that leads there."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto's server logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo"}
        client = boto3.client("kms", region_name=_REGION, endpoint_url=url, **keys)
        key_id = client.create_key()["KeyMetadata"]["KeyId"]
        config = directory / "sidekey.yaml"
        config.write_text(
            f"plugins:\n  awsKms:\n    plugin: awsKms\n    isKms: true\n    keyId: {key_id}\n    region: {_REGION}\n"
        )
        yield config, {"AWS_ENDPOINT_URL_KMS": url, **{name.upper(): value for name, value in keys.items()}}
    finally:
        server.stop()
