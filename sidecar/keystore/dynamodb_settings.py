"""The URL of a keystore in DynamoDB, checked; opens nothing and knows no vendor library."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

_SCHEME: Final = "dynamodb://"
_FORM: Final = "dynamodb://table?region=eu-west-1"
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_REGION: Final = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")


@dataclass(frozen=True, slots=True)
class DynamoDbSettings:
    """One table."""

    table: str
    region: str


def parse(url: str) -> DynamoDbSettings:
    """Check a URL; raises ``ValueError`` that says what would be right and does not repeat the URL."""
    if not url.startswith(_SCHEME):
        raise ValueError(f"it must be {_FORM}")
    table, _, query = url.removeprefix(_SCHEME).partition("?")
    if not _TABLE.fullmatch(table):
        raise ValueError(
            f"it must be {_FORM}, and the table's name 3 to 255 of a-z, A-Z, 0-9, '_', '.' and '-'; "
            "credentials and endpoint come from the environment"
        )
    return DynamoDbSettings(table, _region(query))


def _region(query: str) -> str:
    parameters = parse_qsl(query, keep_blank_values=True)
    if any(name != "region" for name, _ in parameters):
        raise ValueError(f"unknown parameter; known is region, as in {_FORM}")
    if len(parameters) != 1 or not _REGION.fullmatch(parameters[0][1]):
        raise ValueError(f"it must name one AWS region, as in {_FORM}")
    return parameters[0][1]
