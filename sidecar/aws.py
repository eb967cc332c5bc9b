"""What services of AWS have in common: how a client is made, and how access is denied.

Vendor responses and exception texts are for those who call: here nothing of them is kept or logged.
"""

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

_POOL: Final = 32

DENIED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""Codes by which any service says that access is denied."""

# By name, since not every version of the vendor's library has them all.
_NO_CREDENTIALS: Final = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "UnauthorizedSSOTokenError",
        "TokenRetrievalError",
        "LoginRefreshRequired",
    }
)


@dataclass(frozen=True, slots=True)
class Connected:
    """A client of a service."""

    client: Any
    credentials_method: str | None
    """Which method found the credentials; None: no method found any."""
    uses_tls: bool


async def connect(
    resources: AsyncExitStack,
    service: str,
    region: str,
    *,
    credentials: tuple[str, str, str | None] | None = None,
    connect_timeout_seconds: float,
    read_timeout_seconds: float,
    max_attempts: int,
) -> Connected:
    """Make a client, which ``resources`` closes; calls no service but those that hand out credentials.

    The vendor's library raises what it likes.

    Args:
        credentials: access key id, secret access key and session token in place of the default chain's.
        max_attempts: how often a call is sent, the first time included.
    """
    from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
    from aiobotocore.session import get_session  # type: ignore[import-untyped]

    _silence_vendor_logs()
    session = get_session()
    if credentials is not None:
        session.set_credentials(*credentials)
    found = await session.get_credentials()
    config = AioConfig(
        connect_timeout=connect_timeout_seconds,
        read_timeout=read_timeout_seconds,
        max_pool_connections=_POOL,
        retries={"mode": "standard", "total_max_attempts": max_attempts},
    )
    client = await resources.enter_async_context(session.create_client(service, region_name=region, config=config))
    return Connected(
        client, None if found is None else str(found.method), str(client.meta.endpoint_url).startswith("https:")
    )


def lacks_credentials(error: Exception) -> bool:
    """Whether a call failed since there are no usable credentials."""
    return type(error).__name__ in _NO_CREDENTIALS


def _silence_vendor_logs() -> None:
    """At DEBUG the vendor's library logs requests and responses, keys and signatures in them: never let it."""
    for name in ("botocore", "aiobotocore"):
        logging.getLogger(name).setLevel(logging.ERROR)
