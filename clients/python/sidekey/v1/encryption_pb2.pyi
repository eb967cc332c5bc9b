from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_RANDOMIZED: _ClassVar[Mode]
    MODE_DETERMINISTIC: _ClassVar[Mode]

class OnError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_ERROR_UNSPECIFIED: _ClassVar[OnError]
    ON_ERROR_REPORT: _ClassVar[OnError]

class RowErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_ERROR_CODE_UNSPECIFIED: _ClassVar[RowErrorCode]
    ROW_ERROR_CODE_MALFORMED: _ClassVar[RowErrorCode]
    ROW_ERROR_CODE_UNKNOWN_KEY: _ClassVar[RowErrorCode]
    ROW_ERROR_CODE_KEY_DISABLED: _ClassVar[RowErrorCode]
    ROW_ERROR_CODE_KEY_DESTROYED: _ClassVar[RowErrorCode]
    ROW_ERROR_CODE_KEY_UNAVAILABLE: _ClassVar[RowErrorCode]
    ROW_ERROR_CODE_AUTHENTICATION_FAILED: _ClassVar[RowErrorCode]
    ROW_ERROR_CODE_PERMISSION_DENIED: _ClassVar[RowErrorCode]
    ROW_ERROR_CODE_WRONG_KEYRING: _ClassVar[RowErrorCode]
MODE_UNSPECIFIED: Mode
MODE_RANDOMIZED: Mode
MODE_DETERMINISTIC: Mode
ON_ERROR_UNSPECIFIED: OnError
ON_ERROR_REPORT: OnError
ROW_ERROR_CODE_UNSPECIFIED: RowErrorCode
ROW_ERROR_CODE_MALFORMED: RowErrorCode
ROW_ERROR_CODE_UNKNOWN_KEY: RowErrorCode
ROW_ERROR_CODE_KEY_DISABLED: RowErrorCode
ROW_ERROR_CODE_KEY_DESTROYED: RowErrorCode
ROW_ERROR_CODE_KEY_UNAVAILABLE: RowErrorCode
ROW_ERROR_CODE_AUTHENTICATION_FAILED: RowErrorCode
ROW_ERROR_CODE_PERMISSION_DENIED: RowErrorCode
ROW_ERROR_CODE_WRONG_KEYRING: RowErrorCode

class ValueBatch(_message.Message):
    __slots__ = ("values", "validity")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VALIDITY_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    validity: bytes
    def __init__(self, values: _Optional[_Iterable[bytes]] = ..., validity: _Optional[bytes] = ...) -> None: ...

class ColumnBatch(_message.Message):
    __slots__ = ("data", "offsets", "byte_width", "validity")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    BYTE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    VALIDITY_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offsets: bytes
    byte_width: int
    validity: bytes
    def __init__(self, data: _Optional[bytes] = ..., offsets: _Optional[bytes] = ..., byte_width: _Optional[int] = ..., validity: _Optional[bytes] = ...) -> None: ...

class EncryptRequest(_message.Message):
    __slots__ = ("keyring", "associated_data", "mode", "values", "column")
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATED_DATA_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    keyring: str
    associated_data: bytes
    mode: Mode
    values: ValueBatch
    column: ColumnBatch
    def __init__(self, keyring: _Optional[str] = ..., associated_data: _Optional[bytes] = ..., mode: _Optional[_Union[Mode, str]] = ..., values: _Optional[_Union[ValueBatch, _Mapping]] = ..., column: _Optional[_Union[ColumnBatch, _Mapping]] = ...) -> None: ...

class EncryptResponse(_message.Message):
    __slots__ = ("values", "column")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    values: ValueBatch
    column: ColumnBatch
    def __init__(self, values: _Optional[_Union[ValueBatch, _Mapping]] = ..., column: _Optional[_Union[ColumnBatch, _Mapping]] = ...) -> None: ...

class DecryptRequest(_message.Message):
    __slots__ = ("associated_data", "keyring", "on_error", "values", "column")
    ASSOCIATED_DATA_FIELD_NUMBER: _ClassVar[int]
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    ON_ERROR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    associated_data: bytes
    keyring: str
    on_error: OnError
    values: ValueBatch
    column: ColumnBatch
    def __init__(self, associated_data: _Optional[bytes] = ..., keyring: _Optional[str] = ..., on_error: _Optional[_Union[OnError, str]] = ..., values: _Optional[_Union[ValueBatch, _Mapping]] = ..., column: _Optional[_Union[ColumnBatch, _Mapping]] = ...) -> None: ...

class RowError(_message.Message):
    __slots__ = ("row", "code", "retryable")
    ROW_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    row: int
    code: RowErrorCode
    retryable: bool
    def __init__(self, row: _Optional[int] = ..., code: _Optional[_Union[RowErrorCode, str]] = ..., retryable: bool = ...) -> None: ...

class DecryptResponse(_message.Message):
    __slots__ = ("values", "column", "row_errors")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    ROW_ERRORS_FIELD_NUMBER: _ClassVar[int]
    values: ValueBatch
    column: ColumnBatch
    row_errors: _containers.RepeatedCompositeFieldContainer[RowError]
    def __init__(self, values: _Optional[_Union[ValueBatch, _Mapping]] = ..., column: _Optional[_Union[ColumnBatch, _Mapping]] = ..., row_errors: _Optional[_Iterable[_Union[RowError, _Mapping]]] = ...) -> None: ...

class ReencryptRequest(_message.Message):
    __slots__ = ("associated_data", "keyring", "on_error", "values", "column", "to_keyring", "to_associated_data", "to_mode")
    ASSOCIATED_DATA_FIELD_NUMBER: _ClassVar[int]
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    ON_ERROR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    TO_KEYRING_FIELD_NUMBER: _ClassVar[int]
    TO_ASSOCIATED_DATA_FIELD_NUMBER: _ClassVar[int]
    TO_MODE_FIELD_NUMBER: _ClassVar[int]
    associated_data: bytes
    keyring: str
    on_error: OnError
    values: ValueBatch
    column: ColumnBatch
    to_keyring: str
    to_associated_data: bytes
    to_mode: Mode
    def __init__(self, associated_data: _Optional[bytes] = ..., keyring: _Optional[str] = ..., on_error: _Optional[_Union[OnError, str]] = ..., values: _Optional[_Union[ValueBatch, _Mapping]] = ..., column: _Optional[_Union[ColumnBatch, _Mapping]] = ..., to_keyring: _Optional[str] = ..., to_associated_data: _Optional[bytes] = ..., to_mode: _Optional[_Union[Mode, str]] = ...) -> None: ...

class ReencryptResponse(_message.Message):
    __slots__ = ("values", "column", "row_errors", "unchanged")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    ROW_ERRORS_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    values: ValueBatch
    column: ColumnBatch
    row_errors: _containers.RepeatedCompositeFieldContainer[RowError]
    unchanged: int
    def __init__(self, values: _Optional[_Union[ValueBatch, _Mapping]] = ..., column: _Optional[_Union[ColumnBatch, _Mapping]] = ..., row_errors: _Optional[_Iterable[_Union[RowError, _Mapping]]] = ..., unchanged: _Optional[int] = ...) -> None: ...

class QueryTokensRequest(_message.Message):
    __slots__ = ("keyring", "associated_data", "values", "column")
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATED_DATA_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    keyring: str
    associated_data: bytes
    values: ValueBatch
    column: ColumnBatch
    def __init__(self, keyring: _Optional[str] = ..., associated_data: _Optional[bytes] = ..., values: _Optional[_Union[ValueBatch, _Mapping]] = ..., column: _Optional[_Union[ColumnBatch, _Mapping]] = ...) -> None: ...

class KeyTokens(_message.Message):
    __slots__ = ("key_id", "generation", "values", "column")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    generation: int
    values: ValueBatch
    column: ColumnBatch
    def __init__(self, key_id: _Optional[str] = ..., generation: _Optional[int] = ..., values: _Optional[_Union[ValueBatch, _Mapping]] = ..., column: _Optional[_Union[ColumnBatch, _Mapping]] = ...) -> None: ...

class QueryTokensResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[KeyTokens]
    def __init__(self, tokens: _Optional[_Iterable[_Union[KeyTokens, _Mapping]]] = ...) -> None: ...
