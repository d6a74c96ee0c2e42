"""The bytes of single objects over HTTP: PUT, GET, HEAD, DELETE of `/v1/namespaces/{namespace}/objects/{key}`.

Headers become typed options on the way in and facts become headers on the way out; a header that begins with `Prism-`
and is not known is refused, because a misspelt lifetime must not become the default one. Small objects leave with their
headers in one piece, larger ones chunk by chunk as fast as their reader takes them.
"""

import re
from datetime import datetime, timedelta

import msgspec

from ..errors import ErrorCode, PrismError
from ..model import Action, Declared, ObjectInfo, ObjectRef, PutOptions
from .conditions import conditions_of, precondition_of
from .headers import (
    SANDBOX,
    Header,
    hex_of_base64,
    http_date,
    is_inert,
    parse_range,
    read_text,
    write_text,
)
from .http_exchange import Reply, Request, json_reply
from .http_routing import Answer, Parameter, Route
from .replying import send_object
from .transfer import incoming

__all__ = ["ROUTES", "DeleteReply", "PutReply", "put_reply"]

_META = b"prism-meta-"
_PUT_HEADERS = frozenset(
    {b"prism-ttl-seconds", b"prism-no-expiration", b"prism-checksum-sha256", b"prism-checksum-crc32c"}
)
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SECONDS = re.compile(r"[0-9]{1,12}\Z")


class ObjectQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bucket; the namespace's own unless given."""

    bucket: str = ""


class PutReply(msgspec.Struct, frozen=True):
    """What was stored. `etag` has no quotes here."""

    object_id: str
    namespace: str
    bucket: str
    key: str
    size_bytes: int
    etag: str
    version_id: str
    content_type: str
    last_modified: datetime
    expires_at: datetime | None
    checksum_crc32c: str | None
    checksum_sha256: str | None


class DeleteReply(msgspec.Struct, frozen=True):
    """Whether there was something to delete."""

    deleted: bool


def put_reply(info: ObjectInfo) -> Reply:
    """200 with the facts of a fresh object."""
    value = PutReply(
        info.object_id,
        info.namespace,
        info.bucket,
        info.key,
        info.size_bytes,
        info.etag,
        info.version_id,
        info.content_type,
        info.last_modified,
        info.expires_at,
        info.crc32c,
        info.sha256,
    )
    return json_reply(value, headers=[(b"etag", b'"%s"' % info.etag.encode())])


async def _put(request: Request) -> Reply:
    length = request.headers.get(b"content-length")
    options = _put_options(request, None if length is None else int(length))
    ref = _ref(request)
    info = await request.services.objects.put(
        request.caller, ref, incoming(request, options.declared.size_bytes), options
    )
    return put_reply(info)


def _put_options(request: Request, content_length: int | None) -> PutOptions:
    headers = request.headers
    for name in (b"content-range", b"content-encoding", b"if-unmodified-since"):
        if name in headers and headers[name].lower() != b"identity":
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"header {name.decode()} is not supported on PUT")
    ttl = request.text("prism-ttl-seconds")
    if ttl is not None and not _SECONDS.match(ttl):
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "header Prism-TTL-Seconds is a whole number of seconds")
    forever = request.text("prism-no-expiration")
    if forever not in {None, "true", "false"}:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "header Prism-No-Expiration is true or false")
    return PutOptions(
        content_type=request.text("content-type") or "",
        metadata=_metadata(request),
        ttl=None if ttl is None else timedelta(seconds=int(ttl)),
        no_expiration=forever == "true",
        precondition=precondition_of(request.headers),
        declared=_declared(request, content_length),
    )


def _metadata(request: Request) -> dict[str, str]:
    """The `Prism-Meta-` headers; refuses every other `Prism-` header that a put does not know."""
    found = {}
    for name, value in request.headers.items():
        if not name.startswith(b"prism-"):
            continue
        if name.startswith(_META):
            text = name.decode("latin-1")
            found[text[len(_META) :]] = read_text(text, value)
        elif name not in _PUT_HEADERS:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"header {name.decode('latin-1')[:80]} is not known here")
    return found


def _declared(request: Request, content_length: int | None) -> Declared:
    sha256, crc32c, md5 = (
        request.text(name) for name in ("prism-checksum-sha256", "prism-checksum-crc32c", "content-md5")
    )
    if sha256 is not None and not _SHA256.match(sha256.lower()):
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "header Prism-Checksum-SHA256 is 64 hexadecimal digits")
    if crc32c is not None:
        hex_of_base64("Prism-Checksum-CRC32C", crc32c, 4)
    return Declared(
        size_bytes=content_length,
        sha256=None if sha256 is None else sha256.lower(),
        crc32c=crc32c,
        md5=None if md5 is None else hex_of_base64("Content-MD5", md5, 16),
    )


async def _get(request: Request) -> Reply | None:
    ref, conditions = _ref(request), conditions_of(request.headers)
    wanted = parse_range(request.text("range"))
    objects = request.services.objects
    try:
        opened = await objects.get(request.caller, ref, wanted, conditions)
    except PrismError as error:
        # A suffix of an empty object is satisfiable, and no Content-Range can say so: serve the whole (section 14.1.2).
        empty = error.code is ErrorCode.RANGE_NOT_SATISFIABLE and error.context.get("size_bytes") == "0"
        if not (empty and wanted is not None and wanted.suffix):
            raise
        opened = await objects.get(request.caller, ref, None, conditions)
    try:
        return await send_object(request, opened, _object_headers(opened.info))
    finally:
        await opened.aclose()


async def _head(request: Request) -> Reply:
    info = await request.services.objects.head(request.caller, _ref(request), conditions_of(request.headers))
    return Reply(200, _object_headers(info), length=info.size_bytes)


async def _delete(request: Request) -> Reply:
    deleted = await request.services.objects.delete(request.caller, _ref(request), precondition_of(request.headers))
    return json_reply(DeleteReply(deleted))


def _ref(request: Request) -> ObjectRef:
    return ObjectRef(request.namespace, request.parameters(ObjectQuery).bucket, request.tail)


def _object_headers(info: ObjectInfo) -> list[Header]:
    """Everything that is known of an object but its length."""
    headers = [
        (b"content-type", info.content_type.encode()),
        (b"etag", b'"%s"' % info.etag.encode()),
        (b"last-modified", http_date(info.last_modified)),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"no-cache"),
        (b"prism-version-id", info.version_id.encode()),
    ]
    if not is_inert(info.content_type):
        headers.append(SANDBOX)
    if info.expires_at is not None:
        headers.append((b"prism-expires-at", _stamp(info.expires_at)))
    if info.crc32c is not None:
        headers.append((b"prism-checksum-crc32c", info.crc32c.encode()))
    if info.sha256 is not None:
        headers.append((b"prism-checksum-sha256", info.sha256.encode()))
    for name, value in info.metadata.items():
        headers.append((_META + name.encode(), write_text(value)))
    return headers


def _stamp(when: datetime) -> bytes:
    """RFC 3339 in UTC, in whole seconds upwards: at this second the object is gone."""
    whole = when.replace(microsecond=0)
    return (whole if whole == when else whole + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


_OBJECT = "/v1/namespaces/{namespace}/objects/{key}"
_CONDITIONS = (
    Parameter("If-Match", "Entity tags of which the object must have one, or `*`"),
    Parameter("If-None-Match", "Entity tags of which the object must have none, or `*`"),
)
_READ_CONDITIONS = (
    *_CONDITIONS,
    Parameter("If-Modified-Since", "An HTTP date"),
    Parameter("If-Unmodified-Since", "An HTTP date"),
)
_FACTS = (
    Parameter("ETag", "Names this content; strong"),
    Parameter("Last-Modified", "When it was stored"),
    Parameter("Prism-Expires-At", "From when on it is absent, RFC 3339; without it, it does not expire"),
    Parameter("Prism-Version-Id", "Names this write"),
    Parameter("Prism-Checksum-CRC32C", "Base64 of 4 bytes, big-endian"),
    Parameter("Prism-Checksum-SHA256", "Hexadecimal; when it was declared"),
    Parameter(
        "Prism-Meta-*", "User metadata, one header a name; values that are not ASCII as RFC 8187 extended values"
    ),
)

ROUTES = (
    Route(
        method="PUT",
        path=_OBJECT,
        name="putObject",
        summary="Store the body as the object's new content",
        tag="objects",
        handler=_put,
        actions=(Action.PUT,),
        query=ObjectQuery,
        body=bytes,
        headers=(
            Parameter("Content-Type", "Kept, and served again"),
            Parameter("Prism-TTL-Seconds", "Lifetime; the namespace's default unless given", "integer"),
            Parameter("Prism-No-Expiration", "`true`: no expiry, where the namespace allows it", "boolean"),
            Parameter("Prism-Meta-*", "User metadata, one header a name"),
            Parameter("Prism-Checksum-SHA256", "Hexadecimal; a body that differs is refused"),
            Parameter("Prism-Checksum-CRC32C", "Base64 of 4 bytes, big-endian; a body that differs is refused"),
            Parameter("Content-MD5", "Base64; a body that differs is refused"),
            *_CONDITIONS,
        ),
        answers=(Answer(200, "Stored, durably", PutReply),),
        moves_bytes=True,
    ),
    Route(
        method="GET",
        path=_OBJECT,
        name="getObject",
        summary="The object's bytes, all or one range of them",
        tag="objects",
        handler=_get,
        actions=(Action.GET,),
        query=ObjectQuery,
        headers=(
            Parameter("Range", "`bytes=a-b`, `bytes=a-` or `bytes=-n`; several ranges are answered with the whole"),
            Parameter("If-Range", "Serve the range only while the object has this entity tag or date"),
            *_READ_CONDITIONS,
        ),
        answers=(
            Answer(200, "The whole object", media_type="*/*", headers=_FACTS),
            Answer(206, "The range", media_type="*/*", headers=_FACTS),
            Answer(304, "Not modified"),
        ),
        moves_bytes=True,
    ),
    Route(
        method="HEAD",
        path=_OBJECT,
        name="headObject",
        summary="What GET would say, without the bytes",
        tag="objects",
        handler=_head,
        actions=(Action.HEAD,),
        query=ObjectQuery,
        headers=_READ_CONDITIONS,
        answers=(Answer(200, "The object's facts", headers=_FACTS), Answer(304, "Not modified")),
    ),
    Route(
        method="DELETE",
        path=_OBJECT,
        name="deleteObject",
        summary="Remove the object; an absent one is no error",
        tag="objects",
        handler=_delete,
        actions=(Action.DELETE,),
        query=ObjectQuery,
        headers=_CONDITIONS,
        answers=(Answer(200, "It is absent now", DeleteReply),),
    ),
)
