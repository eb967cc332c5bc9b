"""The configuration as a frozen value. Owns every key, its default and its bounds; reads nothing."""

import copy
from collections.abc import Iterator, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.alias_generators import to_camel

from sidecar.config.fields import (
    AbsolutePath,
    ByteCount,
    Count,
    HttpAddress,
    KeyringPattern,
    KeystoreUrl,
    Listeners,
    MessageBytes,
    PositiveSeconds,
    RollOverDays,
    Seconds,
)
from sidecar.config.problems import RefusedError, names_listed
from sidecar.names import KEYRING_NAME

MOST_VALUES = 1 << 46
"""Values under one data key: SIV is good for 2^48 invocations (RFC 5297 section 6), of which a value costs several."""
_LONGEST_WAIT_SECONDS = 36_500 * 86_400.0


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
    """Whether it wraps data keys, and unwraps them."""
    former_kms: bool = False
    """Whether it only unwraps data keys, until they are rewrapped."""

    @model_validator(mode="after")
    def _names_its_provider(self) -> "Plugin":
        if self.is_kms and self.former_kms:
            raise RefusedError("only one of 'isKms' and 'formerKms' can be true: a former KMS wraps nothing")
        if (self.is_kms or self.former_kms) and not self.plugin:
            raise RefusedError("it must name its provider in 'plugin', for example 'plugin: awsKms'")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The block as it was parsed, with ``plugin``, ``isKms`` and a true ``formerKms``; a copy.

        It may hold credentials.
        """
        former = {"formerKms": True} if self.former_kms else {}
        return {"plugin": self.plugin, "isKms": self.is_kms, **former, **copy.deepcopy(self.model_extra or {})}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # The rest may be credentials.
        yield "plugin", self.plugin
        yield "is_kms", self.is_kms
        yield "former_kms", self.former_kms


class Schedule(Section):
    """When keyrings roll over."""

    data_key_roll_over_length: RollOverDays = 365.0
    """Days, in fractions if need be; ``math.inf``: never."""
    data_key_max_values: Annotated[int, Field(ge=1, le=MOST_VALUES)] = MOST_VALUES
    """Values that the fleet encrypts under one data key before its keyring rolls over, whatever its age."""


class Server(Section):
    """The gRPC and HTTP sides. The limits in flight hold for the whole process."""

    listen: Listeners
    max_message_bytes: MessageBytes = 16_777_216
    max_rows: Count = 1_048_576
    max_bytes_in_flight: ByteCount = 268_435_456
    max_rows_in_flight: Count = 16_777_216
    max_calls_in_flight: Count = 1024
    reflection: bool = False
    manage_keys: bool = False
    """Whether KeyringService may change something for its callers."""
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
    max_connections: Annotated[int, Field(ge=1, le=64)] = 4
    timeout_seconds: PositiveSeconds = 5.0


class Cache(Section):
    """The cache of unwrapped data keys."""

    ttl_seconds: PositiveSeconds = 300.0
    jitter_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_keys: Count = 10_000
    refresh_after_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.75
    unknown_key_seconds: Seconds = 5.0
    stale_on_outage_seconds: Seconds = 3600.0
    """Counted like the TTL, and never less than it."""


class KmsLimits(Section):
    """How the KMS is called, whichever it is."""

    max_concurrent_calls: Count = 16
    deadline_seconds: PositiveSeconds = 5.0
    max_calls_per_second: Annotated[float, Field(gt=0, le=100_000)] = 200.0
    retries_per_second: Annotated[float, Field(gt=0, le=100_000)] = 10.0
    """In an outage, of all data keys together."""
    failover_seconds: PositiveSeconds = 1.0
    """With several wrapping keys: after so long without an answer the next one is asked as well."""
    order: tuple[str, ...] = Field(default=(), strict=False)
    """Names of plugins, the first asked first; empty: in the order of the file."""


class Usage(Section):
    """How the use of data keys is counted."""

    flush_seconds: PositiveSeconds = 30.0


class Keyring(Section):
    """The settings of a keyring; None: as ``schedule`` says."""

    data_key_roll_over_length: RollOverDays | None = None
    default_mode: Literal["randomized", "deterministic"] = "randomized"
    allow_deterministic: bool = True

    @model_validator(mode="after")
    def _default_is_allowed(self) -> "Keyring":
        if self.default_mode == "deterministic" and not self.allow_deterministic:
            raise RefusedError("defaultMode is deterministic, and allowDeterministic is false")
        return self


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
    usage: Usage = Usage()
    keyrings: Mapping[KeyringPattern, _OptionalKeyring] = {"default": Keyring()}
    """By name or pattern: the keyrings that may be made on first use."""
    log: Log = Log()
    crypto: Crypto = Crypto()

    @field_validator("kms")
    @classmethod
    def _orders_all_kmses(cls, kms: KmsLimits, info: ValidationInfo) -> KmsLimits:
        names = _kms_names(info.data.get("plugins", {}))
        if kms.order and sorted(kms.order) != sorted(names):
            wrong = {
                "missing": [name for name in names if name not in kms.order],
                "not such a plugin": [name for name in kms.order if name not in names],
                "more than once": [name for name in names if kms.order.count(name) > 1],
            }
            raise RefusedError(
                "it must name each plugin with 'isKms: true' once; "
                + "; ".join(f"{what}: {names_listed(which)}" for what, which in wrong.items() if which),
                below=("order",),
            )
        return kms

    @property
    def kms_plugins(self) -> Mapping[str, Plugin]:
        """The KMSs that wrap data keys, the first asked first; none: the local wrapping key in ``data_dir`` does."""
        return {name: self.plugins[name] for name in self.kms.order or _kms_names(self.plugins)}

    @property
    def disabled_before_destroyed(self) -> timedelta:
        """For how long a data key must be disabled before it may be destroyed.

        So long a sidecar that cannot see the keystore goes on encrypting under it, and then adds its count of that.
        """
        seconds = max(self.cache.ttl_seconds, self.cache.stale_on_outage_seconds) + self.usage.flush_seconds
        return timedelta(seconds=min(seconds, _LONGEST_WAIT_SECONDS))

    def may_create_keyring(self, name: str) -> bool:
        """Whether a keyring of this name may be made on first use."""
        return self._declared(name) is not None

    def keyring_settings(self, name: str) -> Keyring:
        """The settings of a keyring: of its name, else of the first pattern that it fits, else the defaults."""
        return self._declared(name) or Keyring()

    def _declared(self, name: str) -> Keyring | None:
        if KEYRING_NAME.fullmatch(name) is None:
            return None
        if name in self.keyrings:
            return self.keyrings[name]
        return next((settings for each, settings in self.keyrings.items() if fnmatchcase(name, each)), None)


def _kms_names(plugins: Mapping[str, Plugin]) -> list[str]:
    return [name for name, plugin in plugins.items() if plugin.is_kms]
