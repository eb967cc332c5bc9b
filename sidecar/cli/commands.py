"""The commands: each takes its parsed arguments and returns the exit code. Heavy imports stay inside the functions."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.config import Config

_FLAGS = {
    "data_dir": "dataDir",
    "listen": "server.listen",
    "http": "server.http",
    "log_level": "log.level",
    "log_format": "log.format",
}
"""Arguments that override a key of the configuration."""


def serve(arguments: argparse.Namespace) -> int:
    """Serve in the foreground."""
    # Read when gRPC is first imported: its core would write to stderr by itself, in lines that are no JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from sidecar.serve import run

    return run(_config(arguments))


def check_config(arguments: argparse.Namespace) -> int:
    """Check the configuration as far as that goes without opening anything."""
    from sidecar.config import warnings_of
    from sidecar.parts import check_parts

    config = _config(arguments)
    check_parts(config)
    for warning in warnings_of(config):
        sys.stderr.write(f"sidekey: warning: {warning}\n")
    sys.stdout.write("ok\n")
    return 0


def print_config(arguments: argparse.Namespace) -> int:
    """Print the effective configuration."""
    from sidecar.config import dump

    sys.stdout.write(dump(_config(arguments)))
    return 0


def healthcheck(arguments: argparse.Namespace) -> int:
    """Say nothing and return 0 where the sidecar is healthy; else one line and 1."""
    from sidecar.cli.health import problem

    # A probe runs every few seconds: the configuration is loaded only where it is needed.
    target = arguments.target or os.environ.get("SIDEKEY_TARGET") or str(_config(arguments).server.listen[0])
    trouble = problem(target, arguments.service, arguments.timeout)
    if trouble is None:
        return 0
    sys.stderr.write(f"sidekey: {trouble}\n")
    return 1


def keys(arguments: argparse.Namespace) -> int:
    """List the data keys."""
    import asyncio

    from sidecar.cli.listing import listing
    from sidecar.log import configure
    from sidecar.parts import keystore_of

    config = _config(arguments)
    # To stderr: stdout is the listing alone.
    configure(config.log.level, config.log.format)
    sys.stdout.write(asyncio.run(listing(keystore_of(config), arguments.keyring, as_json=arguments.json)))
    return 0


def _config(arguments: argparse.Namespace) -> "Config":
    from sidecar.config import load

    path = Path(arguments.config) if arguments.config else None
    flags = {key: getattr(arguments, name, None) for name, key in _FLAGS.items()}
    return load(path, os.environ, flags)
