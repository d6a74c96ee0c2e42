"""S3's operations on single objects: put, get, head, copy, delete, and the deletion of many.

Headers become options on the way in and facts become headers on the way out. A header that would make an object
something that Prism cannot keep (encryption, tags, locks, encodings) is refused by name, never taken and forgotten.
"""

import asyncio
import re
from collections.abc import Mapping

from ..errors import PrismError
from ..model import CopyOptions, ObjectInfo, ObjectRef, Precondition, PutOptions
from ..uploads import UPLOAD_PARAMETER
from .conditions import conditions_of, etags_of, precondition_of, quoted
from .headers import (
    SANDBOX,
    Header,
    http_date,
    is_inert,
    parse_etags,
    parse_range,
    write_text,
)
from .http_exchange import Reply
from .replying import send_object
from .s3_body import incoming_body, read_document
from .s3_exchange import S3Request, invalid, unimplemented, xml_reply
from .s3_parameters import META, copy_conditions, copy_source, metadata_of, refuse_unkept, version_headers
from .s3_xml import Element, element, instant, read
from .status import STATUS

__all__ = ["copy_object", "delete_object", "delete_objects", "get_object", "head_object", "put_object"]

_MAX_DELETED = 1000
_AT_A_TIME = 32
_OVERRIDES: Mapping[str, bytes] = {
    f"response-{name}": name.encode()
    for name in (
        "cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"
    )
}  # fmt: skip
_PRINTABLE = re.compile(r"[ -~]{0,1024}\Z")


async def put_object(request: S3Request) -> Reply:
    """PutObject; by a presigned URL that names a promise, the body keeps that promise."""
    refuse_unkept(request)
    body = incoming_body(request)
    options = PutOptions(
        content_type=request.headers.get("content-type", ""),
        metadata=metadata_of(request),
        precondition=precondition_of(request.raw_headers, bare=True),
        declared=body.declared,
        md5_etag=True,
    )
    services, upload = request.services, request.query.get(UPLOAD_PARAMETER)
    if upload is not None and request.claim.expires_seconds is not None:
        info = await services.uploads.keep(request.caller, request.ref, upload, body.chunks, options)
    else:
        info = await services.objects.put(request.caller, request.ref, body.chunks, options)
    echoed = [(name.encode(), value.encode()) for name, value in body.checksums.items()]
    return Reply(200, [*_written(info), *echoed])


async def copy_object(request: S3Request) -> Reply:
    """CopyObject within the namespace of the key."""
    refuse_unkept(request)
    conditions = copy_conditions(request)
    source = copy_source(request)
    directive = request.headers.get("x-amz-metadata-directive", "COPY")
    if directive not in {"COPY", "REPLACE"}:
        raise invalid("InvalidArgument", "x-amz-metadata-directive is COPY or REPLACE")
    if directive == "COPY" and source == request.ref:
        raise invalid("InvalidRequest", "a copy of an object to itself must replace its metadata")
    replace = directive == "REPLACE"
    options = CopyOptions(
        content_type=request.headers.get("content-type", "application/octet-stream") if replace else None,
        metadata=metadata_of(request) if replace else None,
        precondition=precondition_of(request.raw_headers, bare=True),
        source_if_match=None if conditions is None else conditions.if_match,
    )
    info = await request.services.objects.copy(request.caller, source, request.ref, options)
    parts = [element("ETag", f'"{info.etag}"'), element("LastModified", instant(info.last_modified))]
    return xml_reply("CopyObjectResult", parts, version_headers(info))


async def get_object(request: S3Request) -> Reply | None:
    """GetObject, whole or a range; None when it was streamed out."""
    overrides = _overrides(request)
    opened = await request.services.objects.get(
        request.caller,
        request.ref,
        parse_range(request.headers.get("range")),
        conditions_of(request.raw_headers, bare=True),
    )
    try:
        return await send_object(request, opened, _facts(request, opened.info, overrides, whole=not opened.partial))
    finally:
        await opened.aclose()


async def head_object(request: S3Request) -> Reply:
    """HeadObject."""
    overrides = _overrides(request)
    info = await request.services.objects.head(
        request.caller, request.ref, conditions_of(request.raw_headers, bare=True)
    )
    headers = _facts(request, info, overrides, whole=True)
    return Reply(200, headers, length=info.size_bytes)


async def delete_object(request: S3Request) -> Reply:
    """DeleteObject: 204, whether or not there was one."""
    precondition = Precondition(if_match=etags_of(request.raw_headers, "If-Match", weak=False, bare=True))
    await request.services.objects.delete(request.caller, request.ref, precondition)
    return Reply(204, [])


async def delete_objects(request: S3Request) -> Reply:
    """DeleteObjects: a result for each key, in the order asked."""
    body = read(await read_document(request), "Delete")
    asked = body.all("Object")
    if not 1 <= len(asked) <= _MAX_DELETED:
        raise invalid("MalformedXML", f"a Delete names 1 to {_MAX_DELETED} objects")
    await request.services.objects.head_bucket(request.caller, request.namespace, request.bucket)
    quiet = (body.value("Quiet") or "").strip().lower() == "true"
    parts: list[str] = []
    for at in range(0, len(asked), _AT_A_TIME):
        parts += await asyncio.gather(*(_delete_one(request, one, quiet) for one in asked[at : at + _AT_A_TIME]))
    return xml_reply("DeleteResult", parts)


async def _delete_one(request: S3Request, asked: Element, quiet: bool) -> str:
    key, version, etag = asked.value("Key") or "", asked.value("VersionId"), asked.value("ETag")
    try:
        if version not in {None, "", "null"} or asked.all("Size") or asked.all("LastModifiedTime"):
            raise unimplemented("deletion by version, size or time")
        precondition = Precondition(if_match=None if etag is None else parse_etags("ETag", quoted(etag), weak=False))
        ref = ObjectRef(request.namespace, request.bucket, key)
        await request.services.objects.delete(request.caller, ref, precondition)
    except PrismError as error:
        code = error.context.get("s3_code", STATUS[error.code].s3)
        told = element("Key", key) + element("Code", code) + element("Message", error.message)
        return f"<Error>{told}</Error>"
    return "" if quiet else f"<Deleted>{element('Key', key)}</Deleted>"


def _facts(request: S3Request, info: ObjectInfo, overrides: dict[bytes, bytes], *, whole: bool) -> list[Header]:
    """Everything that is known of an object but its length."""
    facts = {
        b"content-type": info.content_type.encode(),
        b"etag": b'"%s"' % info.etag.encode(),
        b"last-modified": http_date(info.last_modified),
        b"accept-ranges": b"bytes",
        b"cache-control": b"no-cache",
    } | overrides
    headers = [*facts.items(), *version_headers(info)]
    if not is_inert(facts[b"content-type"].decode()):
        headers.append(SANDBOX)
    if info.expires_at is not None:
        told = b'expiry-date="%s", rule-id="prism-ttl"' % http_date(info.expires_at)
        headers.append((b"x-amz-expiration", told))
    if whole and request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and info.crc32c is not None:
        headers += [(b"x-amz-checksum-crc32c", info.crc32c.encode()), (b"x-amz-checksum-type", b"FULL_OBJECT")]
    return headers + [(META + name.encode(), write_text(value)) for name, value in info.metadata.items()]


def _written(info: ObjectInfo) -> list[Header]:
    return [(b"etag", b'"%s"' % info.etag.encode()), *version_headers(info)]


def _overrides(request: S3Request) -> dict[bytes, bytes]:
    """The `response-*` parameters. INVALID_ARGUMENT for a value that no header can hold."""
    found = {}
    for name, header in _OVERRIDES.items():
        value = request.query.get(name)
        if value is not None:
            if not _PRINTABLE.match(value):
                raise invalid("InvalidArgument", f"{name} is at most 1024 printable ASCII characters")
            found[header] = value.encode()
    return found
