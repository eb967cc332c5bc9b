"""The block of the ``awsKms`` plugin in the configuration, checked; opens nothing and knows no vendor library."""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

_BLOCK = ("plugin", "isKms", "keyId", "region", "extraKmsConfig")
_CREDENTIALS = ("accessKeyId", "secretAccessKey", "sessionToken")
_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
_MAX_KEY_ID = 2048


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """Credentials from the configuration. No repr shows them."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """One wrapping key in AWS KMS."""

    key_id: str
    """Key id, key ARN, alias name or alias ARN."""
    region: str
    credentials: AwsCredentials | None = None
    """None: the default chain of the vendor's library (environment, profile, web identity, container, instance)."""


def parse(settings: Mapping[str, Any]) -> AwsSettings:
    """Check the plugin's block; raises ``ValueError`` that names the key and what would be right, never a secret."""
    _known(settings, _BLOCK, "")
    key_id = _text(settings, "keyId", "the id, ARN or alias of the wrapping key")
    if len(key_id) > _MAX_KEY_ID or not key_id.isprintable() or " " in key_id:
        raise ValueError("keyId: must be the id, ARN or alias of a wrapping key")
    region = _text(settings, "region", "an AWS region such as eu-west-1")
    if not _REGION.fullmatch(region):
        raise ValueError("region: must be an AWS region such as eu-west-1")
    return AwsSettings(key_id, region, _credentials(settings.get("extraKmsConfig")))


def _credentials(extra: object) -> AwsCredentials | None:
    if extra is None:
        return None
    block = _mapping(extra, "extraKmsConfig")
    _known(block, ("credentials",), "extraKmsConfig.")
    if block.get("credentials") is None:
        return None
    credentials = _mapping(block["credentials"], "extraKmsConfig.credentials")
    prefix = "extraKmsConfig.credentials."
    _known(credentials, _CREDENTIALS, prefix)
    access_key_id = _text(credentials, "accessKeyId", "an access key id", prefix)
    secret_access_key = _text(credentials, "secretAccessKey", "a secret access key", prefix)
    token = credentials.get("sessionToken")
    session_token = None if token is None else _text(credentials, "sessionToken", "a session token", prefix)
    return AwsCredentials(access_key_id, secret_access_key, session_token)


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: must be a mapping")  # noqa: TRY004 - the port's factory raises ValueError alone
    return value


def _known(block: Mapping[str, Any], names: Collection[str], prefix: str) -> None:
    for name in block:
        if name in names:
            continue
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"
        raise ValueError(f"{prefix}{name}: unknown key; {hint}")


def _text(block: Mapping[str, Any], name: str, meaning: str, prefix: str = "") -> str:
    """A string that is there and not empty; the value itself is never shown, since it may be a secret."""
    value = block.get(name)
    if value is None or value == "":
        raise ValueError(f"{prefix}{name}: missing; must be {meaning}")
    if not isinstance(value, str):
        raise ValueError(f"{prefix}{name}: must be {meaning}, as a string (quote it)")  # noqa: TRY004 - as above
    return value
