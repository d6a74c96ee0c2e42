"""S3's operations on buckets, and the listing of what is in them.

The buckets of a key's namespace are all that the key can see. A page of a listing may be short, even empty, while
`IsTruncated` is true; clients of S3 follow its token. Owners are namespaces: the owner's id is the namespace's name.
"""

from datetime import UTC, datetime

from ..errors import ErrorCode, PrismError
from ..model import ListPage, ObjectInfo
from .http_exchange import Reply
from .s3_body import read_document
from .s3_exchange import S3Request, invalid, xml_reply
from .s3_parameters import Encode, encoding_of, number_of
from .s3_xml import element, instant, read

__all__ = [
    "create_bucket",
    "delete_bucket",
    "get_bucket_location",
    "head_bucket",
    "list_buckets",
    "list_objects",
    "list_objects_v2",
]

_PAGE = 1000
_BUCKETS = 10_000
_EMPTY_PAGES = 16
_CREATED = instant(datetime(1970, 1, 1, tzinfo=UTC))
"""Clients need a date of creation; Prism keeps none that it tells."""


async def list_buckets(request: S3Request) -> Reply:
    """ListBuckets, with prefix, max-buckets and continuation-token."""
    names = sorted(await request.services.objects.list_buckets(request.caller, request.namespace))
    after, prefix = request.query.get("continuation-token", ""), request.query.get("prefix", "")
    limit = number_of(request, "max-buckets", _BUCKETS, least=1)
    if request.query.get("bucket-region", _region(request)) != _region(request):
        names = []
    names = [name for name in names if name > after and name.startswith(prefix)]
    shown = [f"<Bucket>{element('Name', name)}{element('CreationDate', _CREATED)}</Bucket>" for name in names[:limit]]
    parts = [_owner(request), f"<Buckets>{''.join(shown)}</Buckets>"]
    if len(names) > limit:
        parts.append(element("ContinuationToken", names[limit - 1]))
    if prefix:
        parts.append(element("Prefix", prefix))
    return xml_reply("ListAllMyBucketsResult", parts)


async def head_bucket(request: S3Request) -> Reply:
    """HeadBucket."""
    await request.services.objects.head_bucket(request.caller, request.namespace, request.bucket)
    return Reply(200, [(b"x-amz-bucket-region", _region(request).encode())])


async def get_bucket_location(request: S3Request) -> Reply:
    """GetBucketLocation; the first region has no name, as ever."""
    await request.services.objects.head_bucket(request.caller, request.namespace, request.bucket)
    region = _region(request)
    return xml_reply("LocationConstraint", [] if region == "us-east-1" else [region])


async def create_bucket(request: S3Request) -> Reply:
    """CreateBucket; a LocationConstraint, if any, is the server's region."""
    if request.headers.get("x-amz-acl", "private") != "private":
        raise PrismError(ErrorCode.UNIMPLEMENTED, "access control lists are not implemented")
    if request.headers.get("x-amz-bucket-object-lock-enabled", "false").lower() != "false":
        raise PrismError(ErrorCode.UNIMPLEMENTED, "object lock is not implemented")
    body = await read_document(request)
    if body:
        constraint = read(body, "CreateBucketConfiguration").value("LocationConstraint")
        if (constraint or _region(request)) != _region(request):
            raise invalid("InvalidLocationConstraint", f"buckets here are in the region {_region(request)}")
    await request.services.objects.create_bucket(request.caller, request.namespace, request.bucket)
    return Reply(200, [(b"location", f"/{request.bucket}".encode())])


async def delete_bucket(request: S3Request) -> Reply:
    """DeleteBucket."""
    await request.services.objects.delete_bucket(request.caller, request.namespace, request.bucket)
    return Reply(204, [])


async def list_objects_v2(request: S3Request) -> Reply:
    """ListObjectsV2."""
    query = request.query
    if query["list-type"] != "2":
        raise invalid("InvalidArgument", "list-type is 2")
    token, start_after = query.get("continuation-token"), query.get("start-after", "")
    if token == "":
        raise invalid("InvalidArgument", "the continuation token is empty")
    limit = number_of(request, "max-keys", _PAGE)
    page = await _page(request, limit, token or "", start_after)
    encode = encoding_of(request)
    owner = _owner(request) if query.get("fetch-owner") == "true" else ""
    parts = [*_head(request, limit, page, encode), element("KeyCount", len(page.objects) + len(page.common_prefixes))]
    if token is not None:
        parts.append(element("ContinuationToken", token))
    if start_after:
        parts.append(element("StartAfter", encode(start_after)))
    if page.next_token is not None:
        parts.append(element("NextContinuationToken", page.next_token))
    return xml_reply("ListBucketResult", [*parts, *_contents(page, encode, owner)])


async def list_objects(request: S3Request) -> Reply:
    """ListObjects, the first version: its next page begins after a key, so a page is never empty but at the end."""
    limit = number_of(request, "max-keys", _PAGE)
    marker, encode = request.query.get("marker", ""), encoding_of(request)
    page = await _page(request, limit, "", marker)
    for _ in range(_EMPTY_PAGES):
        if page.objects or page.common_prefixes or page.next_token is None:
            break
        page = await _page(request, limit, page.next_token, "")
    last = max([info.key for info in page.objects[-1:]] + list(page.common_prefixes[-1:]), key=str.encode, default="")
    if page.next_token is not None and not last:
        raise PrismError(ErrorCode.RATE_LIMITED, "uploads under this prefix keep arriving; try again")
    parts = [*_head(request, limit, page, encode), element("Marker", encode(marker))]
    if page.next_token is not None:
        parts.append(element("NextMarker", encode(last)))
    return xml_reply("ListBucketResult", [*parts, *_contents(page, encode, _owner(request))])


async def _page(request: S3Request, limit: int, token: str, start_after: str) -> ListPage:
    objects, query = request.services.objects, request.query
    if limit == 0:
        await objects.head_bucket(request.caller, request.namespace, request.bucket)
        return ListPage(objects=(), common_prefixes=(), next_token=None)
    return await objects.list(
        request.caller,
        request.namespace,
        request.bucket,
        query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        max_results=limit,
        token=token,
        start_after=start_after,
    )


def _head(request: S3Request, limit: int, page: ListPage, encode: Encode) -> list[str]:
    query = request.query
    parts = [
        element("Name", request.bucket),
        element("Prefix", encode(query.get("prefix", ""))),
        element("MaxKeys", limit),
        element("IsTruncated", "false" if page.next_token is None else "true"),
    ]
    if query.get("delimiter"):
        parts.append(element("Delimiter", encode(query["delimiter"])))
    if "encoding-type" in query:
        parts.append(element("EncodingType", "url"))
    return parts


def _contents(page: ListPage, encode: Encode, owner: str) -> list[str]:
    prefixes = [f"<CommonPrefixes>{element('Prefix', encode(p))}</CommonPrefixes>" for p in page.common_prefixes]
    return [_entry(info, encode, owner) for info in page.objects] + prefixes


def _entry(info: ObjectInfo, encode: Encode, owner: str) -> str:
    return (
        f"<Contents>{element('Key', encode(info.key))}"
        f"<LastModified>{instant(info.last_modified)}</LastModified><ETag>&quot;{info.etag}&quot;</ETag>"
        f"<Size>{info.size_bytes}</Size><StorageClass>STANDARD</StorageClass>{owner}</Contents>"
    )


def _region(request: S3Request) -> str:
    return request.services.config.server.s3_region


def _owner(request: S3Request) -> str:
    return f"<Owner>{element('ID', request.namespace)}{element('DisplayName', request.namespace)}</Owner>"
