"""A PostgreSQL server's URL as a value, parsed strictly. Opens nothing."""

import difflib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_FORM: Final = "it must be postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…"
_ENCODED: Final = (
    "in a user or password, '?', '#', '@', ':', '/' and '%' are written as %3F, %23, %40, %3A, %2F and %25"
)
_SCHEME: Final = "postgresql://"
_PARAMETER: Final = re.compile(r"[A-Za-z_]{1,30}")
_PORT: Final = 5432
_PARAMETERS: Final = ("host", "sslmode", "sslrootcert")


class SslMode(StrEnum):
    """PostgreSQL's modes of TLS, without those that go on in plaintext when TLS fails."""

    DISABLE = "disable"
    REQUIRE = "require"
    """TLS with whoever answers; with a file of certificates the same as ``verify-ca``."""
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


@dataclass(frozen=True, slots=True)
class PostgresqlUrl:
    """Where a PostgreSQL database is, and as whom to go there."""

    host: str
    """A name, an address, or the directory of a Unix socket."""
    port: int
    database: str
    user: str
    ssl_mode: SslMode
    ssl_root_cert: Path | None = None
    """PEM certificates of the authorities to trust; None: those of the system."""
    password: str | None = field(default=None, repr=False)

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix socket."""
        return self.host.startswith("/")


def parse(url: str) -> PostgresqlUrl:
    """The parts of ``postgresql://…``; raises ``ValueError`` that says what would be right and repeats no part."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict")
        user, password, database = (
            _decoded(part) for part in (parts.username, parts.password, parts.path.removeprefix("/"))
        )
    except ValueError:
        raise ValueError(_form(url)) from None
    query = dict(pairs)
    if len(query) != len(pairs) or set(query) - set(_PARAMETERS) or parts.fragment:
        raise ValueError(_wrong_parameters(url, [name for name in query if name not in _PARAMETERS]))
    if not user or not database or "/" in database:
        raise ValueError(f"it must name one user and one database; {_form(url)}")
    host = _host(parts, query)
    made = PostgresqlUrl(
        host=host,
        port=port,
        database=database,
        user=user,
        password=password,
        ssl_mode=_ssl_mode(host, query.get("sslmode")),
        ssl_root_cert=Path(query["sslrootcert"]) if query.get("sslrootcert") else None,
    )
    if made.ssl_root_cert is not None and made.ssl_mode is SslMode.DISABLE:
        raise ValueError("sslrootcert has no use where sslmode is disable; give sslmode=verify-full")
    return made


def _form(url: str) -> str:
    """What would be right; where a character that ends the password early stands before an @, that too."""
    return f"{_FORM}; {_ENCODED}" if _is_torn(url) else _FORM


def _is_torn(url: str) -> bool:
    """Whether the user or password may hold what ends them: what comes after is then a part of the password."""
    after_host = re.split(r"[/?#]", url.removeprefix(_SCHEME), maxsplit=1)[1:]
    return "#" in url or any("@" in part for part in after_host)


def _wrong_parameters(url: str, unknown: Sequence[str]) -> str:
    if not _is_torn(url) and unknown and _PARAMETER.fullmatch(unknown[0]):
        near = difflib.get_close_matches(unknown[0], _PARAMETERS, n=1)
        if near:
            return f"unknown parameter '{unknown[0]}'; did you mean '{near[0]}'?"
        return f"unknown parameter '{unknown[0]}'; known are {', '.join(_PARAMETERS)}"
    return f"its parameters may be {', '.join(_PARAMETERS)}, each once; {_ENCODED}"


def _decoded(part: str | None) -> str | None:
    decoded = None if part is None else unquote(part, errors="strict")
    if decoded is not None and "\0" in decoded:
        raise ValueError("no text of PostgreSQL holds a NUL")
    return decoded


def _host(parts: SplitResult, query: dict[str, str]) -> str:
    host = parts.hostname
    if host is not None and "host" in query:
        raise ValueError("it must name the host once, before the port or as 'host='")
    host = unquote(host) if host is not None else query.get("host", "")
    if not host or "," in host or "\0" in host:
        raise ValueError(f"it must name one host; {_FORM}")
    return host


def _ssl_mode(host: str, given: str | None) -> SslMode:
    if given in ("prefer", "allow"):
        raise ValueError(
            f"sslmode {given} goes on in plaintext when TLS fails, and so lets whoever is in between "
            "have it; use verify-full, or disable where the network is trusted"
        )
    if given is not None and given not in set(SslMode):
        raise ValueError(f"sslmode must be one of {', '.join(SslMode)}")
    if host.startswith("/"):
        if given not in (None, SslMode.DISABLE):
            raise ValueError("there is no TLS on a Unix socket; leave sslmode away")
        return SslMode.DISABLE
    if given is not None:
        return SslMode(given)
    return SslMode.DISABLE if _is_loopback(host) else SslMode.VERIFY_FULL


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
