from google.protobuf import timestamp_pb2 as _timestamp_pb2
from sidekey.v1 import encryption_pb2 as _encryption_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KeyState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_STATE_UNSPECIFIED: _ClassVar[KeyState]
    KEY_STATE_ENABLED: _ClassVar[KeyState]
    KEY_STATE_DISABLED: _ClassVar[KeyState]
    KEY_STATE_DESTROYED: _ClassVar[KeyState]
KEY_STATE_UNSPECIFIED: KeyState
KEY_STATE_ENABLED: KeyState
KEY_STATE_DISABLED: KeyState
KEY_STATE_DESTROYED: KeyState

class DataKey(_message.Message):
    __slots__ = ("key_id", "keyring", "generation", "state", "primary", "created_at", "state_changed_at", "kek_ids", "values_encrypted", "values_decrypted", "first_used_at", "last_used_at")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STATE_CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    KEK_IDS_FIELD_NUMBER: _ClassVar[int]
    VALUES_ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    VALUES_DECRYPTED_FIELD_NUMBER: _ClassVar[int]
    FIRST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    keyring: str
    generation: int
    state: KeyState
    primary: bool
    created_at: _timestamp_pb2.Timestamp
    state_changed_at: _timestamp_pb2.Timestamp
    kek_ids: _containers.RepeatedScalarFieldContainer[str]
    values_encrypted: int
    values_decrypted: int
    first_used_at: _timestamp_pb2.Timestamp
    last_used_at: _timestamp_pb2.Timestamp
    def __init__(self, key_id: _Optional[str] = ..., keyring: _Optional[str] = ..., generation: _Optional[int] = ..., state: _Optional[_Union[KeyState, str]] = ..., primary: bool = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., state_changed_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., kek_ids: _Optional[_Iterable[str]] = ..., values_encrypted: _Optional[int] = ..., values_decrypted: _Optional[int] = ..., first_used_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_used_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class KeyringSettings(_message.Message):
    __slots__ = ("roll_over_days", "roll_over_never", "default_mode", "allow_deterministic")
    ROLL_OVER_DAYS_FIELD_NUMBER: _ClassVar[int]
    ROLL_OVER_NEVER_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    roll_over_days: float
    roll_over_never: bool
    default_mode: _encryption_pb2.Mode
    allow_deterministic: bool
    def __init__(self, roll_over_days: _Optional[float] = ..., roll_over_never: bool = ..., default_mode: _Optional[_Union[_encryption_pb2.Mode, str]] = ..., allow_deterministic: bool = ...) -> None: ...

class Keyring(_message.Message):
    __slots__ = ("name", "settings", "created_at", "primary")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    settings: KeyringSettings
    created_at: _timestamp_pb2.Timestamp
    primary: DataKey
    def __init__(self, name: _Optional[str] = ..., settings: _Optional[_Union[KeyringSettings, _Mapping]] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., primary: _Optional[_Union[DataKey, _Mapping]] = ...) -> None: ...

class CreateKeyringRequest(_message.Message):
    __slots__ = ("name", "settings", "replace_settings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    REPLACE_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    settings: KeyringSettings
    replace_settings: bool
    def __init__(self, name: _Optional[str] = ..., settings: _Optional[_Union[KeyringSettings, _Mapping]] = ..., replace_settings: bool = ...) -> None: ...

class CreateKeyringResponse(_message.Message):
    __slots__ = ("keyring",)
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    keyring: Keyring
    def __init__(self, keyring: _Optional[_Union[Keyring, _Mapping]] = ...) -> None: ...

class GetKeyringRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetKeyringResponse(_message.Message):
    __slots__ = ("keyring",)
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    keyring: Keyring
    def __init__(self, keyring: _Optional[_Union[Keyring, _Mapping]] = ...) -> None: ...

class ListKeyringsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKeyringsResponse(_message.Message):
    __slots__ = ("keyrings", "next_page_token")
    KEYRINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keyrings: _containers.RepeatedCompositeFieldContainer[Keyring]
    next_page_token: str
    def __init__(self, keyrings: _Optional[_Iterable[_Union[Keyring, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RotateKeyringRequest(_message.Message):
    __slots__ = ("name", "dry_run")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    name: str
    dry_run: bool
    def __init__(self, name: _Optional[str] = ..., dry_run: bool = ...) -> None: ...

class RotateKeyringResponse(_message.Message):
    __slots__ = ("primary",)
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    primary: DataKey
    def __init__(self, primary: _Optional[_Union[DataKey, _Mapping]] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ("keyring", "page_size", "page_token", "unused_since", "states")
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNUSED_SINCE_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    keyring: str
    page_size: int
    page_token: str
    unused_since: _timestamp_pb2.Timestamp
    states: _containers.RepeatedScalarFieldContainer[KeyState]
    def __init__(self, keyring: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., unused_since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., states: _Optional[_Iterable[_Union[KeyState, str]]] = ...) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys", "next_page_token")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[DataKey]
    next_page_token: str
    def __init__(self, keys: _Optional[_Iterable[_Union[DataKey, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SetKeyStateRequest(_message.Message):
    __slots__ = ("key_id", "state", "dry_run")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    state: KeyState
    dry_run: bool
    def __init__(self, key_id: _Optional[str] = ..., state: _Optional[_Union[KeyState, str]] = ..., dry_run: bool = ...) -> None: ...

class SetKeyStateResponse(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: DataKey
    def __init__(self, key: _Optional[_Union[DataKey, _Mapping]] = ...) -> None: ...

class RewrapKeysRequest(_message.Message):
    __slots__ = ("keyring", "page_size", "page_token", "dry_run")
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    keyring: str
    page_size: int
    page_token: str
    dry_run: bool
    def __init__(self, keyring: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., dry_run: bool = ...) -> None: ...

class RewrapFailure(_message.Message):
    __slots__ = ("key_id", "keyring", "reason")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    keyring: str
    reason: str
    def __init__(self, key_id: _Optional[str] = ..., keyring: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RewrapKeysResponse(_message.Message):
    __slots__ = ("rewrapped", "unchanged", "failures", "next_page_token")
    REWRAPPED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rewrapped: int
    unchanged: int
    failures: _containers.RepeatedCompositeFieldContainer[RewrapFailure]
    next_page_token: str
    def __init__(self, rewrapped: _Optional[int] = ..., unchanged: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[RewrapFailure, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
