"""From a command's arguments to the configuration."""

import argparse
import os
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


def configured(arguments: argparse.Namespace) -> "Config":
    """The configuration that a command works with. Raises ``ConfigError``."""
    from sidecar.config import load

    path = Path(arguments.config) if arguments.config else None
    flags = {key: getattr(arguments, name, None) for name, key in _FLAGS.items()}
    return load(path, os.environ, flags)
