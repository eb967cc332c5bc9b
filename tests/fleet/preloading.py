"""What a worker would otherwise import and read, some second of it, at its every start.

Makes no object of gRPC or asyncio, no thread and no connection: the process forks after it.
"""

import functools
import importlib
from typing import Final

import botocore.session
from botocore import loaders

_MODULES: Final = (
    "aiobotocore.config",
    "aiobotocore.session",
    "aiosqlite",
    "asyncpg",
    "sidecar.keystore.dynamodb",
    "sidecar.keystore.postgresql",
    "sidecar.keystore.sqlite",
    "sidecar.kms.aws",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "tests.fleet.worker",
)
_DATA: Final = ("endpoints", "partitions", "sdk-default-configuration", "_retry")
_SERVICES: Final = ("kms", "dynamodb")


def preload() -> None:
    """Import everything that workers need, and read the vendor's descriptions of its services."""
    for module in _MODULES:
        importlib.import_module(module)
    # One loader for all sessions: it keeps what it has read.
    loader = loaders.create_loader()
    botocore.session.create_loader = functools.partial(_always, loader)
    for name in _DATA:
        loader.load_data_with_path(name)
    for service in _SERVICES:
        loader.load_service_model(service, "service-2")
        loader.load_service_model(service, "endpoint-rule-set-1")


def _always(loader: loaders.Loader, _search_path: str | None = None) -> loaders.Loader:
    return loader
