"""The configuration as a frozen value. Owns every key, its default and its bounds; reads nothing."""

import copy
from collections.abc import Iterator, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.alias_generators import to_camel

from sidecar.config.fields import (
    KEYRING_NAME,
    AbsolutePath,
    ByteCount,
    Count,
    HttpAddress,
    KeyringPattern,
    KeystoreUrl,
    Listeners,
    MessageBytes,
    PositiveSeconds,
    Seconds,
)
from sidecar.config.problems import RefusedError

_MAX_DAYS = 36_500


class Section(BaseModel):
    """Any part of the configuration: frozen, typed strictly, and without room for unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
    )


class Plugin(Section):
    """A block under ``plugins``; which keys a KMS's block has is for its provider to say."""

    model_config = ConfigDict(extra="allow")

    plugin: str | None = None
    """The provider's name."""
    is_kms: bool = False

    @model_validator(mode="after")
    def _names_its_provider(self) -> "Plugin":
        if self.is_kms and not self.plugin:
            raise RefusedError("it must name its provider in 'plugin', for example 'plugin: awsKms'")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The block as it was parsed, ``plugin`` and ``isKms`` included; a copy. It may hold credentials."""
        return {"plugin": self.plugin, "isKms": self.is_kms, **copy.deepcopy(self.model_extra or {})}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # The rest may be credentials.
        yield "plugin", self.plugin
        yield "is_kms", self.is_kms


class Schedule(Section):
    """When keyrings roll over."""

    data_key_roll_over_length: Annotated[float, Field(gt=0, le=_MAX_DAYS, allow_inf_nan=False)] = 365.0
    """Days, in fractions if need be."""

    @property
    def roll_over_length(self) -> timedelta:
        """How long a data key is the primary; at least a microsecond."""
        return max(timedelta(days=self.data_key_roll_over_length), timedelta.resolution)


class Server(Section):
    """The gRPC and HTTP sides. The limits in flight hold for the whole process."""

    listen: Listeners
    max_message_bytes: MessageBytes = 16_777_216
    max_rows: Count = 1_048_576
    max_bytes_in_flight: ByteCount = 268_435_456
    max_rows_in_flight: Count = 16_777_216
    max_calls_in_flight: Count = 1024
    reflection: bool = False
    drain_seconds: Seconds = 25.0
    http: HttpAddress = None

    @field_validator("max_bytes_in_flight", "max_rows_in_flight")
    @classmethod
    def _takes_the_largest_call(cls, in_flight: int, info: ValidationInfo) -> int:
        one_call, key = {
            "max_bytes_in_flight": ("max_message_bytes", "server.maxMessageBytes"),
            "max_rows_in_flight": ("max_rows", "server.maxRows"),
        }[str(info.field_name)]
        if in_flight < (least := info.data.get(one_call, 0)):
            raise RefusedError(f"it must be at least {key}, which is {least}, or the largest call could never be made")
        return in_flight


class Keystore(Section):
    """Where wrapped data keys are kept."""

    url: KeystoreUrl = Field(repr=False)
    """May hold a password."""


class Cache(Section):
    """The cache of unwrapped data keys."""

    ttl_seconds: PositiveSeconds = 300.0
    jitter_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_keys: Count = 10_000
    refresh_after_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.75
    unknown_key_seconds: Seconds = 5.0


class KmsLimits(Section):
    """How the KMS is called, whichever it is."""

    max_concurrent_calls: Count = 16
    deadline_seconds: PositiveSeconds = 5.0


class Keyring(Section):
    """The settings of a keyring; there are none yet."""


class Log(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Crypto(Section):
    """How values are encrypted, where there is a choice."""

    force_openssl: bool = False


_OptionalKeyring = Annotated[Keyring, BeforeValidator(lambda settings: {} if settings is None else settings)]


class Config(Section):
    """The whole configuration. ``load`` makes it: some defaults follow from the environment."""

    plugins: Mapping[str, Plugin] = {}
    schedule: Schedule = Schedule()
    server: Server
    data_dir: AbsolutePath
    keystore: Keystore
    cache: Cache = Cache()
    kms: KmsLimits = KmsLimits()
    keyrings: Mapping[KeyringPattern, _OptionalKeyring] = {"default": Keyring()}
    """By name or pattern: the keyrings that may be made on first use."""
    log: Log = Log()
    crypto: Crypto = Crypto()

    @field_validator("plugins")
    @classmethod
    def _has_one_kms(cls, plugins: Mapping[str, Plugin]) -> Mapping[str, Plugin]:
        if sum(plugin.is_kms for plugin in plugins.values()) > 1:
            raise RefusedError("at most one plugin may have 'isKms: true' in this version")
        return plugins

    @property
    def kms_plugin(self) -> Plugin | None:
        """The KMS that wraps data keys; None: the local wrapping key in ``data_dir`` does."""
        return next((plugin for plugin in self.plugins.values() if plugin.is_kms), None)

    def may_create_keyring(self, name: str) -> bool:
        """Whether a keyring of this name may be made on first use."""
        return KEYRING_NAME.fullmatch(name) is not None and any(fnmatchcase(name, each) for each in self.keyrings)
