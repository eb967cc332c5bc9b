"""The block of the ``awsKms`` plugin in the configuration, checked; opens nothing and knows no vendor library."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.kms.port import SettingsError

_BLOCK = ("plugin", "isKms", "formerKms", "keyId", "region", "extraKmsConfig")
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
    """Check the plugin's block; raises ``SettingsError`` with everything that is wrong with it, never a secret."""
    problems: list[str] = []
    block = _Block(settings, "", _BLOCK, problems)
    key_id = block.text("keyId", "the id, ARN or alias of the wrapping key", _is_key_id)
    region = block.text("region", "an AWS region such as eu-west-1", _is_region)
    credentials = _credentials(block)
    if problems:
        raise SettingsError(problems)
    return AwsSettings(key_id, region, credentials)


def _credentials(block: "_Block") -> AwsCredentials | None:
    extra = block.block("extraKmsConfig", ("credentials",))
    given = extra and extra.block("credentials", _CREDENTIALS)
    if given is None:
        return None
    return AwsCredentials(
        given.text("accessKeyId", "an access key id"),
        given.text("secretAccessKey", "a secret access key"),
        given.text("sessionToken", "a session token") if given.has("sessionToken") else None,
    )


def _is_key_id(text: str) -> bool:
    return len(text) <= _MAX_KEY_ID and text.isprintable() and " " not in text


def _is_region(text: str) -> bool:
    return _REGION.fullmatch(text) is not None


class _Block:
    """A mapping in the configuration; what is wrong with it is collected, and none of its values is ever shown."""

    def __init__(self, values: Mapping[str, Any], prefix: str, known: Collection[str], problems: list[str]) -> None:
        self._values = values
        self._prefix = prefix
        self._problems = problems
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                self._refuse(name, f"unknown key; {hint}")

    def has(self, name: str) -> bool:
        """Whether something is there."""
        return self._values.get(name) is not None

    def text(self, name: str, meaning: str, is_right: Callable[[str], bool] = bool) -> str:
        """A string that is there and right; anything, where that was noted as a problem."""
        value = self._values.get(name)
        if value is None or value == "":
            self._refuse(name, f"missing; must be {meaning}")
        elif not isinstance(value, str):
            self._refuse(name, f"must be {meaning}, as a string (quote it)")
        elif not is_right(value):
            self._refuse(name, f"must be {meaning}")
        else:
            return value
        return ""

    def block(self, name: str, known: Collection[str]) -> "_Block | None":
        """A mapping within; None where there is none."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._refuse(name, "must be a mapping")
            return None
        return _Block(value, f"{self._prefix}{name}.", known, self._problems)

    def _refuse(self, name: object, problem: str) -> None:
        self._problems.append(f"{self._prefix}{name}: {problem}")
