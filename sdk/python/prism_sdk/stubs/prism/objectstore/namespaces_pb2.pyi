from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeletePrefixRequest(_message.Message):
    __slots__ = ("namespace", "bucket", "prefix")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    bucket: str
    prefix: str
    def __init__(self, namespace: _Optional[str] = ..., bucket: _Optional[str] = ..., prefix: _Optional[str] = ...) -> None: ...

class DeletePrefixResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListExpiringRequest(_message.Message):
    __slots__ = ("namespace", "within_seconds", "max_results", "continuation_token")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WITHIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    within_seconds: int
    max_results: int
    continuation_token: str
    def __init__(self, namespace: _Optional[str] = ..., within_seconds: _Optional[int] = ..., max_results: _Optional[int] = ..., continuation_token: _Optional[str] = ...) -> None: ...

class ExpiringObject(_message.Message):
    __slots__ = ("bucket", "key", "size_bytes", "expires_at")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: str
    size_bytes: int
    expires_at: int
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[str] = ..., size_bytes: _Optional[int] = ..., expires_at: _Optional[int] = ...) -> None: ...

class ListExpiringResponse(_message.Message):
    __slots__ = ("objects", "continuation_token")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[ExpiringObject]
    continuation_token: str
    def __init__(self, objects: _Optional[_Iterable[_Union[ExpiringObject, _Mapping]]] = ..., continuation_token: _Optional[str] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("objects", "size_bytes")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    objects: int
    size_bytes: int
    def __init__(self, objects: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...
