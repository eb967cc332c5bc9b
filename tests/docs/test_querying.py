"""The page on querying does what it says: its snippets are one program, run against a sidecar that rotates between."""

import re
from pathlib import Path

import duckdb
import pytest

from tests.client.managed import managed
from tests.docs.processes import ROOT

_PAGE = (ROOT / "docs" / "querying.md").read_text()
_SOCKET = "unix:///var/lib/sidekey/sidekey.sock"
_ROTATION = "Then the keyring gets a new primary"


def _program(text: str) -> str:
    return "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("rotate", [True, False])
def test_the_snippets_run_and_need_the_rotation_between_them(tmp_path: Path, rotate: bool) -> None:
    before, after = map(_program, _PAGE.split(_ROTATION))
    assert before.count(_SOCKET) == 1
    assert after.count("assert ") == 6
    with managed(tmp_path / "data") as sidecar:
        names: dict[str, object] = {}
        exec(before.replace(_SOCKET, sidecar.address), names)  # noqa: S102 (the page's own code is what is tested)
        try:
            if rotate:
                sidecar.rotate("default")
                exec(after, names)  # noqa: S102
            else:
                with pytest.raises(AssertionError):
                    exec(after, names)  # noqa: S102
        finally:
            names["client"].close()  # type: ignore[attr-defined]
            assert isinstance(names["database"], duckdb.DuckDBPyConnection)
            names["database"].close()
