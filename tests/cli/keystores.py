"""A keystore file for commands to work on, beside or without a sidecar."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar import cli
from sidecar.keystore.factory import create
from sidecar.keystore.port import DataKeyRecord, KeyState, Usage


def fill(data_dir: Path, records: Sequence[DataKeyRecord], usage: Mapping[str, Usage] | None = None) -> None:
    """Make the embedded keystore of a data directory with these data keys, in whatever state they are."""
    asyncio.run(_fill(data_dir, records, usage or {}))


async def _fill(data_dir: Path, records: Sequence[DataKeyRecord], usage: Mapping[str, Usage]) -> None:
    keystore = create(f"sqlite:///{data_dir}/keystore.db")
    await keystore.open(upgrade=True)
    for record in records:
        # A destroyed data key is never stored as one: it comes to be destroyed.
        stored = replace(record, state=KeyState.ENABLED) if record.state is KeyState.DESTROYED else record
        assert await keystore.insert(stored)
    await keystore.add_usage(usage)
    await keystore.close()


class Command:
    """Runs commands in this process, on one data directory."""

    def __init__(self, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data_dir = data_dir
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        code = cli.main([*arguments, "--data-dir", str(self.data_dir)])
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *arguments: str) -> Any:
        """What a command that succeeds prints with ``--json``."""
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def done(self, *arguments: str) -> str:
        """The stdout of a command that succeeds."""
        code, out, err = self(*arguments)
        assert code == 0, err
        return out

    def refused(self, *arguments: str) -> str:
        """The one message of a command that fails and prints nothing."""
        code, out, err = self(*arguments)
        assert (code, out) == (1, ""), err
        assert err.startswith("sidekey: ")
        assert err.count("\n") == 1
        return err
