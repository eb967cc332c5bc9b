"""The configuration: a frozen value, parsed and checked from a file, the environment and flags.

Everything else takes the parts of ``Config`` that it needs; nothing else reads a file or the environment for settings.
"""

from sidecar.config.addresses import Address, TcpAddress, UnixAddress
from sidecar.config.loading import load
from sidecar.config.model import Cache, Config, KmsLimits, Plugin, Schedule, Server
from sidecar.config.problems import ConfigError
from sidecar.config.showing import dump, warnings_of

__all__ = [
    "Address",
    "Cache",
    "Config",
    "ConfigError",
    "KmsLimits",
    "Plugin",
    "Schedule",
    "Server",
    "TcpAddress",
    "UnixAddress",
    "dump",
    "load",
    "warnings_of",
]
