"""AWS KMS: wraps data keys by ``kms:Encrypt`` and unwraps them by ``kms:Decrypt``, and calls nothing else.

The one file of the KMS that knows the vendor's exceptions; the library is imported when the provider opens, so that a
sidecar without AWS never pays for it. Vendor responses and exception texts stop here: they are neither logged nor
chained.
"""

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog

from sidecar import aws
from sidecar.errors import (
    CorruptKeyError,
    KmsDeniedError,
    KmsUnavailableError,
    SidekeyError,
    StartupError,
)
from sidecar.kms import aws_errors, aws_settings
from sidecar.kms.port import DATA_KEY_BYTES

NAME: Final = "awsKms"
_MAX_WRAPPED_BYTES: Final = 6144
"""What ``kms:Decrypt`` takes at most."""
_NO_ARN: Final = re.compile(r"(mrk-)?[0-9a-f-]{32,36}|alias/.+")
"""A key id, or an alias."""

log = structlog.get_logger(__name__)


def create(settings: Mapping[str, Any]) -> "AwsKms":
    """Make the provider from its block in the configuration; raises ``SettingsError``. It opens nothing yet."""
    return AwsKms(aws_settings.parse(settings))


class AwsKms:
    """One wrapping key in AWS KMS, and one client for the life of the process (making one costs some 200 ms)."""

    name = NAME

    def __init__(
        self,
        settings: aws_settings.AwsSettings,
        *,
        connect_timeout_seconds: float = 1.0,
        read_timeout_seconds: float = 2.0,
        max_attempts: int = 2,
    ) -> None:
        self._settings = settings
        self._connect_timeout_seconds = connect_timeout_seconds
        self._read_timeout_seconds = read_timeout_seconds
        self._max_attempts = max_attempts
        self._kek_id = settings.key_id
        self._resources = AsyncExitStack()
        self._client: Any = None

    @property
    def kek_id(self) -> str:
        """The ARN of the wrapping key that did the last wrap; before the first, the configured ``keyId``.

        An alias may be pointed at another wrapping key at any time: read this after a wrap, not before it.
        """
        return self._kek_id

    def may_unwrap(self, kek_id: str) -> bool:
        """Whatever a wrapping key of AWS KMS in this region wrapped; one that is no ARN was named before KMS did."""
        parts = kek_id.split(":", 4)
        if len(parts) == 5 and parts[0] == "arn":
            return parts[2] == "kms" and parts[3] == self._settings.region
        return _NO_ARN.fullmatch(kek_id) is not None

    async def open(self) -> None:
        """Find credentials and make the client; calls no KMS. Raises ``StartupError``."""
        try:
            method = await self._connect()
        except Exception as error:  # noqa: BLE001 - the vendor's library raises what it likes; the name alone is ours to show
            raise StartupError(
                f"the AWS KMS client cannot be made ({type(error).__name__}); check region, the AWS profile and "
                "configuration files, and the source of the credentials"
            ) from None
        if self._settings.credentials is not None:
            log.warning("aws_credentials_in_configuration", advice="discouraged: use a role or the environment instead")
        if method is None:
            log.warning("aws_credentials_missing", advice="every call will be denied until there are some")
        log.info("aws_kms_opened", region=self._settings.region, credentials_method=method)

    async def _connect(self) -> str | None:
        """Make the client; returns which method found the credentials (None: no method found any)."""
        given = self._settings.credentials
        credentials = None if given is None else (given.access_key_id, given.secret_access_key, given.session_token)
        connected = await aws.connect(
            self._resources,
            "kms",
            self._settings.region,
            credentials=credentials,
            connect_timeout_seconds=self._connect_timeout_seconds,
            read_timeout_seconds=self._read_timeout_seconds,
            max_attempts=self._max_attempts,
        )
        self._client = connected.client
        if not connected.uses_tls:
            log.warning("aws_kms_endpoint_without_tls", advice="data keys cross the network in the clear: tests only")
        return connected.credentials_method

    async def wrap(self, data_key: bytes | bytearray, encryption_context: Mapping[str, str]) -> bytes:
        """Wrap a data key of 32 bytes; raises the port's errors."""
        client = self._opened()
        try:
            answer = await client.encrypt(
                KeyId=self._settings.key_id, Plaintext=data_key, EncryptionContext=dict(encryption_context)
            )
        except Exception as error:  # noqa: BLE001 - sorted, and never chained: its text is the vendor's
            raise _sorted(error, "wrap") from None
        wrapped_key = answer.get("CiphertextBlob")
        if not isinstance(wrapped_key, bytes) or not 0 < len(wrapped_key) <= _MAX_WRAPPED_BYTES:
            raise KmsUnavailableError("AWS KMS answered a wrap without a wrapped key")
        self._learn_kek_id(answer.get("KeyId"))
        return wrapped_key

    async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
        """Unwrap a data key; raises the port's errors.

        No KeyId is sent. A data key may have been wrapped under an earlier wrapping key than the configured one, and a
        symmetric ciphertext names its wrapping key itself, under KMS's authentication; the encryption context, which
        KMS authenticates too, binds it to its keyring and key id. Which wrapping keys may unwrap is IAM's to say: the
        policy lists the ARNs that kms:Decrypt is granted on, never ``*``.
        """
        client = self._opened()
        if not 0 < len(wrapped_key) <= _MAX_WRAPPED_BYTES:
            raise CorruptKeyError(f"the wrapped data key is damaged: it must have 1 to {_MAX_WRAPPED_BYTES} bytes")
        try:
            answer = await client.decrypt(CiphertextBlob=wrapped_key, EncryptionContext=dict(encryption_context))
        except Exception as error:  # noqa: BLE001 - as above
            raise _sorted(error, "unwrap") from None
        data_key = answer.get("Plaintext")
        if not isinstance(data_key, bytes):
            raise KmsUnavailableError("AWS KMS answered an unwrap without a data key")
        if len(data_key) != DATA_KEY_BYTES:
            raise CorruptKeyError(f"the wrapped data key is damaged: what it unwraps to has not {DATA_KEY_BYTES} bytes")
        return bytearray(data_key)

    async def close(self) -> None:
        """Close the client and its connections."""
        self._client = None
        await self._resources.aclose()

    def _opened(self) -> Any:
        if self._client is None:
            raise RuntimeError("the AWS KMS client is not open")
        return self._client

    def _learn_kek_id(self, arn: object) -> None:
        # Bounded and printable, since it goes to the keystore and to logs.
        if isinstance(arn, str) and arn.startswith("arn:") and len(arn) <= 2048 and arn.isprintable():
            self._kek_id = arn


def _sorted(error: Exception, operation: aws_errors.Operation) -> SidekeyError:
    from botocore import exceptions as vendor

    if isinstance(error, vendor.ClientError):
        response: Any = error.response
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return aws_errors.sort(response.get("Error", {}).get("Code"), status, operation)
    if aws.lacks_credentials(error):
        return KmsDeniedError(f"there are no usable AWS credentials ({type(error).__name__})")
    # Timeouts, refused and reset connections, name resolution, answers that do not parse, credentials that an
    # endpoint fails to hand out: none of them says that the key or the access to it is gone.
    return KmsUnavailableError(f"AWS KMS cannot be reached or does not answer as it should ({type(error).__name__})")
