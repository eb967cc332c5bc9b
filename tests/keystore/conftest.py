"""Fixtures of the suites of keystores."""

from tests.keystore.dynamodb import aws_environment, dynamodb, dynamodb_server
from tests.keystore.implementations import keystore, maker, opener
from tests.keystore.postgres import postgres_server, postgres_url

__all__ = [
    "aws_environment",
    "dynamodb",
    "dynamodb_server",
    "keystore",
    "maker",
    "opener",
    "postgres_server",
    "postgres_url",
]
