"""Declared uploads: an upload is announced, its bytes go where the ticket says, and completing it makes the object.

Every call is one operation of `access`, decided on the namespace, bucket and key that its upload's name holds: the name
itself grants nothing. What the store holds a sender to is left to the store, everything else is checked before the
bytes become the object, and the ticket says which is which. A store that cannot sign URLs gets URLs of Prism's own S3
API. How bytes are recognised (`direct`, `recognition`) and parts put together (`assembly`) is decided elsewhere.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from . import assembly, direct, reading
from .access import Access
from .blob.driver import Signed
from .catalog import garbage
from .catalog import parts as rows
from .catalog.parts import OpenPage, Sought
from .catalog.rows import ObjectRow, PromiseRow
from .errors import ErrorCode, PrismError
from .keys import check_key, check_prefix
from .meta import View
from .model import Action, Bindable, Caller, Conditions, Declared, ObjectInfo, ObjectRef, PutOptions, RangeSpec
from .namespaces import Namespace, Namespaces
from .reading import info_of
from .tickets import (
    MAX_SIGNED_PARTS,
    Arrived,
    Chosen,
    NotBound,
    OpenUpload,
    OpenUploads,
    PartURL,
    Ticket,
    UploadName,
    UploadRequest,
    UploadStatus,
)
from .uploads import Uploads, lasting_of

__all__ = ["Sessions"]

_PAGE = 1000
_CHECKED_BY: dict[Bindable, str] = {
    "create_only": "the URL writes to a place aside, and what is found there is copied: it never changes an object",
    "size": "the number of bytes is compared before they become the object; others never do",
    "content_type": "the object has the declared type, whatever is sent",
    "metadata": "the object has the declared metadata, whatever is sent",
    "sha256": "unless the store tells it, the bytes are read once and compared before they become the object",
    "crc32c": "unless the store tells it, the bytes are read once and compared before they become the object",
    "md5": "unless the store tells it, the bytes are read once and compared before they become the object",
}


class Sessions:
    """The declared uploads of all namespaces of one process."""

    def __init__(self, namespaces: Namespaces, access: Access, uploads: Uploads) -> None:
        self._namespaces = namespaces
        self._access = access
        self._uploads = uploads

    async def create(self, caller: Caller, request: UploadRequest) -> Ticket:
        """Announce an upload; its promise is durable when this returns. Errors: INVALID_ARGUMENT, TOO_LARGE,
        NAMESPACE_NOT_FOUND, BUCKET_NOT_FOUND, TOO_MANY_UPLOADS, UNIMPLEMENTED (no parts in this store), STORE_DOWN."""
        ref = request.ref
        with self._access.operation(caller, Action.CREATE_UPLOAD, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            check_key(ref.key)
            lasting = lasting_of(request.expires_in)
            _check_size(space, request.options.declared.size_bytes)
            make = self._in_parts if request.in_parts else self._at_once
            ticket, upload = await make(space, request, lasting)
            operation.detail |= {"version_id": upload.version_id, "way": "parts" if ticket.in_parts else upload.way}
            return ticket

    async def begin(self, caller: Caller, ref: ObjectRef, options: PutOptions) -> UploadName:
        """An upload in parts of any size, as S3 has it."""
        with self._access.operation(caller, Action.CREATE_UPLOAD, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            check_key(ref.key)
            upload = await assembly.begin(space, space.bucket(ref.bucket), ref.key, options, 0, _session(space))
            operation.detail |= {"version_id": upload.version_id, "way": "parts"}
            return _name(space, upload)

    async def status(self, caller: Caller, name: UploadName) -> UploadStatus:
        """What became of an upload, after a look for its bytes. OBJECT_NOT_FOUND when nothing is known of it."""
        ref = name.ref
        with self._access.operation(caller, Action.READ_UPLOAD, ref.namespace, ref.bucket, ref.key):
            space = self._namespaces.get(ref.namespace)
            await reading.find(space, space.bucket(ref.bucket), ref.key)
            return await _status(space, name)

    async def sign_parts(
        self, caller: Caller, name: UploadName, numbers: Sequence[int], expires_in: timedelta | None = None
    ) -> Sequence[PartURL]:
        """URLs of at most 100 parts. OBJECT_NOT_FOUND when the upload is over or unknown."""
        ref = name.ref
        with self._access.operation(caller, Action.SIGN_PARTS, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            if not 1 <= len(numbers) <= MAX_SIGNED_PARTS:
                raise PrismError(ErrorCode.INVALID_ARGUMENT, f"1 to {MAX_SIGNED_PARTS} parts are signed at a time")
            lasting = min(lasting_of(expires_in), _session(space))
            upload = await _open(space, name)
            for number in numbers:
                assembly.check_number(upload, number)
            await assembly.touch(space, upload, _session(space))
            operation.detail |= {"version_id": name.version_id, "parts": str(len(numbers))}
            now = space.now().replace(microsecond=0)
            return [await self._part_url(space, upload, number, now, lasting) for number in dict.fromkeys(numbers)]

    async def put_part(
        self, caller: Caller, name: UploadName, number: int, chunks: AsyncIterator[bytes], declared: Declared
    ) -> Arrived:
        """A part's bytes through Prism; `declared.size_bytes` must be said. OBJECT_NOT_FOUND when the upload is over;
        INVALID_ARGUMENT, TOO_LARGE, SIZE_MISMATCH, CHECKSUM_MISMATCH, STORE_DOWN."""
        ref = name.ref
        with self._access.operation(caller, Action.PUT_PART, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            upload = await assembly.touch(space, await _open(space, name), _session(space))
            part = await assembly.take(space, upload, number, chunks, declared)
            operation.bytes_in = part.size_bytes
            operation.detail |= {"version_id": name.version_id, "part": str(number)}
            return part

    async def copy_part(
        self,
        caller: Caller,
        name: UploadName,
        number: int,
        source: ObjectRef,
        wanted: RangeSpec | None,
        conditions: Conditions | None,
    ) -> Arrived:
        """A part that is an object's bytes, or a range of them. Errors as `put_part` and as a get of the source."""
        ref = name.ref
        with self._access.operation(caller, Action.PUT_PART, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            upload = await assembly.touch(space, await _open(space, name), _session(space))
            with self._access.operation(
                caller, Action.COPY_SOURCE, source.namespace, source.bucket, source.key
            ) as reads:
                there = self._namespaces.get(source.namespace)
                check_key(source.key)
                opened = await reading.open_object(there, there.bucket(source.bucket), source.key, wanted, conditions)
                try:
                    _check_whole(wanted, opened.byte_range.length, opened.info.size_bytes)
                    declared = Declared(size_bytes=opened.byte_range.length)
                    part = await assembly.take(space, upload, number, opened.chunks(), declared)
                finally:
                    await opened.aclose()
                reads.bytes_out = part.size_bytes
            operation.bytes_in = part.size_bytes
            operation.detail |= {"version_id": name.version_id, "part": str(number)}
            return part

    async def list_parts(self, caller: Caller, name: UploadName) -> Sequence[Arrived]:
        """The parts that are there, by number. OBJECT_NOT_FOUND when the upload is over."""
        ref = name.ref
        with self._access.operation(caller, Action.READ_UPLOAD, ref.namespace, ref.bucket, ref.key):
            space = self._namespaces.get(ref.namespace)
            upload = await assembly.touch(space, await _open(space, name), _session(space))
            return [piece.arrived for piece in await assembly.arrived(space, upload)]

    async def complete(self, caller: Caller, name: UploadName, chosen: Chosen) -> ObjectInfo:
        """The bytes are there: check them, make them the object. Repeating it gives the same answer.

        Errors: UPLOAD_PENDING while nothing has come by the URL, OBJECT_NOT_FOUND when the upload is over or unknown,
        PRECONDITION_FAILED, SIZE_MISMATCH, CHECKSUM_MISMATCH, DELETED_MEANWHILE, INVALID_ARGUMENT (parts missing).
        """
        ref = name.ref
        with self._access.operation(caller, Action.COMPLETE_UPLOAD, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            bucket = space.bucket(ref.bucket)
            upload = await assembly.find(space, bucket, ref.key, name.version_id)
            operation.detail["version_id"] = name.version_id
            if upload is not None and upload.upload is not None:
                row = await assembly.put_together(space, upload, chosen)
            else:
                if upload is not None and chosen.declared != Declared():
                    await direct.declare(space, upload, chosen.declared)
                row = await _confirmed(space, name)
            await assembly.compare(space, row, chosen.declared)
            return info_of(space, bucket, ref.key, row)

    async def abort(self, caller: Caller, name: UploadName) -> None:
        """Give the upload up; its bytes and parts go. OBJECT_NOT_FOUND when it is over or unknown."""
        ref = name.ref
        with self._access.operation(caller, Action.ABORT_UPLOAD, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            operation.detail["version_id"] = name.version_id
            upload = await assembly.find(space, space.bucket(ref.bucket), ref.key, name.version_id)
            if upload is None or upload.taken is not None:
                raise assembly.over()
            if not await space.tasks.to_end(assembly.give_up(space, upload)):
                raise assembly.over()

    async def list_open(
        self,
        caller: Caller,
        namespace: str,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str = "",
        after: tuple[str, str] = ("", ""),
        limit: int = _PAGE,
    ) -> OpenUploads:
        """A page of uploads in parts that are neither complete nor given up."""
        with self._access.operation(caller, Action.LIST_UPLOADS, namespace, bucket, prefix):
            space = self._namespaces.get(namespace)
            for text in (prefix, delimiter, after[0]):
                check_prefix(text)
            sought = Sought(
                bucket=space.bucket(bucket),
                prefix=prefix,
                delimiter=delimiter,
                after=after,
                limit=max(1, min(limit, _PAGE)),
            )

            async def body(view: View) -> OpenPage:
                return await rows.open_page(view, space.rules, sought)

            page = await space.meta.read(body)
            uploads = [
                OpenUpload(key=row.key, version_id=row.version_id, started_at=row.created_at) for row in page.uploads
            ]
            return OpenUploads(uploads=uploads, common_prefixes=page.prefixes, after=page.resume)

    async def _at_once(self, space: Namespace, request: UploadRequest, lasting: timedelta) -> tuple[Ticket, PromiseRow]:
        if request.part_size_bytes:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, "part_size_bytes goes with in_parts only")
        bucket, key, now = space.bucket(request.ref.bucket), request.ref.key, space.now().replace(microsecond=0)
        if space.store.capabilities.sign:
            upload = await direct.promise(space, bucket, key, now + lasting, request.options)
            signed = await direct.sign(space, upload, now, lasting // timedelta(seconds=1))
            not_bound = _not_bound(direct.unheld(upload))
        else:
            upload = await self._uploads.promise_once(space, bucket, key, now + lasting, request.options)
            url = self._uploads.sign_once(space, upload, now, lasting)
            signed, not_bound = Signed(url.url, url.headers), ()
        ticket = Ticket(
            upload_id=_name(space, upload).upload_id,
            url=signed.url,
            headers=signed.headers,
            expires_at=now + lasting,
            not_bound=not_bound,
        )
        return ticket, upload

    async def _in_parts(
        self, space: Namespace, request: UploadRequest, lasting: timedelta
    ) -> tuple[Ticket, PromiseRow]:
        size = request.options.declared.size_bytes
        if size is None:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, "an upload in parts needs size_bytes")
        part = assembly.part_bytes(space, size, request.part_size_bytes)
        session = _session(space)
        upload = await assembly.begin(
            space, space.bucket(request.ref.bucket), request.ref.key, request.options, part, session
        )
        declared = request.options.declared
        unheld: list[Bindable] = []
        if declared.sha256 is not None:
            unheld.append("sha256")
        if declared.crc32c is not None:
            unheld.append("crc32c")
        ticket = Ticket(
            upload_id=_name(space, upload).upload_id,
            expires_at=upload.writable_until.replace(microsecond=0),
            not_bound=_not_bound(unheld),
            in_parts=True,
            part_size_bytes=part,
            parts=assembly.part_count(upload) or 0,
        )
        return ticket, upload

    async def _part_url(
        self, space: Namespace, upload: PromiseRow, number: int, now: datetime, lasting: timedelta
    ) -> PartURL:
        size, seconds = assembly.size_of(upload, number), lasting // timedelta(seconds=1)
        if space.store.capabilities.sign:
            name = upload.upload or ""
            signed = await space.store.sign_part(upload.physical_key, name, number, now, seconds, size)
        else:
            query = {"partNumber": str(number), "uploadId": upload.version_id}
            url = self._uploads.sign_here(space, "PUT", f"/{upload.bucket}/{upload.key}", now, lasting, query)
            signed = Signed(url.url, url.headers)
        return PartURL(number=number, url=signed.url, headers=signed.headers, size_bytes=size, expires_at=now + lasting)


def _session(space: Namespace) -> timedelta:
    return timedelta(seconds=space.limits.upload_session_seconds)


def _check_size(space: Namespace, size_bytes: int | None) -> None:
    if size_bytes is not None and size_bytes > space.largest_bytes:
        raise PrismError(ErrorCode.TOO_LARGE, f"an object here holds at most {space.largest_bytes} bytes")


def _check_whole(wanted: RangeSpec | None, served_bytes: int, size_bytes: int) -> None:
    """A range that is to become a part lies whole within its object."""
    if wanted is not None and wanted.end is not None and served_bytes != wanted.end - (wanted.start or 0) + 1:
        raise PrismError(
            ErrorCode.RANGE_NOT_SATISFIABLE,
            f"the object has {size_bytes} bytes; the range ends after its end",
            context={"size_bytes": str(size_bytes)},
        )


def _name(space: Namespace, upload: PromiseRow) -> UploadName:
    return UploadName(ObjectRef(space.name, upload.bucket, upload.key), upload.version_id)


def _not_bound(what: Sequence[Bindable]) -> tuple[NotBound, ...]:
    return tuple(NotBound(one, _CHECKED_BY[one]) for one in what)


async def _open(space: Namespace, name: UploadName) -> PromiseRow:
    """An upload in parts while it stands."""
    return await assembly.find_open(space, space.bucket(name.ref.bucket), name.ref.key, name.version_id)


async def _status(space: Namespace, name: UploadName) -> UploadStatus:
    ref = name.ref
    found = await direct.standing(space, space.bucket(ref.bucket), ref.key, name.version_id)
    upload = found.promise
    if found.row is not None or found.state == "completed":
        size = None if found.row is None else found.row.size_bytes
        return UploadStatus(state="completed", size_bytes=size)
    if upload is not None and upload.taken is not None:
        return UploadStatus(state="completed" if upload.taken.version_id else "gone")
    if upload is None or await assembly.look(space, upload) is not None:
        if upload is None and not await _remembered(space, name):
            raise assembly.over()
        return UploadStatus(state="gone")
    parts: Sequence[Arrived] = ()
    if upload.upload:
        try:
            parts = [piece.arrived for piece in await assembly.arrived(space, upload)]
        except PrismError as error:
            if error.code is not ErrorCode.OBJECT_NOT_FOUND:
                raise
            return UploadStatus(state="gone", in_parts=True)
    return UploadStatus(
        state="open",
        expires_at=upload.writable_until,
        in_parts=upload.upload is not None,
        part_size_bytes=upload.part_size_bytes or 0,
        size_bytes=upload.declared.size_bytes,
        parts=parts,
    )


async def _remembered(space: Namespace, name: UploadName) -> bool:
    """Whether the catalog still knows that there was such an upload."""
    place = (space.bucket(name.ref.bucket), name.ref.key, name.version_id)
    keys = (space.layout.physical(*place), space.layout.staging(*place))

    async def body(view: View) -> bool:
        return any([await garbage.find(view, space.name, key) is not None for key in keys])

    return await space.meta.read(body)


async def _confirmed(space: Namespace, name: UploadName) -> ObjectRow:
    """Recognise the bytes that came by a URL. While bytes may still come by it, nothing there is "not yet"."""
    bucket = space.bucket(name.ref.bucket)
    try:
        return await direct.confirm(space, bucket, name.ref.key, name.version_id)
    except PrismError as error:
        if error.code is not ErrorCode.OBJECT_NOT_FOUND:
            raise
        upload = await assembly.find(space, bucket, name.ref.key, name.version_id)
        refused = None if upload is None else await assembly.look(space, upload)
        if refused is not None and refused.code is ErrorCode.DELETED_MEANWHILE:
            raise PrismError(refused.code, refused.message) from error
        if upload is None or refused is not None or upload.taken is not None:
            raise assembly.over() from error
        raise PrismError(
            ErrorCode.UPLOAD_PENDING, "nothing has come by the URL yet: send the bytes, then complete the upload"
        ) from error
