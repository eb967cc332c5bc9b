"""What a worker would otherwise import, some second of it, at its every start. Makes no object of gRPC or asyncio."""

import importlib

_MODULES = (
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


def preload() -> None:
    """Import everything that workers need."""
    for module in _MODULES:
        importlib.import_module(module)
