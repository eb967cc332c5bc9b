"""Where the sidecar is and how the channel to it is set up. Owns no channel itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

ChannelOptions = list[tuple[str, str | int]]

_MAX_MESSAGE_BYTES = 16 * 2**20 + 2**16
"""The sidecar's default limit and some slack, so that the side that refuses is the one that can say why."""

_HELP = "use unix:///path/to/sidekey.sock or host:port"


def resolve_target(target: str | None) -> str:
    """The target given, else ``$SIDEKEY_TARGET``. Raises ValueError saying what to set where there is none."""
    found = os.environ.get("SIDEKEY_TARGET", "") if target is None else target
    if not found:
        raise ValueError(f"no target: pass one or set SIDEKEY_TARGET; {_HELP}")
    if "://" in found or found.startswith(("unix:", "dns:", "ipv4:", "ipv6:")):
        return found
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^/\s:]+):[0-9]{1,5}", found):
        raise ValueError(f"target {found!r} is not an address: {_HELP}")
    return found


def channel_options(target: str, extra: Mapping[str, str | int] | None = None) -> ChannelOptions:
    """gRPC channel arguments for the target; ``extra`` wins over what is set here."""
    options: dict[str, str | int] = {
        "grpc.max_send_message_length": _MAX_MESSAGE_BYTES,
        "grpc.max_receive_message_length": _MAX_MESSAGE_BYTES,
        # After a restart of the sidecar gRPC's own default would wait up to two minutes before it looks again.
        "grpc.initial_reconnect_backoff_ms": 50,
        "grpc.min_reconnect_backoff_ms": 50,
        "grpc.max_reconnect_backoff_ms": 1000,
        # Retries are the client's own; a proxy between a process and its sidecar is never wanted.
        "grpc.enable_retries": 0,
        "grpc.enable_http_proxy": 0,
        # A forked child must not share the parent's connection, which gRPC would find in the process-wide pool.
        "grpc.use_local_subchannel_pool": 1,
    }
    if target.startswith("unix:"):
        # gRPC would send the percent-encoded path as :authority, which other stacks reject.
        options["grpc.default_authority"] = "localhost"
    options.update(extra or {})
    return list(options.items())
