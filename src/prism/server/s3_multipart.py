"""S3's uploads in parts, on the same sessions as the upload API: begin, take parts, list, put together, give up.

An upload's id is the version id that its object will have; it means something only with its bucket and key. A part's
ETag is its MD5 and the object's is S3's, the MD5 of those and their number. Errors go by S3's own names.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from urllib.parse import quote

from ..errors import PrismError
from ..model import Declared, ObjectInfo, PutOptions
from ..tickets import MAX_PARTS, Arrived, Chosen, OpenUpload, UploadName
from .conditions import precondition_of
from .headers import Header
from .http_exchange import Reply
from .s3_body import incoming_body, read_document
from .s3_checksums import PREFIX, algorithm
from .s3_exchange import S3Request, invalid, unimplemented, xml_reply
from .s3_parameters import (
    copied_range,
    copy_conditions,
    copy_source,
    encoding_of,
    metadata_of,
    number_of,
    refuse_unkept,
    version_headers,
)
from .s3_xml import Element, element, instant, read

__all__ = [
    "abort_multipart_upload",
    "complete_multipart_upload",
    "create_multipart_upload",
    "list_multipart_uploads",
    "list_parts",
    "upload_part",
    "upload_part_copy",
]

_SMALLEST_PART_BYTES = 5 * 2**20
"""Of every part but the last, as S3 has it, whatever the store behind would take."""
_PAGE = 1000
_MAX_DOCUMENT_BYTES = 4 * 2**20
_MAX_PART_ELEMENTS = 8
_WHOLE = frozenset({"crc32c"})
"""Checksums of the whole object that can be compared."""
_CODES = {
    "no_upload": "NoSuchUpload",
    "part_missing": "InvalidPart",
    "part_refused": "InvalidPart",
    "part_small": "EntityTooSmall",
}


@contextlib.contextmanager
def _by_name() -> Iterator[None]:
    """Errors of an upload by S3's names."""
    try:
        yield
    except PrismError as error:
        code = _CODES.get(error.context.get("reason", ""))
        if code is not None:
            error.context["s3_code"] = code
        raise


async def create_multipart_upload(request: S3Request) -> Reply:
    """CreateMultipartUpload."""
    refuse_unkept(request)
    await read_document(request)
    checksum = request.headers.get("x-amz-checksum-algorithm", "").lower()
    if checksum:
        algorithm(PREFIX + checksum)
    options = PutOptions(content_type=request.headers.get("content-type", ""), metadata=metadata_of(request))
    name = await request.services.sessions.begin(request.caller, request.ref, options)
    parts = [element("Bucket", request.bucket), element("Key", request.key), element("UploadId", name.version_id)]
    headers: list[Header] = []
    if checksum:
        kind = request.headers.get("x-amz-checksum-type", "COMPOSITE")
        headers = [(b"x-amz-checksum-algorithm", checksum.upper().encode()), (b"x-amz-checksum-type", kind.encode())]
    return xml_reply("InitiateMultipartUploadResult", parts, headers)


async def upload_part(request: S3Request) -> Reply:
    """UploadPart, also by a presigned URL."""
    refuse_unkept(request)
    body = incoming_body(request)
    with _by_name():
        part = await request.services.sessions.put_part(
            request.caller, _name(request), _part_number(request), body.chunks, body.declared
        )
    echoed = [(name.encode(), value.encode()) for name, value in body.checksums.items()]
    return Reply(200, [(b"etag", b'"%s"' % part.etag.encode()), *echoed])


async def upload_part_copy(request: S3Request) -> Reply:
    """UploadPartCopy within the namespace of the key."""
    source, wanted = copy_source(request), copied_range(request)
    conditions = copy_conditions(request)
    with _by_name():
        part = await request.services.sessions.copy_part(
            request.caller, _name(request), _part_number(request), source, wanted, conditions
        )
    parts = [element("ETag", f'"{part.etag}"'), element("LastModified", instant(request.services.now()))]
    return xml_reply("CopyPartResult", parts)


async def list_parts(request: S3Request) -> Reply:
    """ListParts."""
    after = number_of(request, "part-number-marker", MAX_PARTS, default=0)
    limit = number_of(request, "max-parts", _PAGE)
    encode = encoding_of(request)
    with _by_name():
        there = await request.services.sessions.list_parts(request.caller, _name(request))
    left = [part for part in there if part.number > after]
    shown, more = left[:limit], len(left) > limit
    parts = [
        element("Bucket", request.bucket),
        element("Key", encode(request.key)),
        element("UploadId", request.query["uploadId"]),
        element("PartNumberMarker", after),
        element("MaxParts", limit),
        element("IsTruncated", "true" if more else "false"),
        *([element("NextPartNumberMarker", shown[-1].number)] if shown else []),
        element("StorageClass", "STANDARD"),
        *_people(request),
    ]
    return xml_reply("ListPartsResult", [*parts, *(_part(request, part) for part in shown)])


def _part(request: S3Request, part: Arrived) -> str:
    told = [element("PartNumber", part.number), element("LastModified", instant(request.services.now()))]
    told += [element("ETag", f'"{part.etag}"'), element("Size", part.size_bytes)]
    if part.crc32c is not None:
        told.append(element("ChecksumCRC32C", part.crc32c))
    return f"<Part>{''.join(told)}</Part>"


async def list_multipart_uploads(request: S3Request) -> Reply:
    """ListMultipartUploads."""
    query, encode = request.query, encoding_of(request)
    limit = number_of(request, "max-uploads", _PAGE)
    key_marker = query.get("key-marker", "")
    marker = query.get("upload-id-marker", "") if key_marker else ""
    page = await request.services.sessions.list_open(
        request.caller,
        request.namespace,
        request.bucket,
        query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        after=(key_marker, marker),
        limit=limit,
    )
    parts = [element("Bucket", request.bucket), element("KeyMarker", encode(key_marker))]
    parts += [element("UploadIdMarker", marker), element("MaxUploads", limit)]
    for name in ("prefix", "delimiter"):
        if query.get(name):
            parts.append(element(name.capitalize(), encode(query[name])))
    if "encoding-type" in query:
        parts.append(element("EncodingType", "url"))
    parts.append(element("IsTruncated", "false" if page.after is None else "true"))
    if page.after is not None:
        parts += [element("NextKeyMarker", encode(page.after[0])), element("NextUploadIdMarker", page.after[1])]
    parts += [_upload(request, one, encode(one.key)) for one in page.uploads]
    parts += [f"<CommonPrefixes>{element('Prefix', encode(one))}</CommonPrefixes>" for one in page.common_prefixes]
    return xml_reply("ListMultipartUploadsResult", parts)


def _upload(request: S3Request, one: OpenUpload, key: str) -> str:
    told = [element("Key", key), element("UploadId", one.version_id), *_people(request)]
    told += [element("StorageClass", "STANDARD"), element("Initiated", instant(one.started_at))]
    return f"<Upload>{''.join(told)}</Upload>"


def _people(request: S3Request) -> list[str]:
    who = element("ID", request.namespace) + element("DisplayName", request.namespace)
    return [f"<Initiator>{who}</Initiator>", f"<Owner>{who}</Owner>"]


async def complete_multipart_upload(request: S3Request) -> Reply:
    """CompleteMultipartUpload: of the parts that the body names, in their order."""
    document = await read_document(request, _MAX_DOCUMENT_BYTES)
    body = await asyncio.to_thread(read, document, "CompleteMultipartUpload", _MAX_PART_ELEMENTS * MAX_PARTS)
    listed = body.all("Part")
    if not 1 <= len(listed) <= MAX_PARTS:
        raise invalid("MalformedXML", f"a CompleteMultipartUpload names 1 to {MAX_PARTS} parts")
    asked = [_asked(one) for one in listed]
    if any(later[0] <= earlier[0] for earlier, later in itertools.pairwise(asked)):
        raise invalid("InvalidPartOrder", "the parts are listed in the order of their numbers, each once")
    chosen = Chosen(
        parts=asked,
        declared=_whole(request),
        precondition=precondition_of(request.raw_headers, bare=True),
        smallest_part_bytes=_SMALLEST_PART_BYTES,
    )
    with _by_name():
        info = await request.services.sessions.complete(request.caller, _name(request), chosen)
    return xml_reply("CompleteMultipartUploadResult", _made(request, info), version_headers(info))


def _made(request: S3Request, info: ObjectInfo) -> list[str]:
    host = request.headers.get("host", "")
    told = [element("Location", f"http://{host}/{quote(request.bucket)}/{quote(request.key)}")]
    told += [element("Bucket", request.bucket), element("Key", request.key), element("ETag", f'"{info.etag}"')]
    if info.crc32c is not None:
        told += [element("ChecksumCRC32C", info.crc32c), element("ChecksumType", "FULL_OBJECT")]
    return told


def _asked(one: Element) -> tuple[int, str]:
    number, etag = (one.value("PartNumber") or "").strip(), one.value("ETag")
    if len(one.children) > _MAX_PART_ELEMENTS or etag is None or not (number.isascii() and number.isdigit()):
        raise invalid("MalformedXML", "a Part has a PartNumber and an ETag")
    if not 1 <= int(number[:9]) <= MAX_PARTS or len(number) > 9:
        raise invalid("InvalidArgument", f"part numbers are 1 to {MAX_PARTS}")
    return int(number), etag.strip().strip('"')


def _whole(request: S3Request) -> Declared:
    """What the request says of the whole object."""
    size = request.headers.get("x-amz-mp-object-size")
    if size is not None and not (size.isascii() and size.isdigit() and len(size) < 16):
        raise invalid("InvalidArgument", "x-amz-mp-object-size is a number of bytes")
    crc32c = None
    for header, value in request.headers.items():
        if not header.startswith(PREFIX) or header in {f"{PREFIX}algorithm", f"{PREFIX}type"}:
            continue
        if "-" in value:
            continue  # of the parts' checksums, each of which was compared when it came
        if algorithm(header, value) not in _WHOLE:
            raise unimplemented(f"{header} of a whole object that came in parts")
        crc32c = value
    return Declared(size_bytes=None if size is None else int(size), crc32c=crc32c)


async def abort_multipart_upload(request: S3Request) -> Reply:
    """AbortMultipartUpload."""
    with _by_name():
        await request.services.sessions.abort(request.caller, _name(request))
    return Reply(204, [])


def _name(request: S3Request) -> UploadName:
    return UploadName(request.ref, request.query["uploadId"])


def _part_number(request: S3Request) -> int:
    text = request.query.get("partNumber", "")
    if not (text.isascii() and text.isdigit() and 1 <= len(text) < 7 and 1 <= int(text) <= MAX_PARTS):
        raise invalid("InvalidArgument", f"partNumber is 1 to {MAX_PARTS}")
    return int(text)
