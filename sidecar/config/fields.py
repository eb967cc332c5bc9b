"""The kinds of fields that the configuration is made of: each checks a parsed value and writes it back.

Every check raises ``RefusedError`` with what would be right.
"""

import math
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator

from sidecar.config.addresses import Address, TcpAddress, check_path, parse_listener, parse_tcp
from sidecar.config.problems import RefusedError

_KEYRING_PATTERN = re.compile(r"[a-z0-9*?][a-z0-9._*?-]{0,62}")
_URL = re.compile(r"[a-z][a-z0-9+]*://\S*")


_HTTP_FORM = "host:port (IPv6: [::1]:port), or off"
_MAX_DAYS = 36_500
NEVER = "never"


def _text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """``parse``, for text alone."""

    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise RefusedError("it must be text")
        return parse(value)

    return check


def _http(value: Any) -> TcpAddress | None:
    # YAML 1.1 reads a bare `off` as false.
    if value is None or value is False or value == "off":
        return None
    if not isinstance(value, str):
        raise RefusedError(f"it must be {_HTTP_FORM}")
    return parse_tcp(value, form=_HTTP_FORM)


def _as_list(value: Any) -> Any:
    """A single address may stand without a list."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple):
        raise RefusedError("it must be an address or a list of them")
    return value


def _some_and_distinct(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    if not addresses:
        raise RefusedError("it must have at least one address")
    if len(set(addresses)) != len(addresses):
        raise RefusedError("no address may be there twice")
    return addresses


def _url(url: str) -> str:
    if not _URL.fullmatch(url):
        raise RefusedError("it must be a URL, for example sqlite:////var/lib/sidekey/keystore.db")
    return url


def _keyring_pattern(pattern: str) -> str:
    if not _KEYRING_PATTERN.fullmatch(pattern):
        raise RefusedError(
            "a keyring's name has 1 to 63 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit; "
            "'*' and '?' stand for any characters and any one"
        )
    return pattern


def _roll_over_days(value: Any) -> float:
    if value == NEVER or value == math.inf:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_DAYS:
        raise RefusedError(f"it must be days, more than 0 and at most {_MAX_DAYS}, or 'never'")
    # A period of nothing would roll over without end.
    return max(float(value), timedelta.resolution / timedelta(days=1))


RollOverDays = Annotated[
    float, PlainValidator(_roll_over_days), PlainSerializer(lambda days: NEVER if days == math.inf else days)
]
"""``math.inf`` stands for never."""
Listener = Annotated[Address, PlainValidator(_text(parse_listener)), PlainSerializer(str)]
Listeners = Annotated[
    tuple[Listener, ...],
    # Lax, for a tuple is a list in YAML.
    Field(strict=False),
    BeforeValidator(_as_list),
    AfterValidator(_some_and_distinct),
]
HttpAddress = Annotated[
    TcpAddress | None, PlainValidator(_http), PlainSerializer(lambda address: str(address) if address else "off")
]
AbsolutePath = Annotated[Path, PlainValidator(_text(lambda text: Path(check_path(text)))), PlainSerializer(str)]
KeystoreUrl = Annotated[str, PlainValidator(_text(_url))]
KeyringPattern = Annotated[str, PlainValidator(_text(_keyring_pattern))]

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
ByteCount = Annotated[int, Field(ge=1024, le=2**40)]
MessageBytes = Annotated[int, Field(ge=1024, le=2**31 - 1)]
"""gRPC counts a message's bytes in an int32."""
