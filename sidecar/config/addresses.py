"""Addresses to listen on: a Unix socket or an IP address and port. Parses and checks them; opens nothing."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sidecar.config.problems import RefusedError

_UNIX = "unix://"
_MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un holds 108, one of them the closing NUL.
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")
_FORM = "unix:///absolute/path or host:port (IPv6: [::1]:port)"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket; ``str()`` is what gRPC takes as target and as address to listen on."""

    path: Path
    """Absolute, at most 107 bytes."""

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


class TcpAddress(NamedTuple):
    """An IP address and a port (0: any free one); ``str()`` is ``host:port`` with brackets around IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return ipaddress.ip_address(self.host).is_loopback


Address = UnixAddress | TcpAddress


def parse_listener(text: str) -> Address:
    """An address for gRPC. Raises ``RefusedError`` where TCP would leave the machine: this version has no TLS."""
    if text.startswith("unix:"):
        return _parse_unix(text)
    address = parse_tcp(text, form=_FORM)
    if not address.is_loopback:
        raise RefusedError(
            "it must be a loopback address, since TCP has no TLS in this version; use 127.0.0.1, ::1 or a Unix socket"
        )
    return address


def parse_tcp(text: str, *, form: str = "host:port (IPv6: [::1]:port)") -> TcpAddress:
    """An IP address and port; ``localhost`` is read as 127.0.0.1. Raises ``RefusedError``."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise RefusedError(f"it must be {form}")
    port = int(match["port"])
    if port > 65535:
        raise RefusedError("its port must be at most 65535")
    host = match["v6"] or ("127.0.0.1" if match["host"] == "localhost" else match["host"])
    try:
        return TcpAddress(str(ipaddress.ip_address(host)), port)
    except ValueError:
        raise RefusedError("its host must be an IP address or localhost") from None


def check_path(path: str) -> str:
    """Check a path that becomes part of addresses and URLs. Raises ``RefusedError``."""
    if not path.startswith("/"):
        raise RefusedError("its path must be absolute")
    if not path.isprintable() or set(path) & set("%?#"):
        raise RefusedError("its path must have no %, ? or # and no control characters: they mean something in a URL")
    return path


def _parse_unix(text: str) -> UnixAddress:
    if not text.startswith(f"{_UNIX}/") or text.endswith("/"):
        raise RefusedError(f"it must be {_FORM}")
    path = check_path(text.removeprefix(_UNIX))
    if (length := len(path.encode())) > _MAX_SOCKET_PATH_BYTES:
        raise RefusedError(
            f"a socket's path has at most {_MAX_SOCKET_PATH_BYTES} bytes and this one {length}; "
            "set a shorter dataDir, or server.listen"
        )
    return UnixAddress(Path(path))
