from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PutObjectRequest(_message.Message):
    __slots__ = ("namespace", "bucket", "key", "metadata", "content_type", "ttl_seconds", "chunk", "no_expiration", "if_match", "if_none_match", "size_bytes", "checksum_sha256", "checksum_crc32c")
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
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    NO_EXPIRATION_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    IF_NONE_MATCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_SHA256_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_CRC32C_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    bucket: str
    key: str
    metadata: _containers.ScalarMap[str, str]
    content_type: str
    ttl_seconds: int
    chunk: bytes
    no_expiration: bool
    if_match: _containers.RepeatedScalarFieldContainer[str]
    if_none_match: _containers.RepeatedScalarFieldContainer[str]
    size_bytes: int
    checksum_sha256: str
    checksum_crc32c: str
    def __init__(self, namespace: _Optional[str] = ..., bucket: _Optional[str] = ..., key: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., content_type: _Optional[str] = ..., ttl_seconds: _Optional[int] = ..., chunk: _Optional[bytes] = ..., no_expiration: _Optional[bool] = ..., if_match: _Optional[_Iterable[str]] = ..., if_none_match: _Optional[_Iterable[str]] = ..., size_bytes: _Optional[int] = ..., checksum_sha256: _Optional[str] = ..., checksum_crc32c: _Optional[str] = ...) -> None: ...

class PutObjectResponse(_message.Message):
    __slots__ = ("object_id", "etag", "size_bytes", "version_id", "expires_at", "checksum_crc32c")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_CRC32C_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    etag: str
    size_bytes: int
    version_id: str
    expires_at: int
    checksum_crc32c: str
    def __init__(self, object_id: _Optional[str] = ..., etag: _Optional[str] = ..., size_bytes: _Optional[int] = ..., version_id: _Optional[str] = ..., expires_at: _Optional[int] = ..., checksum_crc32c: _Optional[str] = ...) -> None: ...

class GetObjectRequest(_message.Message):
    __slots__ = ("namespace", "bucket", "key", "range_start", "range_end", "if_match")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_START_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    bucket: str
    key: str
    range_start: int
    range_end: int
    if_match: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., bucket: _Optional[str] = ..., key: _Optional[str] = ..., range_start: _Optional[int] = ..., range_end: _Optional[int] = ..., if_match: _Optional[_Iterable[str]] = ...) -> None: ...

class GetObjectResponse(_message.Message):
    __slots__ = ("content_type", "size_bytes", "metadata", "etag", "chunk", "last_modified", "expires_at", "checksum_crc32c", "version_id")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_CRC32C_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    size_bytes: int
    metadata: _containers.ScalarMap[str, str]
    etag: str
    chunk: bytes
    last_modified: int
    expires_at: int
    checksum_crc32c: str
    version_id: str
    def __init__(self, content_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., etag: _Optional[str] = ..., chunk: _Optional[bytes] = ..., last_modified: _Optional[int] = ..., expires_at: _Optional[int] = ..., checksum_crc32c: _Optional[str] = ..., version_id: _Optional[str] = ...) -> None: ...

class DeleteObjectRequest(_message.Message):
    __slots__ = ("namespace", "bucket", "key", "if_match")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    bucket: str
    key: str
    if_match: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., bucket: _Optional[str] = ..., key: _Optional[str] = ..., if_match: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteObjectResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    def __init__(self, deleted: _Optional[bool] = ...) -> None: ...

class ListObjectsRequest(_message.Message):
    __slots__ = ("namespace", "bucket", "prefix", "max_results", "continuation_token", "delimiter", "start_after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DELIMITER_FIELD_NUMBER: _ClassVar[int]
    START_AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    bucket: str
    prefix: str
    max_results: int
    continuation_token: str
    delimiter: str
    start_after: str
    def __init__(self, namespace: _Optional[str] = ..., bucket: _Optional[str] = ..., prefix: _Optional[str] = ..., max_results: _Optional[int] = ..., continuation_token: _Optional[str] = ..., delimiter: _Optional[str] = ..., start_after: _Optional[str] = ...) -> None: ...

class ListObjectsResponse(_message.Message):
    __slots__ = ("objects", "continuation_token", "is_truncated", "common_prefixes")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    IS_TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    COMMON_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[ObjectMetadata]
    continuation_token: str
    is_truncated: bool
    common_prefixes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, objects: _Optional[_Iterable[_Union[ObjectMetadata, _Mapping]]] = ..., continuation_token: _Optional[str] = ..., is_truncated: _Optional[bool] = ..., common_prefixes: _Optional[_Iterable[str]] = ...) -> None: ...

class ObjectMetadata(_message.Message):
    __slots__ = ("key", "size_bytes", "etag", "last_modified", "content_type", "expires_at")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    key: str
    size_bytes: int
    etag: str
    last_modified: int
    content_type: str
    expires_at: int
    def __init__(self, key: _Optional[str] = ..., size_bytes: _Optional[int] = ..., etag: _Optional[str] = ..., last_modified: _Optional[int] = ..., content_type: _Optional[str] = ..., expires_at: _Optional[int] = ...) -> None: ...

class HeadObjectRequest(_message.Message):
    __slots__ = ("namespace", "bucket", "key")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    bucket: str
    key: str
    def __init__(self, namespace: _Optional[str] = ..., bucket: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class HeadObjectResponse(_message.Message):
    __slots__ = ("content_type", "size_bytes", "metadata", "etag", "last_modified", "expires_at", "version_id", "checksum_crc32c")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_CRC32C_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    size_bytes: int
    metadata: _containers.ScalarMap[str, str]
    etag: str
    last_modified: int
    expires_at: int
    version_id: str
    checksum_crc32c: str
    def __init__(self, content_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., etag: _Optional[str] = ..., last_modified: _Optional[int] = ..., expires_at: _Optional[int] = ..., version_id: _Optional[str] = ..., checksum_crc32c: _Optional[str] = ...) -> None: ...

class PresignedURLRequest(_message.Message):
    __slots__ = ("namespace", "bucket", "key", "method", "expires_in_seconds", "content_type")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    bucket: str
    key: str
    method: str
    expires_in_seconds: int
    content_type: str
    def __init__(self, namespace: _Optional[str] = ..., bucket: _Optional[str] = ..., key: _Optional[str] = ..., method: _Optional[str] = ..., expires_in_seconds: _Optional[int] = ..., content_type: _Optional[str] = ...) -> None: ...

class PresignedURLResponse(_message.Message):
    __slots__ = ("url", "expires_at", "headers")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    url: str
    expires_at: int
    headers: _containers.ScalarMap[str, str]
    def __init__(self, url: _Optional[str] = ..., expires_at: _Optional[int] = ..., headers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CopyObjectRequest(_message.Message):
    __slots__ = ("source_namespace", "source_bucket", "source_key", "destination_namespace", "destination_bucket", "destination_key", "ttl_seconds", "no_expiration", "if_match", "if_none_match", "source_if_match")
    SOURCE_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_BUCKET_FIELD_NUMBER: _ClassVar[int]
    SOURCE_KEY_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_BUCKET_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_KEY_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NO_EXPIRATION_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    IF_NONE_MATCH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    source_namespace: str
    source_bucket: str
    source_key: str
    destination_namespace: str
    destination_bucket: str
    destination_key: str
    ttl_seconds: int
    no_expiration: bool
    if_match: _containers.RepeatedScalarFieldContainer[str]
    if_none_match: _containers.RepeatedScalarFieldContainer[str]
    source_if_match: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source_namespace: _Optional[str] = ..., source_bucket: _Optional[str] = ..., source_key: _Optional[str] = ..., destination_namespace: _Optional[str] = ..., destination_bucket: _Optional[str] = ..., destination_key: _Optional[str] = ..., ttl_seconds: _Optional[int] = ..., no_expiration: _Optional[bool] = ..., if_match: _Optional[_Iterable[str]] = ..., if_none_match: _Optional[_Iterable[str]] = ..., source_if_match: _Optional[_Iterable[str]] = ...) -> None: ...

class CopyObjectResponse(_message.Message):
    __slots__ = ("object_id", "etag", "size_bytes", "version_id", "expires_at")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    etag: str
    size_bytes: int
    version_id: str
    expires_at: int
    def __init__(self, object_id: _Optional[str] = ..., etag: _Optional[str] = ..., size_bytes: _Optional[int] = ..., version_id: _Optional[str] = ..., expires_at: _Optional[int] = ...) -> None: ...
