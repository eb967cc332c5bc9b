from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_rows", "max_value_bytes", "max_associated_data_bytes")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_ASSOCIATED_DATA_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_rows: int
    max_value_bytes: int
    max_associated_data_bytes: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_rows: _Optional[int] = ..., max_value_bytes: _Optional[int] = ..., max_associated_data_bytes: _Optional[int] = ...) -> None: ...

class Suite(_message.Message):
    __slots__ = ("id", "name", "overhead_bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    overhead_bytes: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., overhead_bytes: _Optional[int] = ...) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "limits", "suites", "kms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SUITES_FIELD_NUMBER: _ClassVar[int]
    KMS_FIELD_NUMBER: _ClassVar[int]
    version: str
    limits: Limits
    suites: _containers.RepeatedCompositeFieldContainer[Suite]
    kms: str
    def __init__(self, version: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., suites: _Optional[_Iterable[_Union[Suite, _Mapping]]] = ..., kms: _Optional[str] = ...) -> None: ...
