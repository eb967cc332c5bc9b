"""The commands that run and probe a sidecar: each takes its parsed arguments and returns the exit code.

Heavy imports stay inside the functions.
"""

import argparse
import os
import sys

from sidecar.cli.flags import configured


def serve(arguments: argparse.Namespace) -> int:
    """Serve in the foreground."""
    # Read when gRPC is first imported: its core would write to stderr by itself, in lines that are no JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from sidecar.serve import run

    return run(configured(arguments))


def check_config(arguments: argparse.Namespace) -> int:
    """Check the configuration as far as that goes without opening anything."""
    from sidecar.config import warnings_of
    from sidecar.parts import check_parts

    config = configured(arguments)
    check_parts(config)
    for warning in warnings_of(config):
        sys.stderr.write(f"sidekey: warning: {warning}\n")
    sys.stdout.write("ok\n")
    return 0


def print_config(arguments: argparse.Namespace) -> int:
    """Print the effective configuration."""
    from sidecar.config import dump

    sys.stdout.write(dump(configured(arguments)))
    return 0


def healthcheck(arguments: argparse.Namespace) -> int:
    """Say nothing and return 0 where the sidecar is healthy; else one line and 1."""
    from sidecar.cli.health import problem

    # A probe runs every few seconds: the configuration is loaded only where it is needed.
    target = arguments.target or os.environ.get("SIDEKEY_TARGET") or str(configured(arguments).server.listen[0])
    trouble = problem(target, arguments.service, arguments.timeout)
    if trouble is None:
        return 0
    sys.stderr.write(f"sidekey: {trouble}\n")
    return 1
