"""Declared uploads over HTTP: announce one, ask what became of it, get URLs for its parts, complete it, give it up.

Each route is typed values in, one call of a service, typed values out. The bytes do not pass here: they go to the URL
that the ticket names, a store's own or one of Prism's S3 API.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from ..model import Action, ObjectRef, Precondition, PutOptions
from ..tickets import Arrived, Chosen, NotBound, PartURL, Ticket, UploadName, UploadRequest, declared_of
from .http_exchange import Reply, Request, json_reply
from .http_namespaces import Query, Seconds
from .http_objects import PutReply, put_reply
from .http_routing import UPLOADS, Answer, NoQuery, Route

__all__ = ["ROUTES"]

Lasting = Annotated[int, msgspec.Meta(description="1 to 3600; 0 means 3600")]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Sha256 = Annotated[str, msgspec.Meta(description="Hexadecimal")]
Crc32c = Annotated[str, msgspec.Meta(description="Base64 of 4 bytes, big-endian")]
_MAX_SECONDS = 86_400


class CreateUpload(Query, frozen=True, kw_only=True):
    """An upload as its sender declares it; bytes that differ never become the object. Etags stand without quotes, `*`
    means any; preconditions are judged when the upload is completed."""

    namespace: str
    key: str
    bucket: str = ""
    content_type: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    ttl_seconds: Seconds | None = None
    no_expiration: bool = False
    if_match: list[str] | None = None
    if_none_match: list[str] | None = None
    size_bytes: Size | None = None
    checksum_sha256: Sha256 = ""
    checksum_crc32c: Crc32c = ""
    expires_in_seconds: Lasting = 0
    in_parts: Annotated[bool, msgspec.Meta(description="Needs `size_bytes`")] = False
    part_size_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1, description="0: the server chooses")] = 0


class SignParts(Query, frozen=True, kw_only=True):
    """Which parts, at most 100 a call."""

    numbers: Annotated[list[int], msgspec.Meta(min_length=1, max_length=100)]
    expires_in_seconds: Lasting = 0


class CompleteUpload(Query, frozen=True, kw_only=True):
    """Checksums of the whole object, when they were not known before; checked like declared ones."""

    checksum_sha256: Sha256 = ""
    checksum_crc32c: Crc32c = ""


class NotBoundReply(msgspec.Struct, frozen=True):
    """A declared fact that the store does not hold the sender to, and how it is checked instead."""

    what: str
    checked_by: str


class TicketReply(msgspec.Struct, frozen=True):
    """Send the bytes by `method` to `url` with exactly these `headers`; of an upload in parts these are empty, and the
    URLs of its parts are asked for. `expires_at` is the end of the URL, or of an upload in parts on which nothing
    happens."""

    upload_id: str
    method: str
    url: str
    headers: dict[str, str]
    expires_at: datetime
    not_bound: list[NotBoundReply]
    in_parts: bool
    part_size_bytes: int
    parts: int


class PartReply(msgspec.Struct, frozen=True):
    """A part that has arrived."""

    number: int
    etag: str
    size_bytes: int


class UploadReply(msgspec.Struct, frozen=True):
    """`state` is `open` (it may still be completed), `completed` (it is, or was, the object) or `gone` (given up,
    refused, overtaken or expired)."""

    state: str
    expires_at: datetime | None
    in_parts: bool
    part_size_bytes: int
    parts: list[PartReply]
    size_bytes: int | None


class PartURLReply(msgspec.Struct, frozen=True):
    """Send exactly `size_bytes` of the object, with exactly these headers."""

    number: int
    method: str
    url: str
    headers: dict[str, str]
    size_bytes: int
    expires_at: datetime


class PartURLsReply(msgspec.Struct, frozen=True):
    """In the order asked; ask again for those that expired."""

    parts: list[PartURLReply]


async def _create(request: Request) -> Reply:
    request.parameters(NoQuery)
    wanted = await request.json(CreateUpload)
    options = PutOptions(
        content_type=wanted.content_type,
        metadata=wanted.metadata,
        ttl=None if wanted.ttl_seconds is None else timedelta(seconds=wanted.ttl_seconds),
        no_expiration=wanted.no_expiration,
        precondition=Precondition(if_match=_tags(wanted.if_match), if_none_match=_tags(wanted.if_none_match)),
        declared=declared_of(wanted.checksum_sha256, wanted.checksum_crc32c, wanted.size_bytes),
    )
    asked = UploadRequest(
        ref=ObjectRef(wanted.namespace, wanted.bucket, wanted.key),
        options=options,
        expires_in=_lasting(wanted.expires_in_seconds),
        in_parts=wanted.in_parts,
        part_size_bytes=wanted.part_size_bytes,
    )
    return json_reply(_ticket(await request.services.sessions.create(request.caller, asked)), 201)


def _tags(etags: list[str] | None) -> tuple[str, ...] | None:
    return tuple(etags) if etags else None


def _lasting(seconds: int) -> timedelta:
    return timedelta(seconds=max(-1, min(seconds, _MAX_SECONDS)))


def _ticket(ticket: Ticket) -> TicketReply:
    return TicketReply(
        ticket.upload_id,
        "" if ticket.in_parts else "PUT",
        ticket.url,
        dict(ticket.headers),
        ticket.expires_at,
        [_not_bound(one) for one in ticket.not_bound],
        ticket.in_parts,
        ticket.part_size_bytes,
        ticket.parts,
    )


def _not_bound(one: NotBound) -> NotBoundReply:
    return NotBoundReply(one.what, one.checked_by)


async def _status(request: Request) -> Reply:
    request.parameters(NoQuery)
    found = await request.services.sessions.status(request.caller, UploadName.of(request.tail))
    return json_reply(
        UploadReply(
            found.state,
            found.expires_at,
            found.in_parts,
            found.part_size_bytes,
            [_part(part) for part in found.parts],
            found.size_bytes,
        )
    )


def _part(part: Arrived) -> PartReply:
    return PartReply(part.number, part.etag, part.size_bytes)


async def _sign(request: Request) -> Reply:
    request.parameters(NoQuery)
    name, wanted = UploadName.of(request.tail), await request.json(SignParts)
    signed = await request.services.sessions.sign_parts(
        request.caller, name, wanted.numbers, _lasting(wanted.expires_in_seconds)
    )
    return json_reply(PartURLsReply(_urls(signed)))


def _urls(signed: Sequence[PartURL]) -> list[PartURLReply]:
    return [
        PartURLReply(one.number, "PUT", one.url, dict(one.headers), one.size_bytes or 0, one.expires_at)
        for one in signed
    ]


async def _complete(request: Request) -> Reply:
    request.parameters(NoQuery)
    name = UploadName.of(request.tail)
    wanted = await request.json(CompleteUpload) if request.unread else CompleteUpload()
    chosen = Chosen(declared=declared_of(wanted.checksum_sha256, wanted.checksum_crc32c))
    return put_reply(await request.services.sessions.complete(request.caller, name, chosen))


async def _abort(request: Request) -> Reply:
    request.parameters(NoQuery)
    await request.services.sessions.abort(request.caller, UploadName.of(request.tail))
    return Reply(204, [])


_ONE = f"{UPLOADS}/{{upload_id}}"

ROUTES = (
    Route(
        method="POST",
        path=UPLOADS,
        name="createUpload",
        summary="Declare an upload and get the URL to send its bytes to",
        tag="uploads",
        handler=_create,
        actions=(Action.CREATE_UPLOAD,),
        body=CreateUpload,
        answers=(Answer(201, "Where to send the bytes", TicketReply),),
    ),
    Route(
        method="GET",
        path=_ONE,
        name="getUpload",
        summary="What became of an upload, and which of its parts have arrived",
        tag="uploads",
        handler=_status,
        actions=(Action.READ_UPLOAD,),
        answers=(Answer(200, "Its state", UploadReply),),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/parts",
        name="signParts",
        summary="URLs for some parts; ask again for those that expired",
        tag="uploads",
        handler=_sign,
        actions=(Action.SIGN_PARTS,),
        body=SignParts,
        answers=(Answer(200, "The URLs", PartURLsReply),),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/complete",
        name="completeUpload",
        summary="The bytes are sent: check them and make them the object; repeating it is harmless",
        tag="uploads",
        handler=_complete,
        actions=(Action.COMPLETE_UPLOAD,),
        body=CompleteUpload,
        answers=(Answer(200, "The object", PutReply),),
        moves_bytes=True,
    ),
    Route(
        method="DELETE",
        path=_ONE,
        name="abortUpload",
        summary="Give the upload up",
        tag="uploads",
        handler=_abort,
        actions=(Action.ABORT_UPLOAD,),
        answers=(Answer(204, "Given up"),),
    ),
)
