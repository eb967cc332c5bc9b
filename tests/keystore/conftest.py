"""Fixtures of the suites of keystores."""

from tests.keystore.implementations import keystore, maker, opener
from tests.keystore.postgres import postgres_server, postgres_url

__all__ = ["keystore", "maker", "opener", "postgres_server", "postgres_url"]
