"""What concerns many objects or a whole namespace over HTTP: lists, folders, copies, signed URLs, expiry, usage.

Each route is typed values in, one call of a service, typed values out.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from ..errors import ErrorCode, PrismError
from ..lifecycle import parse_duration
from ..model import Action, CopyOptions, ObjectInfo, ObjectRef, Precondition, PutOptions
from .http_exchange import Reply, Request, json_reply
from .http_objects import DeleteReply, PutReply, put_reply
from .http_routing import Answer, NoQuery, Route

__all__ = ["ROUTES"]

MaxResults = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1, description="At most so many; 0 and above 1000: 1000")]
Token = Annotated[str, msgspec.Meta(description="`next_token` of the page before")]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=3_155_760_000)]


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of typed queries and bodies."""


class ListQuery(Query, frozen=True, kw_only=True):
    """Which objects to list."""

    bucket: str = ""
    prefix: str = ""
    delimiter: str = ""
    max_results: MaxResults = 0
    token: Token = ""
    start_after: str = ""


class FolderQuery(Query, frozen=True, kw_only=True):
    """Which folder to delete."""

    prefix: Annotated[str, msgspec.Meta(description="Ends in `/`")]
    bucket: str = ""


class ExpiringQuery(Query, frozen=True, kw_only=True):
    """How far to look ahead."""

    within: Annotated[str, msgspec.Meta(description="`90s`, `15m`, `12h`, `7d`, `2w`, or seconds")]
    max_results: MaxResults = 0
    token: Token = ""


class CopyRequest(Query, frozen=True, kw_only=True):
    """A copy into the namespace of the path. Etags stand without quotes; `*` means any."""

    source_key: str
    destination_key: str
    source_namespace: str = ""
    source_bucket: str = ""
    destination_bucket: str = ""
    ttl_seconds: Seconds | None = None
    no_expiration: bool = False
    content_type: str | None = None
    metadata: dict[str, str] | None = None
    if_match: list[str] | None = None
    if_none_match: list[str] | None = None
    source_if_match: list[str] | None = None


class PresignRequest(Query, frozen=True, kw_only=True):
    """A URL for one method and key. Content type, lifetime and metadata are for PUT, `response_…` for GET."""

    key: str
    bucket: str = ""
    method: str = "GET"
    expires_in_seconds: Annotated[int, msgspec.Meta(description="1 to 3600; 0 means 3600")] = 0
    content_type: str = ""
    ttl_seconds: Seconds | None = None
    no_expiration: bool = False
    metadata: dict[str, str] = {}
    response_content_type: str | None = None
    response_content_disposition: str | None = None


class ObjectSummary(msgspec.Struct, frozen=True):
    """One listed object."""

    key: str
    size_bytes: int
    etag: str
    last_modified: datetime
    content_type: str
    expires_at: datetime | None


class ListReply(msgspec.Struct, frozen=True):
    """One page in byte order; it may be short, even empty, while `next_token` is not null."""

    objects: list[ObjectSummary]
    common_prefixes: Sequence[str]
    next_token: str | None


class ExpiringSummary(msgspec.Struct, frozen=True):
    """An object that expires soon."""

    bucket: str
    key: str
    size_bytes: int
    expires_at: datetime


class ExpiringReply(msgspec.Struct, frozen=True):
    """Soonest first."""

    objects: list[ExpiringSummary]
    next_token: str | None


class PresignReply(msgspec.Struct, frozen=True):
    """`headers` must be sent as they stand here."""

    url: str
    method: str
    expires_at: datetime
    headers: dict[str, str]


class UsageReply(msgspec.Struct, frozen=True):
    """What the namespace holds, kept versions included."""

    namespace: str
    objects: int
    size_bytes: int


class NamespacesReply(msgspec.Struct, frozen=True):
    """The namespaces that the caller may see, sorted."""

    namespaces: Sequence[str]


class BucketsReply(msgspec.Struct, frozen=True):
    """The namespace's own bucket first, then sorted."""

    buckets: Sequence[str]


class BucketReply(msgspec.Struct, frozen=True):
    """A bucket."""

    bucket: str


async def _namespaces(request: Request) -> Reply:
    request.parameters(NoQuery)
    return json_reply(NamespacesReply(await request.services.objects.namespaces(request.caller)))


async def _list(request: Request) -> Reply:
    query = request.parameters(ListQuery)
    page = await request.services.objects.list(
        request.caller,
        request.namespace,
        query.bucket,
        query.prefix,
        delimiter=query.delimiter,
        max_results=query.max_results,
        token=query.token,
        start_after=query.start_after,
    )
    return json_reply(ListReply([_summary(info) for info in page.objects], page.common_prefixes, page.next_token))


def _summary(info: ObjectInfo) -> ObjectSummary:
    return ObjectSummary(info.key, info.size_bytes, info.etag, info.last_modified, info.content_type, info.expires_at)


async def _delete_folder(request: Request) -> Reply:
    query = request.parameters(FolderQuery)
    await request.services.objects.delete_prefix(request.caller, request.namespace, query.bucket, query.prefix)
    return json_reply(DeleteReply(True))


async def _copy(request: Request) -> Reply:
    request.parameters(NoQuery)
    wanted = await request.json(CopyRequest)
    source = ObjectRef(wanted.source_namespace or request.namespace, wanted.source_bucket, wanted.source_key)
    destination = ObjectRef(request.namespace, wanted.destination_bucket, wanted.destination_key)
    options = CopyOptions(
        ttl=_lifetime(wanted.ttl_seconds),
        no_expiration=wanted.no_expiration,
        content_type=wanted.content_type,
        metadata=wanted.metadata,
        precondition=Precondition(if_match=_tags(wanted.if_match), if_none_match=_tags(wanted.if_none_match)),
        source_if_match=_tags(wanted.source_if_match),
    )
    return put_reply(await request.services.objects.copy(request.caller, source, destination, options))


def _lifetime(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _tags(etags: list[str] | None) -> tuple[str, ...] | None:
    return None if etags is None else tuple(etags)


async def _presign(request: Request) -> Reply:
    request.parameters(NoQuery)
    wanted = await request.json(PresignRequest)
    _check_method(wanted)
    signed = await request.services.uploads.presign(
        request.caller,
        ObjectRef(request.namespace, wanted.bucket, wanted.key),
        wanted.method,
        timedelta(seconds=max(-1, min(wanted.expires_in_seconds, 86_400))),
        options=_put_options(wanted) if wanted.method == "PUT" else None,
        response_content_type=wanted.response_content_type,
        response_content_disposition=wanted.response_content_disposition,
    )
    return json_reply(PresignReply(signed.url, signed.method, signed.expires_at, dict(signed.headers)))


def _put_options(wanted: PresignRequest) -> PutOptions:
    return PutOptions(
        content_type=wanted.content_type,
        metadata=wanted.metadata,
        ttl=_lifetime(wanted.ttl_seconds),
        no_expiration=wanted.no_expiration,
    )


def _check_method(wanted: PresignRequest) -> None:
    """Refuse what the method would ignore."""
    for_put = wanted.content_type or wanted.metadata or wanted.no_expiration or wanted.ttl_seconds is not None
    if for_put and wanted.method != "PUT":
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT, "content_type, metadata, ttl_seconds and no_expiration go with method PUT only"
        )
    if (wanted.response_content_type or wanted.response_content_disposition) and wanted.method != "GET":
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT, "response_content_type and response_content_disposition go with method GET only"
        )


async def _expiring(request: Request) -> Reply:
    query = request.parameters(ExpiringQuery)
    page = await request.services.objects.expiring(
        request.caller,
        request.namespace,
        parse_duration(query.within),
        max_results=query.max_results,
        token=query.token,
    )
    found = [ExpiringSummary(one.bucket, one.key, one.size_bytes, one.expires_at) for one in page.objects]
    return json_reply(ExpiringReply(found, page.next_token))


async def _usage(request: Request) -> Reply:
    request.parameters(NoQuery)
    held = await request.services.objects.usage(request.caller, request.namespace)
    return json_reply(UsageReply(held.namespace, held.objects, held.size_bytes))


async def _buckets(request: Request) -> Reply:
    request.parameters(NoQuery)
    return json_reply(BucketsReply(await request.services.objects.list_buckets(request.caller, request.namespace)))


async def _head_bucket(request: Request) -> Reply:
    request.parameters(NoQuery)
    await request.services.objects.head_bucket(request.caller, request.namespace, request.tail)
    return Reply(200, [])


async def _create_bucket(request: Request) -> Reply:
    request.parameters(NoQuery)
    await request.services.objects.create_bucket(request.caller, request.namespace, request.tail)
    return json_reply(BucketReply(request.tail), 201)


async def _delete_bucket(request: Request) -> Reply:
    request.parameters(NoQuery)
    await request.services.objects.delete_bucket(request.caller, request.namespace, request.tail)
    return json_reply(DeleteReply(True))


_IN = "/v1/namespaces/{namespace}"

ROUTES = (
    Route(
        method="GET",
        path="/v1/namespaces",
        name="listNamespaces",
        summary="The namespaces that the caller may see",
        tag="namespaces",
        handler=_namespaces,
        actions=(Action.LIST_NAMESPACES,),
        answers=(Answer(200, "Their names", NamespacesReply),),
    ),
    Route(
        method="GET",
        path=f"{_IN}/objects",
        name="listObjects",
        summary="One page of a bucket's objects, in byte order",
        tag="objects",
        handler=_list,
        actions=(Action.LIST,),
        query=ListQuery,
        answers=(Answer(200, "The page", ListReply),),
    ),
    Route(
        method="DELETE",
        path=f"{_IN}/objects",
        name="deleteFolder",
        summary="Delete everything below a prefix that ends in `/`, at once",
        tag="objects",
        handler=_delete_folder,
        actions=(Action.DELETE_PREFIX,),
        query=FolderQuery,
        answers=(Answer(200, "Nothing of it is there any more", DeleteReply),),
    ),
    Route(
        method="POST",
        path=f"{_IN}/copy",
        name="copyObject",
        summary="Copy an object into this namespace",
        tag="objects",
        handler=_copy,
        actions=(Action.PUT, Action.COPY_SOURCE),
        body=CopyRequest,
        answers=(Answer(200, "Copied, durably", PutReply),),
        moves_bytes=True,
    ),
    Route(
        method="POST",
        path=f"{_IN}/presign",
        name="presign",
        summary="A URL that lets its holder transfer one object",
        tag="objects",
        handler=_presign,
        actions=(Action.PRESIGN_GET, Action.PRESIGN_PUT, Action.PRESIGN_DELETE),
        body=PresignRequest,
        answers=(Answer(200, "The URL", PresignReply),),
    ),
    Route(
        method="GET",
        path=f"{_IN}/expiring",
        name="listExpiring",
        summary="Objects that expire within a window, soonest first",
        tag="namespaces",
        handler=_expiring,
        actions=(Action.LIST_EXPIRING,),
        query=ExpiringQuery,
        answers=(Answer(200, "The page", ExpiringReply),),
    ),
    Route(
        method="GET",
        path=f"{_IN}/usage",
        name="getUsage",
        summary="What the namespace holds",
        tag="namespaces",
        handler=_usage,
        actions=(Action.USAGE,),
        answers=(Answer(200, "The counters", UsageReply),),
    ),
    Route(
        method="GET",
        path=f"{_IN}/buckets",
        name="listBuckets",
        summary="The namespace's buckets",
        tag="buckets",
        handler=_buckets,
        actions=(Action.LIST_BUCKETS,),
        answers=(Answer(200, "Their names", BucketsReply),),
    ),
    Route(
        method="HEAD",
        path=f"{_IN}/buckets/{{bucket}}",
        name="headBucket",
        summary="Whether the bucket is there",
        tag="buckets",
        handler=_head_bucket,
        actions=(Action.HEAD_BUCKET,),
        answers=(Answer(200, "It is"),),
    ),
    Route(
        method="PUT",
        path=f"{_IN}/buckets/{{bucket}}",
        name="createBucket",
        summary="Create a bucket: 3 to 63 of a-z 0-9 . -",
        tag="buckets",
        handler=_create_bucket,
        actions=(Action.CREATE_BUCKET,),
        answers=(Answer(201, "Created", BucketReply),),
    ),
    Route(
        method="DELETE",
        path=f"{_IN}/buckets/{{bucket}}",
        name="deleteBucket",
        summary="Remove an empty bucket",
        tag="buckets",
        handler=_delete_bucket,
        actions=(Action.DELETE_BUCKET,),
        answers=(Answer(200, "Removed", DeleteReply),),
    ),
)
