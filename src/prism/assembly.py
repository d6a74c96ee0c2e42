"""Uploads in parts: parts come one by one, through Prism or straight to the store, and become one object at the end.

The store alone knows which parts are there, so a client goes on after any restart, its own or Prism's. Before the store
is told to put parts together the catalog records what the object will be (the seal); so whoever finds the bytes after a
crash commits the same object, and completing again gives the same answer. Bytes become visible by recognition only,
which checks what was declared of the whole. Access is the caller's affair.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import msgspec

from . import direct
from .blob.driver import AlreadyExists, BadPart, EtagMismatch, NotFound, Part
from .catalog import parts as rows
from .catalog import uploads as promises
from .catalog.rows import ObjectRow, PartRow, PromiseRow, Refused
from .composites import crc32c_of_parts, etag_of_parts
from .digests import Digests
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .keys import is_version_id
from .meta import Txn, View
from .model import Declared, PutOptions
from .namespaces import Namespace
from .tickets import MAX_PARTS, Arrived, Chosen
from .writing import capped

__all__ = [
    "arrived",
    "begin",
    "check_number",
    "compare",
    "find",
    "find_open",
    "give_up",
    "look",
    "over",
    "part_bytes",
    "part_count",
    "put_together",
    "size_of",
    "take",
    "touch",
]

_SMALLEST_PART_BYTES = 8 * 2**20
_IN_PLACE_BYTES = 1 << 17
"""Up to here hashing is quicker than handing it to a thread."""
_TOUCHED = timedelta(seconds=30)
"""A session is renewed at most this often, so that a part costs no transaction more than its own."""
_NAMED = 5


def part_bytes(space: Namespace, size_bytes: int, wished_bytes: int) -> int:
    """How large the parts of an object are: as wished, or 8 MiB and more for what would be too many of them.
    INVALID_ARGUMENT for a wish that the store cannot grant."""
    able = space.store.capabilities
    most = min(able.most_parts, MAX_PARTS)
    needed = -(-size_bytes // most)
    if not wished_bytes:
        mebibytes = -(-needed // 2**20) * 2**20
        return min(max(_SMALLEST_PART_BYTES, able.smallest_part_bytes, mebibytes), able.largest_part_bytes)
    least = max(able.smallest_part_bytes, needed, 1)
    if not least <= wished_bytes <= able.largest_part_bytes:
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT,
            f"parts of {size_bytes} bytes in this store have {least} to {able.largest_part_bytes} bytes",
        )
    return wished_bytes


def part_count(upload: PromiseRow) -> int | None:
    """How many parts an upload of known size has; None when parts may be of any size."""
    size, part = upload.declared.size_bytes, upload.part_size_bytes
    return None if size is None or not part else max(1, -(-size // part))


def size_of(upload: PromiseRow, number: int) -> int | None:
    """What a part must hold; None for any size."""
    count, size, part = part_count(upload), upload.declared.size_bytes, upload.part_size_bytes
    if count is None or size is None or not part:
        return None
    return part if number < count else size - part * (count - 1)


def check_number(upload: PromiseRow, number: int) -> None:
    """INVALID_ARGUMENT unless the upload can have a part of this number."""
    most = part_count(upload) or MAX_PARTS
    if not 1 <= number <= most:
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT, f"part {number}: the parts of this upload have the numbers 1 to {most}"
        )


async def begin(
    space: Namespace, bucket: str, key: str, options: PutOptions, part_size_bytes: int, lasting: timedelta
) -> PromiseRow:
    """A new upload in parts, which is given up when nothing happens for `lasting`."""
    return await direct.begin_parts(space, bucket, key, space.now() + lasting, options, part_size_bytes)


async def find(space: Namespace, bucket: str, key: str, version_id: str) -> PromiseRow | None:
    """The upload while it stands; None when it is over or never was. OBJECT_NOT_FOUND when it cannot have been,
    BUCKET_NOT_FOUND."""
    if not is_version_id(version_id):
        raise over()

    async def body(view: View) -> PromiseRow | None:
        found = await promises.find_upload(view, space.rules, bucket, key, version_id)
        if found is None:
            await promises.require_bucket(view, space.rules, bucket)
        return found

    return await space.meta.read(body)


async def find_open(space: Namespace, bucket: str, key: str, version_id: str) -> PromiseRow:
    """An upload in parts that may still go on. OBJECT_NOT_FOUND, BUCKET_NOT_FOUND; DELETED_MEANWHILE when its folder
    was deleted after it began."""
    upload = await find(space, bucket, key, version_id)
    if upload is None or not upload.upload:
        raise over()
    refused = await look(space, upload)
    if refused is not None and refused.code is ErrorCode.DELETED_MEANWHILE:
        raise PrismError(refused.code, refused.message)
    if refused is not None:
        raise over()
    return upload


async def look(space: Namespace, upload: PromiseRow) -> Refused | None:
    """Why bytes that may still come could not be taken any more; None while they could."""

    async def body(view: View) -> PromiseRow | Refused:
        return await promises.standing(view, space.rules, upload)

    found = await space.meta.read(body)
    if isinstance(found, Refused):
        return found
    return None if space.now() < found.dead else Refused(code=ErrorCode.OBJECT_NOT_FOUND, message="out of time")


async def touch(space: Namespace, upload: PromiseRow, lasting: timedelta) -> PromiseRow:
    """Something happens: it is not given up for another `lasting`."""
    until = space.now() + lasting
    if until - upload.writable_until < min(_TOUCHED, lasting / 4):
        return upload

    async def body(tx: Txn) -> PromiseRow:
        return await rows.touch(tx, space.rules, upload, until)

    return await space.meta.transact(space.name, body)


async def take(
    space: Namespace, upload: PromiseRow, number: int, chunks: AsyncIterator[bytes], declared: Declared
) -> Arrived:
    """A part's bytes come through Prism. Nothing of it counts unless all of it came as declared.

    Errors: INVALID_ARGUMENT, TOO_LARGE, SIZE_MISMATCH, CHECKSUM_MISMATCH, OBJECT_NOT_FOUND when the upload is over.
    """
    check_number(upload, number)
    size = _part_size(space, upload, number, declared.size_bytes)
    digests = Digests(md5=True, sha256=declared.sha256 is not None)
    body = _checked(capped(chunks, size), digests, declared)
    failpoint("assembly.before_part")
    try:
        part = await space.store.put_part(upload.physical_key, _named(upload), number, body, size)
    except NotFound as error:
        raise over() from error
    failpoint("assembly.after_part")
    known = PartRow(store_etag=part.etag, md5=digests.md5 or "", crc32c=digests.crc32c)

    async def record(tx: Txn) -> None:
        await rows.passed(tx, space.rules, upload, number, known)

    await space.meta.transact(space.name, record)
    return Arrived(number=number, etag=known.md5, size_bytes=size, crc32c=known.crc32c)


def _part_size(space: Namespace, upload: PromiseRow, number: int, announced: int | None) -> int:
    if announced is None:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "a part says beforehand how many bytes it has")
    expected, largest = size_of(upload, number), space.store.capabilities.largest_part_bytes
    if expected is not None and announced != expected:
        raise PrismError(ErrorCode.SIZE_MISMATCH, f"part {number} has {announced} bytes; it must have {expected}")
    if announced > min(largest, space.largest_bytes):
        raise PrismError(ErrorCode.TOO_LARGE, f"a part here holds at most {min(largest, space.largest_bytes)} bytes")
    return announced


async def _checked(chunks: AsyncIterator[bytes], digests: Digests, declared: Declared) -> AsyncIterator[bytes]:
    """The chunks, whose end is an error unless they were what was declared."""
    async for chunk in chunks:
        if len(chunk) > _IN_PLACE_BYTES:
            await asyncio.to_thread(digests.update, chunk)
        else:
            digests.update(chunk)
        yield chunk
    digests.check(declared)


class Piece(msgspec.Struct, frozen=True):
    """A part as the store has it, and the etag that clients know it by."""

    part: Part
    etag: str

    @property
    def arrived(self) -> Arrived:
        """As clients are told."""
        part = self.part
        return Arrived(number=part.number, etag=self.etag, size_bytes=part.size_bytes, crc32c=part.crc32c)


async def arrived(space: Namespace, upload: PromiseRow) -> Sequence[Piece]:
    """The parts that are there, by number. OBJECT_NOT_FOUND when the store's upload is over."""
    try:
        there = await space.store.list_parts(upload.physical_key, _named(upload))
    except NotFound as error:
        raise over() from error

    async def body(view: View) -> Mapping[int, PartRow]:
        return await rows.computed(view, space.rules, upload)

    known = await space.meta.read(body)
    return [_piece(part, known.get(part.number)) for part in there]


def _piece(part: Part, row: PartRow | None) -> Piece:
    if row is None or row.store_etag != part.etag:
        return Piece(part, part.etag)
    return Piece(msgspec.structs.replace(part, crc32c=part.crc32c or row.crc32c), row.md5)


async def put_together(space: Namespace, upload: PromiseRow, chosen: Chosen) -> ObjectRow:
    """Make the object. Completing again, also another time than the first, gives the same answer.

    Errors: INVALID_ARGUMENT (a part is missing or was chosen wrongly: context `part`, `reason`), SIZE_MISMATCH,
    CHECKSUM_MISMATCH, TOO_LARGE, PRECONDITION_FAILED, DELETED_MEANWHILE, UPLOAD_PENDING, OUTCOME_UNKNOWN, STORE_DOWN.
    """
    try:
        there = await arrived(space, upload)
    except PrismError as error:
        if error.code is not ErrorCode.OBJECT_NOT_FOUND:
            raise
        return await _confirmed(space, upload)  # the store has put them together before
    try:
        pieces = _choose(upload, there, chosen.parts)
    except PrismError as unfit:
        return await _overtaken(space, upload, unfit)
    for piece in pieces[:-1]:
        if piece.part.size_bytes < chosen.smallest_part_bytes:
            least = f"every part but the last has at least {chosen.smallest_part_bytes} bytes"
            raise _bad_part(piece.part.number, "small", f"part {piece.part.number} is too small: {least}")
    wanted = _declaration(space, rows.begun(upload), pieces, chosen)
    etag = etag_of_parts(upload.version_id, [piece.etag for piece in pieces])
    return await space.tasks.to_end(_complete(space, upload, wanted, pieces, etag))


async def _overtaken(space: Namespace, upload: PromiseRow, unfit: PrismError) -> ObjectRow:
    """Parts are missing. While somebody else completes the upload, or gives it up, the store shows some of them: then
    what became of it is the answer, else `unfit`."""
    found = await find(space, upload.bucket, upload.key, upload.version_id)
    if found is not None and found.sealed is None:
        raise unfit
    try:
        return await _confirmed(space, upload)
    except PrismError as error:
        if found is not None and error.code is ErrorCode.OBJECT_NOT_FOUND:
            raise unfit from None
        raise


def _choose(upload: PromiseRow, there: Sequence[Piece], asked: Sequence[tuple[int, str]] | None) -> list[Piece]:
    """The parts that make the object."""
    if asked is not None:
        by_number = {piece.part.number: piece for piece in there}
        for number, etag in asked:
            found = by_number.get(number)
            if found is None or found.etag != etag:
                raise _bad_part(number, "missing", f"part {number} did not arrive, or with another etag")
        return [by_number[number] for number, _ in asked]
    count = part_count(upload) or len(there)
    missing = sorted(set(range(1, count + 1)) - {piece.part.number for piece in there})
    if missing or not there:
        named = ", ".join(map(str, missing[:_NAMED] or [1])) + (" …" if len(missing) > _NAMED else "")
        raise _bad_part((missing or [1])[0], "missing", f"{len(missing) or 1} of the parts did not arrive: {named}")
    for piece in there:
        expected = size_of(upload, piece.part.number)
        if expected is not None and piece.part.size_bytes != expected:
            raise PrismError(
                ErrorCode.SIZE_MISMATCH,
                f"part {piece.part.number} has {piece.part.size_bytes} bytes; it must have {expected}",
            )
    return list(there)


def _bad_part(number: int, reason: str, message: str) -> PrismError:
    return PrismError(ErrorCode.INVALID_ARGUMENT, message, context={"part": str(number), "reason": f"part_{reason}"})


def _declaration(space: Namespace, upload: PromiseRow, pieces: Sequence[Piece], chosen: Chosen) -> PromiseRow:
    """What is known of the whole: as declared at the beginning and now, and as it follows from the parts."""
    before, now = upload.declared, chosen.declared
    size = sum(piece.part.size_bytes for piece in pieces)
    for declared in (before, now):
        if declared.size_bytes not in {None, size}:
            raise PrismError(
                ErrorCode.SIZE_MISMATCH, f"the parts have {size} bytes, {declared.size_bytes} were declared"
            )
    if size > space.largest_bytes:
        raise PrismError(ErrorCode.TOO_LARGE, f"an object here holds at most {space.largest_bytes} bytes")
    for name in ("sha256", "crc32c", "md5"):
        if None not in (getattr(before, name), getattr(now, name)) and getattr(before, name) != getattr(now, name):
            raise PrismError(ErrorCode.CHECKSUM_MISMATCH, f"another {name} was declared when the upload was begun")
    crc32c, held = now.crc32c or before.crc32c, upload.held
    known = [(piece.part.crc32c, piece.part.size_bytes) for piece in pieces if piece.part.crc32c is not None]
    if len(known) == len(pieces):
        whole = crc32c_of_parts(known)
        if crc32c not in {None, whole}:
            raise PrismError(ErrorCode.CHECKSUM_MISMATCH, "the content's CRC-32C is not the declared one")
        crc32c, held = whole, tuple({*held, "crc32c", "size"})
    precondition = msgspec.structs.replace(
        upload.precondition,
        if_match=chosen.precondition.if_match or upload.precondition.if_match,
        if_none_match=chosen.precondition.if_none_match or upload.precondition.if_none_match,
    )
    direct.check_precondition(precondition)
    declared = Declared(size_bytes=size, sha256=now.sha256 or before.sha256, crc32c=crc32c, md5=now.md5 or before.md5)
    return msgspec.structs.replace(upload, declared=declared, precondition=precondition, held=held)


async def _complete(
    space: Namespace, upload: PromiseRow, wanted: PromiseRow, pieces: Sequence[Piece], etag: str
) -> ObjectRow:
    """Seal, let the store make the object, and take it. Runs to its end whoever leaves."""

    async def body(tx: Txn) -> PromiseRow | Refused:
        return await rows.seal(tx, space.rules, upload, wanted, etag, space.now())

    failpoint("assembly.before_seal")
    sealed = await space.meta.transact(space.name, body)
    if isinstance(sealed, Refused):
        if sealed.code is ErrorCode.OUTCOME_UNKNOWN:  # its promise is gone: kept by somebody else, or given up
            return await _confirmed(space, upload)
        raise PrismError(sealed.code, sealed.message)
    failpoint("assembly.after_seal")
    parts = [piece.part for piece in pieces]
    try:
        await space.store.complete_multipart(upload.physical_key, _named(upload), parts, direct.writing(space, sealed))
    except (AlreadyExists, NotFound):
        pass  # somebody else was told to do the same, and it was done
    except BadPart as error:
        await _reopen(space, sealed)
        raise _bad_part(0, "refused", f"the store does not make an object of these parts: {error}") from error
    except PrismError as error:
        if error.code is not ErrorCode.STORE_DOWN:
            raise
        raise PrismError(
            ErrorCode.OUTCOME_UNKNOWN, "the store did not say whether it put the parts together; repeat the request"
        ) from error
    failpoint("assembly.after_complete")
    return await _confirmed(space, sealed)


async def compare(space: Namespace, row: ObjectRow, declared: Declared) -> None:
    """SIZE_MISMATCH or CHECKSUM_MISMATCH when an object that was made before is not what its sender says of it now.
    What is not known of it is read once."""
    known = {"size_bytes": row.size_bytes, "sha256": row.sha256, "crc32c": row.crc32c}
    unknown = False
    for name, found in known.items():
        said = getattr(declared, name)
        if said is not None and found is not None and said != found:
            code = ErrorCode.SIZE_MISMATCH if name == "size_bytes" else ErrorCode.CHECKSUM_MISMATCH
            raise PrismError(code, f"the object's {name} is not the declared one")
        unknown |= said is not None and found is None
    if not unknown:
        return
    digests = Digests(sha256=declared.sha256 is not None)
    try:
        opened = await space.store.get(row.physical_key, None, row.store_etag)
    except (NotFound, EtagMismatch) as error:
        raise over() from error
    try:
        async for chunk in opened.body:
            await asyncio.to_thread(digests.update, chunk)
    finally:
        await opened.body.aclose()
    digests.check(declared)


async def give_up(space: Namespace, upload: PromiseRow) -> bool:
    """Condemn what came, and let the store forget the parts at once; what it does not do now the janitor does. False
    when the upload is over."""
    if not await direct.give_up(space, upload):
        return False
    failpoint("assembly.before_abort")
    if upload.upload:
        try:
            await space.store.abort_multipart(upload.physical_key, upload.upload)
        except PrismError:
            return True
    return True


async def _reopen(space: Namespace, sealed: PromiseRow) -> None:
    async def body(tx: Txn) -> None:
        await rows.reopen(tx, space.rules, sealed)

    await space.meta.transact(space.name, body)


async def _confirmed(space: Namespace, upload: PromiseRow) -> ObjectRow:
    return await direct.confirm(space, upload.bucket, upload.key, upload.version_id)


def over() -> PrismError:
    """Of an upload that is no more."""
    message = "there is no such upload: it is over (given up, out of time, overwritten or deleted since), or never was"
    return PrismError(ErrorCode.OBJECT_NOT_FOUND, message, context={"reason": "no_upload"})


def _named(upload: PromiseRow) -> str:
    """The store's name of it; an upload whose beginning was cut short has none and is over."""
    if not upload.upload:
        raise over()
    return upload.upload
