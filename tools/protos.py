"""Generates the stubs from the contract; with ``--check``, fails where the committed ones differ.

The generator is the oldest that the client supports (requirements/protos.in), since newer generated code refuses older
runtimes; it lives in a virtual environment of its own.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_GENERATOR = _ROOT / ".venv-protos" / "bin"
_SOURCES = _ROOT / "protos"
_STUBS = Path("sidekey/v1")
_COMMITTED = _ROOT / "clients" / "python" / _STUBS


def generate(target: Path) -> list[str]:
    """Write all stubs below ``target``; returns their file names."""
    protos = sorted(str(path) for path in (_SOURCES / _STUBS).glob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
    command = [str(_GENERATOR / "python"), "-m", "grpc_tools.protoc", f"-I{_SOURCES}", *outputs, *protos]
    # The plugin that types the service stubs is found on the PATH.
    environment = os.environ | {"PATH": f"{_GENERATOR}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603
    return sorted(path.name for path in (target / _STUBS).iterdir())


def main() -> int:
    """Generate or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where the stubs are not up to date"
    )
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as directory:
        names = generate(Path(directory))
        fresh = Path(directory) / _STUBS
        committed = sorted(path.name for path in _COMMITTED.glob("*_pb2*.py*") if path.is_file())
        _, differing, missing = filecmp.cmpfiles(fresh, _COMMITTED, names, shallow=False)
        stale = sorted({*differing, *missing, *(set(committed) - set(names))})
        if check:
            if stale:
                sys.stderr.write(f"stubs are not up to date, run `make protos`: {', '.join(stale)}\n")
            return 1 if stale else 0
        for name in names:
            shutil.copyfile(fresh / name, _COMMITTED / name)
        for name in set(committed) - set(names):
            (_COMMITTED / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
