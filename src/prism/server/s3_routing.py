"""Which of S3's operations a request is: by method, by what its path names, and by the query that marks a sub-resource.

Everything that S3 knows has a name here, so that what Prism does not do is answered NotImplemented by that name and is
never mistaken for something else. `tests/` enumerate the table.
"""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from ..errors import PrismError
from ..model import Action
from . import s3_buckets as buckets
from . import s3_multipart as multipart
from . import s3_objects as objects
from .http_exchange import Reply
from .s3_exchange import S3Request, invalid, unimplemented

__all__ = ["COPIES", "OPERATIONS", "Operation", "find"]

Handler = Callable[[S3Request], Awaitable[Reply | None]]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation and the action that the decision function is asked for. `moves_bytes`: a transfer, bounded by its
    pace and `limits.max_transfer_seconds` instead of `limits.request_seconds`."""

    name: str
    action: Action
    handler: Handler
    moves_bytes: bool = False


def _operation(name: str, action: Action, handler: Handler, *, moves_bytes: bool = False) -> Operation:
    return Operation(name=name, action=action, handler=handler, moves_bytes=moves_bytes)


OPERATIONS: Mapping[tuple[str, str, str], Operation] = {
    ("service", "GET", ""): _operation("ListBuckets", Action.LIST_BUCKETS, buckets.list_buckets),
    ("bucket", "GET", ""): _operation("ListObjects", Action.LIST, buckets.list_objects),
    ("bucket", "GET", "list-type"): _operation("ListObjectsV2", Action.LIST, buckets.list_objects_v2),
    ("bucket", "GET", "location"): _operation("GetBucketLocation", Action.HEAD_BUCKET, buckets.get_bucket_location),
    ("bucket", "HEAD", ""): _operation("HeadBucket", Action.HEAD_BUCKET, buckets.head_bucket),
    ("bucket", "PUT", ""): _operation("CreateBucket", Action.CREATE_BUCKET, buckets.create_bucket),
    ("bucket", "DELETE", ""): _operation("DeleteBucket", Action.DELETE_BUCKET, buckets.delete_bucket),
    ("bucket", "POST", "delete"): _operation("DeleteObjects", Action.DELETE, objects.delete_objects),
    ("object", "GET", ""): _operation("GetObject", Action.GET, objects.get_object, moves_bytes=True),
    ("object", "HEAD", ""): _operation("HeadObject", Action.HEAD, objects.head_object),
    ("object", "PUT", ""): _operation("PutObject", Action.PUT, objects.put_object, moves_bytes=True),
    ("object", "DELETE", ""): _operation("DeleteObject", Action.DELETE, objects.delete_object),
    ("object", "POST", "uploads"): _operation(
        "CreateMultipartUpload", Action.CREATE_UPLOAD, multipart.create_multipart_upload
    ),
    ("object", "PUT", "uploadId"): _operation("UploadPart", Action.PUT_PART, multipart.upload_part, moves_bytes=True),
    ("object", "GET", "uploadId"): _operation("ListParts", Action.READ_UPLOAD, multipart.list_parts),
    ("object", "POST", "uploadId"): _operation(
        "CompleteMultipartUpload", Action.COMPLETE_UPLOAD, multipart.complete_multipart_upload, moves_bytes=True
    ),
    ("object", "DELETE", "uploadId"): _operation(
        "AbortMultipartUpload", Action.ABORT_UPLOAD, multipart.abort_multipart_upload
    ),
    ("bucket", "GET", "uploads"): _operation(
        "ListMultipartUploads", Action.LIST_UPLOADS, multipart.list_multipart_uploads
    ),
}
COPIES: Mapping[str, Operation] = {
    "PutObject": _operation("CopyObject", Action.PUT, objects.copy_object, moves_bytes=True),
    "UploadPart": _operation("UploadPartCopy", Action.PUT_PART, multipart.upload_part_copy, moves_bytes=True),
}
"""What a write is instead when its bytes are to come from an object (`x-amz-copy-source`)."""

_NAMES: Mapping[str, str] = {
    "accelerate": "AccelerateConfiguration",
    "acl": "Acl",
    "analytics": "AnalyticsConfiguration",
    "attributes": "Attributes",
    "cors": "Cors",
    "delete": "Objects",
    "encryption": "Encryption",
    "intelligent-tiering": "IntelligentTieringConfiguration",
    "inventory": "InventoryConfiguration",
    "legal-hold": "LegalHold",
    "lifecycle": "Lifecycle",
    "list-type": "Objects",
    "location": "Location",
    "logging": "Logging",
    "metadataConfiguration": "MetadataConfiguration",
    "metadataTable": "MetadataTableConfiguration",
    "metrics": "MetricsConfiguration",
    "notification": "Notification",
    "object-lock": "LockConfiguration",
    "ownershipControls": "OwnershipControls",
    "partNumber": "Part",
    "policy": "Policy",
    "policyStatus": "PolicyStatus",
    "publicAccessBlock": "PublicAccessBlock",
    "renameObject": "Rename",
    "replication": "Replication",
    "requestPayment": "RequestPayment",
    "restore": "Restore",
    "retention": "Retention",
    "select": "SelectContent",
    "session": "Session",
    "tagging": "Tagging",
    "torrent": "Torrent",
    "uploadId": "Upload",
    "uploads": "Uploads",
    "versionId": "Version",
    "versioning": "Versioning",
    "versions": "Versions",
    "website": "Website",
}
_OWN_NAMES: Mapping[tuple[str, str, str], str] = {
    ("bucket", "GET", "versions"): "ListObjectVersions",
    ("bucket", "POST", ""): "PostObject",
}
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})


def find(request: S3Request) -> Operation | PrismError:
    """The operation, or the error that its caller is told once he has shown who he is."""
    level = "object" if request.key else "bucket" if request.bucket else "service"
    marked = [name for name in request.query if name in _NAMES]
    if "uploadId" in marked:
        marked = ["uploadId"]
    if len(marked) > 1:
        return invalid("InvalidArgument", f"the query asks for several things: {', '.join(marked)}")
    mark = marked[0] if marked else ""
    found = OPERATIONS.get((level, request.method, mark))
    if found is not None:
        return COPIES.get(found.name, found) if "x-amz-copy-source" in request.headers else found
    name = _OWN_NAMES.get((level, request.method, mark))
    if name is None and mark and request.method in _METHODS:
        name = f"{request.method.capitalize()}{level.capitalize()}{_NAMES[mark]}"
    if name is not None:
        return unimplemented(name)
    return invalid("MethodNotAllowed", f"{request.method[:20]} is not for this resource")
