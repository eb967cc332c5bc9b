"""Fixtures of the KMS tests."""

from tests.kms.moto import aws_environment, moto_kms, moto_server

__all__ = ["aws_environment", "moto_kms", "moto_server"]
