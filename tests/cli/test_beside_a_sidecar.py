"""Commands as processes of their own beside a sidecar that serves from the same keystore."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc

from tests.rpc.batches import values
from tests.rpc.running import Running, refusal, running, until

TTL = {"cache.ttlSeconds": 0.5}


def _run(data_dir: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments, "--json", "--data-dir", str(data_dir)],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(data_dir)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_what_a_command_changes_the_sidecar_follows_within_its_ttl(tmp_path: Path) -> None:
    async with running(tmp_path, TTL) as it:
        (sealed,) = await it.caller.sealed(b"v")
        assert sealed is not None
        old = sealed[1:8].hex()
        new = _run(tmp_path, "rotate", "default")["primary"]["keyId"]

        async def encrypts_under_the_new_one() -> bool:
            (now,) = await it.caller.sealed(b"v")
            return now is not None and now[1:8].hex() == new

        await until(encrypts_under_the_new_one)
        assert (await it.caller.decrypt(values(sealed))).values.values == [b"v"]
        assert _run(tmp_path, "set-state", old, "disabled")["changed"]
        await until(lambda: _is_refused(it, sealed))
        refused = await refusal(it.caller.decrypt(values(sealed)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_DISABLED")
        _run(tmp_path, "set-state", old, "enabled")
        await it.caller.still_serves()


async def _is_refused(it: Running, sealed: bytes) -> bool:
    try:
        await it.caller.decrypt(values(sealed))
    except grpc.aio.AioRpcError:
        return True
    return False
