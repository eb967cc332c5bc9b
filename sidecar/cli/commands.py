"""The commands that run and probe a sidecar: each takes its parsed arguments and returns the exit code.

Heavy imports stay inside the functions.
"""

import argparse
import os
import sys

from sidecar.cli.arguments import target
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

    trouble = problem(_target(arguments), arguments.service, arguments.timeout)
    if trouble is None:
        return 0
    sys.stderr.write(f"sidekey: {trouble}\n")
    return 1


def _target(arguments: argparse.Namespace) -> str:
    """The sidecar to ask: of the most explicit source. Raises ``ConfigError``."""
    if arguments.target:
        return str(arguments.target)
    # Who names a configuration asks for the sidecar that it configures, whatever the environment says for clients.
    if not (arguments.config or arguments.data_dir) and (of_environment := os.environ.get("SIDEKEY_TARGET")):
        return _checked(of_environment)
    # A probe runs every few seconds: the configuration is loaded only where it is needed.
    return str(configured(arguments).server.listen[0])


def _checked(of_environment: str) -> str:
    try:
        return target(of_environment)
    except argparse.ArgumentTypeError as error:
        from sidecar.config import ConfigError

        raise ConfigError([f"SIDEKEY_TARGET: it {error}"]) from None
