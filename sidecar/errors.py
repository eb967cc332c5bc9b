"""The taxonomy of what can go wrong, sorted by who must act. Imports nothing.

The text of every error here may be shown to a caller: it never holds a value, a key, a credential or the text of a
foreign exception. What has no class here is a defect, and callers see "internal error" and nothing else.
"""


class SidekeyError(Exception):
    """Root of the taxonomy; ``reason`` is the stable, machine-readable name (``google.rpc.ErrorInfo.reason``)."""

    reason = "INTERNAL"


# --- The caller must act -------------------------------------------------------------------------------------------


class InvalidRequestError(SidekeyError):
    """The request does not hold together; the text says where and what would be right."""

    reason = "INVALID_REQUEST"


class InvalidBatchError(InvalidRequestError):
    """A batch's buffers contradict each other: offsets, widths, bitmaps, or neither or both shapes set."""

    reason = "INVALID_BATCH"


class ValueTooLargeError(InvalidRequestError):
    """A value is longer than 8 MiB, or the associated data longer than 64 KiB."""

    reason = "VALUE_TOO_LARGE"


class UnknownModeError(InvalidRequestError):
    """A mode (or on_error) that this version does not know."""

    reason = "UNKNOWN_MODE"


class ModeNotAllowedError(InvalidRequestError):
    """The keyring does not allow the deterministic mode."""

    reason = "MODE_NOT_ALLOWED"


class UnknownKeyringError(SidekeyError):
    """No keyring of this name exists, and the configuration lets none be made."""

    reason = "UNKNOWN_KEYRING"


class NoSuchKeyError(SidekeyError):
    """The caller names a data key that the keystore does not have."""

    reason = "NO_SUCH_KEY"


class DecryptFailedError(SidekeyError):
    """Rows of a batch cannot be decrypted, and the caller asked for all or nothing; the text names the first rows."""

    reason = "DECRYPT_FAILED"


class LimitExceededError(SidekeyError):
    """A message, row or in-flight limit; the caller sends less, or later."""

    reason = "LIMIT_EXCEEDED"


# --- An operator must act ------------------------------------------------------------------------------------------


class UnknownKeyError(SidekeyError):
    """The keystore has no data key of this id."""

    reason = "UNKNOWN_KEY"


class KeyDisabledError(SidekeyError):
    """The data key is disabled."""

    reason = "KEY_DISABLED"


class KeyDestroyedError(SidekeyError):
    """The data key was destroyed; what it encrypted is gone for good."""

    reason = "KEY_DESTROYED"


class WrongKeyringError(SidekeyError):
    """The data key belongs to another keyring than the one that the request named."""

    reason = "WRONG_KEYRING"


class CorruptKeyError(SidekeyError):
    """A wrapped data key, or what it unwraps to, is not what was stored: permanent, and loud."""

    reason = "CORRUPT_KEY"


class StateTransitionError(SidekeyError):
    """The data key's state may not go there from where it is; the text says what must come first."""

    reason = "STATE_TRANSITION"


class KeyringExistsError(SidekeyError):
    """A keyring of this name is there, with other settings."""

    reason = "KEYRING_EXISTS"


class ManagementOffError(SidekeyError):
    """The configuration does not let callers manage keys."""

    reason = "MANAGEMENT_OFF"


class KmsDeniedError(SidekeyError):
    """The KMS denies this sidecar the use of the wrapping key."""

    reason = "KMS_ACCESS_DENIED"


class KmsDisabledError(SidekeyError):
    """The wrapping key is disabled, pending deletion or gone."""

    reason = "KMS_KEY_DISABLED"


class StartupError(SidekeyError):
    """The sidecar cannot serve as configured or where it stands; the text says what would be right."""

    reason = "STARTUP"


class SelfTestError(StartupError):
    """The cipher does not produce its known answers on this machine; nothing may be served."""

    reason = "SELF_TEST_FAILED"


# --- Try again -----------------------------------------------------------------------------------------------------


class KmsThrottledError(SidekeyError):
    """The KMS asks for fewer calls."""

    reason = "KMS_THROTTLED"


class KmsUnavailableError(SidekeyError):
    """The KMS cannot be reached, does not answer in time, or fails."""

    reason = "KMS_UNAVAILABLE"


class KeystoreUnavailableError(SidekeyError):
    """The keystore cannot be reached, does not answer in time, or fails."""

    reason = "KEYSTORE_UNAVAILABLE"


class KeyUnavailableError(SidekeyError):
    """Data keys of a batch cannot be had now; the same call may succeed later."""

    reason = "KEY_UNAVAILABLE"


class DrainingError(SidekeyError):
    """The sidecar is stopping and takes no new calls."""

    reason = "DRAINING"


RETRYABLE = (KmsThrottledError, KmsUnavailableError, KeystoreUnavailableError)
"""Errors that an outage explains: a cached data key goes on working through them."""
