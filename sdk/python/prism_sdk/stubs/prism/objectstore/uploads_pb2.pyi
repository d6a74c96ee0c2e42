from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateUploadRequest(_message.Message):
    __slots__ = ("namespace", "bucket", "key", "content_type", "metadata", "ttl_seconds", "no_expiration", "if_match", "if_none_match", "size_bytes", "checksum_sha256", "checksum_crc32c", "expires_in_seconds", "in_parts", "part_size_bytes")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NO_EXPIRATION_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    IF_NONE_MATCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_SHA256_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_CRC32C_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IN_PARTS_FIELD_NUMBER: _ClassVar[int]
    PART_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    bucket: str
    key: str
    content_type: str
    metadata: _containers.ScalarMap[str, str]
    ttl_seconds: int
    no_expiration: bool
    if_match: _containers.RepeatedScalarFieldContainer[str]
    if_none_match: _containers.RepeatedScalarFieldContainer[str]
    size_bytes: int
    checksum_sha256: str
    checksum_crc32c: str
    expires_in_seconds: int
    in_parts: bool
    part_size_bytes: int
    def __init__(self, namespace: _Optional[str] = ..., bucket: _Optional[str] = ..., key: _Optional[str] = ..., content_type: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., ttl_seconds: _Optional[int] = ..., no_expiration: _Optional[bool] = ..., if_match: _Optional[_Iterable[str]] = ..., if_none_match: _Optional[_Iterable[str]] = ..., size_bytes: _Optional[int] = ..., checksum_sha256: _Optional[str] = ..., checksum_crc32c: _Optional[str] = ..., expires_in_seconds: _Optional[int] = ..., in_parts: _Optional[bool] = ..., part_size_bytes: _Optional[int] = ...) -> None: ...

class NotBound(_message.Message):
    __slots__ = ("what", "checked_by")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    CHECKED_BY_FIELD_NUMBER: _ClassVar[int]
    what: str
    checked_by: str
    def __init__(self, what: _Optional[str] = ..., checked_by: _Optional[str] = ...) -> None: ...

class CreateUploadResponse(_message.Message):
    __slots__ = ("upload_id", "method", "url", "headers", "expires_at", "not_bound", "in_parts", "part_size_bytes", "parts")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    NOT_BOUND_FIELD_NUMBER: _ClassVar[int]
    IN_PARTS_FIELD_NUMBER: _ClassVar[int]
    PART_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    method: str
    url: str
    headers: _containers.ScalarMap[str, str]
    expires_at: int
    not_bound: _containers.RepeatedCompositeFieldContainer[NotBound]
    in_parts: bool
    part_size_bytes: int
    parts: int
    def __init__(self, upload_id: _Optional[str] = ..., method: _Optional[str] = ..., url: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., expires_at: _Optional[int] = ..., not_bound: _Optional[_Iterable[_Union[NotBound, _Mapping]]] = ..., in_parts: _Optional[bool] = ..., part_size_bytes: _Optional[int] = ..., parts: _Optional[int] = ...) -> None: ...

class GetUploadRequest(_message.Message):
    __slots__ = ("upload_id",)
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    def __init__(self, upload_id: _Optional[str] = ...) -> None: ...

class UploadedPart(_message.Message):
    __slots__ = ("number", "etag", "size_bytes")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    number: int
    etag: str
    size_bytes: int
    def __init__(self, number: _Optional[int] = ..., etag: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class GetUploadResponse(_message.Message):
    __slots__ = ("state", "expires_at", "in_parts", "part_size_bytes", "parts", "size_bytes")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    IN_PARTS_FIELD_NUMBER: _ClassVar[int]
    PART_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    state: str
    expires_at: int
    in_parts: bool
    part_size_bytes: int
    parts: _containers.RepeatedCompositeFieldContainer[UploadedPart]
    size_bytes: int
    def __init__(self, state: _Optional[str] = ..., expires_at: _Optional[int] = ..., in_parts: _Optional[bool] = ..., part_size_bytes: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[UploadedPart, _Mapping]]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class SignPartsRequest(_message.Message):
    __slots__ = ("upload_id", "numbers", "expires_in_seconds")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    numbers: _containers.RepeatedScalarFieldContainer[int]
    expires_in_seconds: int
    def __init__(self, upload_id: _Optional[str] = ..., numbers: _Optional[_Iterable[int]] = ..., expires_in_seconds: _Optional[int] = ...) -> None: ...

class SignedPart(_message.Message):
    __slots__ = ("number", "method", "url", "headers", "size_bytes", "expires_at")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    number: int
    method: str
    url: str
    headers: _containers.ScalarMap[str, str]
    size_bytes: int
    expires_at: int
    def __init__(self, number: _Optional[int] = ..., method: _Optional[str] = ..., url: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., size_bytes: _Optional[int] = ..., expires_at: _Optional[int] = ...) -> None: ...

class SignPartsResponse(_message.Message):
    __slots__ = ("parts",)
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[SignedPart]
    def __init__(self, parts: _Optional[_Iterable[_Union[SignedPart, _Mapping]]] = ...) -> None: ...

class CompleteUploadRequest(_message.Message):
    __slots__ = ("upload_id", "checksum_sha256", "checksum_crc32c")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_SHA256_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_CRC32C_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    checksum_sha256: str
    checksum_crc32c: str
    def __init__(self, upload_id: _Optional[str] = ..., checksum_sha256: _Optional[str] = ..., checksum_crc32c: _Optional[str] = ...) -> None: ...

class CompleteUploadResponse(_message.Message):
    __slots__ = ("object_id", "etag", "size_bytes", "version_id", "checksum_crc32c", "expires_at")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_CRC32C_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    etag: str
    size_bytes: int
    version_id: str
    checksum_crc32c: str
    expires_at: int
    def __init__(self, object_id: _Optional[str] = ..., etag: _Optional[str] = ..., size_bytes: _Optional[int] = ..., version_id: _Optional[str] = ..., checksum_crc32c: _Optional[str] = ..., expires_at: _Optional[int] = ...) -> None: ...

class AbortUploadRequest(_message.Message):
    __slots__ = ("upload_id",)
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    def __init__(self, upload_id: _Optional[str] = ...) -> None: ...

class AbortUploadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
