"""Uploads straight to the store, declared beforehand: promise, sign, confirm, give up. What the upload APIs stand on.

An upload is known by its namespace, bucket, key and version id, which a caller keeps (sealed or not) as its name. Its
promise is durable before its URL, its multipart upload or its name exists anywhere else. Where the store can sign a URL
that never overwrites (`create_only` in `capabilities.binds`) the bytes stay where they land, else they come to a
staging key and are copied. Nothing here is the acknowledgement of an upload but `confirm`; every read, list and write
of the key looks for the bytes by itself, too. Access is the caller's affair.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from .blob.driver import Bound, Signed, WriteOptions
from .catalog import garbage
from .catalog import objects as transitions
from .catalog import uploads as promises
from .catalog.objects import Superseded
from .catalog.rows import Condemned, ObjectRow, PromiseRow, Refused
from .checking import Unlike
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .holding import write_options
from .lifecycle import lifetime_seconds
from .meta import Txn, View
from .metadata import check_metadata
from .model import Bindable, Declared, Precondition, PutOptions
from .namespaces import Namespace
from .recognition import Outcome, look_at, settle_key

__all__ = [
    "Standing",
    "begin_parts",
    "check_precondition",
    "confirm",
    "declare",
    "give_up",
    "promise",
    "promise_here",
    "promise_staging",
    "sign",
    "standing",
    "unheld",
    "writing",
]

_ATTEMPTS = 8
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
_SHORTEST_TRANSFER = timedelta(seconds=300)
_MOST_ETAG_BYTES = 8192
"""Of a precondition that stands in a promise: with all else that is ever noted there, it fits into a row."""
_WHOLE = ("overwritten", "deleted", "expired", "superseded")
"""Why bytes are condemned that were an object once."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of an upload. `open`: its promise stands and its bytes may still come (for a staging key also
    after some were taken); `completed`: its bytes are the object, or were it; `gone`: given up, refused, overtaken by a
    deletion of its folder, out of time, or never there."""

    state: Literal["open", "completed", "gone"]
    promise: PromiseRow | None = None
    """While it stands."""
    row: ObjectRow | None = None
    """The object's current row, when that is of this very upload."""


async def promise(space: Namespace, bucket: str, key: str, until: datetime, options: PutOptions) -> PromiseRow:
    """A promise of its own for one upload by URL, whose sending may begin before `until`; durable when this returns.

    `way` is "store" or "staging", `held` says what of the declaration the store itself insists on (`unheld` the rest).
    Errors: INVALID_ARGUMENT (metadata, content type, TTL), TOO_LARGE, BUCKET_NOT_FOUND, TOO_MANY_UPLOADS, UNIMPLEMENTED
    where the store does not sign.
    """
    _require_signing(space)
    way: Literal["store", "staging"] = "store" if "create_only" in space.store.capabilities.binds else "staging"
    return await _promise(space, _wanted(space, bucket, key, until, options, way, bound=True))


async def promise_staging(space: Namespace, bucket: str, key: str, until: datetime, options: PutOptions) -> PromiseRow:
    """A promise for a URL that may write as often as its holder likes, shared by all such URLs of the same declaration.
    Errors: as `promise`."""
    _require_signing(space)
    return await _promise(space, _wanted(space, bucket, key, until, options, "staging", bound=False))


def _require_signing(space: Namespace) -> None:
    if not space.store.capabilities.sign:
        raise PrismError(ErrorCode.UNIMPLEMENTED, "this store cannot sign URLs")


async def promise_here(
    space: Namespace, bucket: str, key: str, until: datetime, options: PutOptions, *, once: bool
) -> PromiseRow:
    """A promise for a URL to Prism's own S3 API; `once`: it is of no use for a second body. Errors: as `promise`."""
    return await _promise(space, _wanted(space, bucket, key, until, options, "prism", bound=once))


async def sign(space: Namespace, upload: PromiseRow, now: datetime, lasting_seconds: int) -> Signed:
    """The URL of a promise, and every header to send with it."""
    held, declared = upload.held, upload.declared
    beside = write_options(upload, _open_gate) if upload.way == "store" else WriteOptions()
    bound = Bound(
        create_only="create_only" in held,
        size_bytes=declared.size_bytes if "size" in held else None,
        content_type=upload.content_type if "content_type" in held else "",
        metadata=beside.metadata,
        tags=beside.tags,
        sha256=declared.sha256 if "sha256" in held else None,
        crc32c=declared.crc32c if "crc32c" in held else None,
        md5=declared.md5 if "md5" in held else None,
    )
    return await space.store.sign_put(upload.physical_key, now, lasting_seconds, bound)


async def _open_gate() -> None:
    """A URL has no gate: its promise stands."""


def unheld(upload: PromiseRow) -> tuple[Bindable, ...]:
    """What was declared and the store cannot hold the sender to: checked when the bytes are recognised (content type
    and metadata: taken from the declaration, whatever was sent)."""
    return tuple(name for name in ("create_only", *_said(upload)) if name not in upload.held)


def _said(upload: PromiseRow) -> Sequence[Bindable]:
    """The facts that were declared."""
    declared = upload.declared
    facts: dict[Bindable, object] = {
        "size": declared.size_bytes,
        "content_type": upload.content_type or None,
        "metadata": upload.metadata or None,
        "sha256": declared.sha256,
        "crc32c": declared.crc32c,
        "md5": declared.md5,
    }
    return [name for name, value in facts.items() if value is not None]


def _wanted(
    space: Namespace,
    bucket: str,
    key: str,
    until: datetime,
    options: PutOptions,
    way: Literal["prism", "store", "staging"],
    *,
    bound: bool,
    part_size_bytes: int | None = None,
) -> PromiseRow:
    """A client's promise, not yet made."""
    check_metadata(options.metadata, options.content_type, space.limits.metadata_bytes)
    check_precondition(options.precondition)
    size = options.declared.size_bytes
    if size is not None and size > space.largest_bytes:
        raise PrismError(ErrorCode.TOO_LARGE, f"an object here holds at most {space.largest_bytes} bytes")
    in_parts = part_size_bytes is not None
    version_id, able = space.new_version_id(), space.store.capabilities
    lay = space.layout.staging if way == "staging" else space.layout.physical
    row = PromiseRow(
        bucket=bucket,
        key=key,
        version_id=version_id,
        physical_key=lay(bucket, key, version_id),
        kind="client",
        bound=bound,
        created_at=space.now(),
        writable_until=until,
        dead=until,
        content_type=options.content_type,
        metadata=options.metadata,
        ttl_seconds=lifetime_seconds(space.config, options.ttl, options.no_expiration),
        declared=options.declared,
        precondition=options.precondition,
        way=way,
        upload="" if in_parts else None,
        part_size_bytes=part_size_bytes,
    )
    aside = {"create_only", "metadata"} if way == "staging" else set[str]()
    said: Sequence[Bindable] = () if in_parts or way == "prism" else ("create_only", *_said(row))
    held = tuple(name for name in said if name in able.binds and name not in aside)
    dead = until + space.rules.clock_skew + _longest_transfer(space, row, held) + space.rules.late_write
    return msgspec.structs.replace(row, held=held, dead=dead)


def check_precondition(precondition: Precondition) -> None:
    """INVALID_ARGUMENT for more etags than a promise can hold."""
    size = sum(
        len(etag.encode()) + len('"", ')
        for etag in (*(precondition.if_match or ()), *(precondition.if_none_match or ()))
    )
    if size > _MOST_ETAG_BYTES:
        what = f"the etags of if_match and if_none_match have {size} bytes as a list; {_MOST_ETAG_BYTES} are allowed"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, what)


def _longest_transfer(space: Namespace, upload: PromiseRow, held: Sequence[Bindable]) -> timedelta:
    """How long a body that began in time may go on. Only a size that the store insists on says anything of it."""
    size = upload.declared.size_bytes
    if size is None or "size" not in held:
        return space.rules.max_transfer
    slowly = max(_SHORTEST_TRANSFER, timedelta(seconds=size / _SLOWEST_BYTES_PER_SECOND))
    return min(space.rules.max_transfer, slowly)


async def _promise(space: Namespace, wanted: PromiseRow) -> PromiseRow:
    async def body(tx: Txn) -> PromiseRow:
        return await promises.promise_url(tx, space.rules, wanted)

    failpoint("uploads.presign.before_promise")
    made = await space.meta.transact(space.name, body, promises.promise_reads(space.rules))
    failpoint("uploads.presign.after_promise")
    return made


async def begin_parts(
    space: Namespace, bucket: str, key: str, until: datetime, options: PutOptions, part_size_bytes: int
) -> PromiseRow:
    """A promise for an upload in parts to its final key, and the store's multipart upload (`upload` names it).

    Promise first, then the store, then the name is recorded: a crash between leaves a promise whose time runs out, and
    garbage that aborts what is open. Works without `sign`, too (then parts go through Prism). Errors: as `promise`;
    UNIMPLEMENTED where the store takes no parts; STORE_DOWN (the promise is given up again).
    """
    if not space.store.capabilities.multipart:
        raise PrismError(ErrorCode.UNIMPLEMENTED, "this store takes no objects in parts")
    wanted = _wanted(space, bucket, key, until, options, "store", bound=True, part_size_bytes=part_size_bytes)
    made = await _promise(space, wanted)
    try:
        name = await space.store.create_multipart(made.physical_key, writing(space, made))
        failpoint("uploads.parts.after_begin")
        return await _amend(space, made, upload=name)
    except BaseException:
        await space.tasks.to_end(_give_up_quietly(space, made))
        raise


async def _amend(space: Namespace, known: PromiseRow, **fields: object) -> PromiseRow:
    async def body(tx: Txn) -> PromiseRow:
        return await promises.amend(tx, space.rules, known, **fields)

    return await space.meta.transact(space.name, body)


async def _give_up_quietly(space: Namespace, upload: PromiseRow) -> None:
    """Should the catalog be down as well, the janitor breaks the promise when it is dead."""
    try:
        await give_up(space, upload)
    except PrismError:
        return


async def declare(space: Namespace, upload: PromiseRow, further: Declared) -> PromiseRow:
    """Add what was not known at the beginning (the checksum of the whole) to the declaration, before the parts are
    completed. Errors: INVALID_ARGUMENT when it contradicts what was declared; OUTCOME_UNKNOWN, DELETED_MEANWHILE when
    the promise stands no more."""

    async def body(tx: Txn) -> PromiseRow:
        row = await promises.standing(tx, space.rules, upload)
        if isinstance(row, Refused):
            raise PrismError(row.code, row.message)
        return await promises.amend(tx, space.rules, row, declared=_both(row.declared, further))

    return await space.meta.transact(space.name, body)


def _both(first: Declared, further: Declared) -> Declared:
    facts: dict[str, object] = {}
    for name in ("size_bytes", "sha256", "crc32c", "md5"):
        before, now = getattr(first, name), getattr(further, name)
        if None not in (before, now) and before != now:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"another {name} was declared when the upload was begun")
        facts[name] = now if before is None else before
    return msgspec.convert(facts, Declared)


def writing(space: Namespace, upload: PromiseRow) -> WriteOptions:
    """What the store is told when parts are begun or completed: metadata and tags, create only, and a gate that passes
    only while the promise stands, with the same choice of parts, and bytes that appear now are still looked for
    (OUTCOME_UNKNOWN, DELETED_MEANWHILE, DEADLINE_EXCEEDED)."""

    async def body(view: View) -> PromiseRow | Refused:
        return await promises.standing(view, space.rules, upload)

    async def gate() -> None:
        found = await space.meta.read(body)
        if isinstance(found, Refused):
            raise PrismError(found.code, found.message)
        if _choice(found) != _choice(upload):
            raise PrismError(ErrorCode.OUTCOME_UNKNOWN, "the upload is completed anew meanwhile; repeat the request")
        if space.now() >= found.dead - space.rules.late_write:
            raise PrismError(ErrorCode.DEADLINE_EXCEEDED, "the upload took too long; nothing was stored")

    return write_options(upload, gate)


def _choice(upload: PromiseRow) -> str | None:
    """Which parts it is made of; None before they were chosen."""
    return None if upload.sealed is None else upload.sealed.etag


async def confirm(space: Namespace, bucket: str, key: str, version_id: str) -> ObjectRow:
    """The bytes are said to be there: look, check them, and answer the row that they became. Repeating it is harmless.

    Errors: OBJECT_NOT_FOUND (nothing has arrived, or what came was given up, expired, deleted or overwritten),
    PRECONDITION_FAILED, DELETED_MEANWHILE, CHECKSUM_MISMATCH, SIZE_MISMATCH (what lies there stays invisible; where the
    URL may write again, a correct repetition counts), UPLOAD_PENDING, STORE_DOWN, CATALOG_DOWN.
    """
    for _ in range(_ATTEMPTS):
        found = await _known(space, bucket, key, version_id)
        upload = found.promise
        if upload is None:
            return found.row if found.row is not None else _raise(_gone(found.garbage))
        looked = await look_at(space, upload)
        if isinstance(looked, Unlike):
            raise PrismError(looked.code, looked.message)
        if looked is None:
            return found.row if found.row is not None else _raise(_not_there(upload))
        outcomes = await settle_key(space, bucket, key, [looked])
        if version_id in outcomes:
            return _row_of(outcomes[version_id])
    raise PrismError(ErrorCode.UPLOAD_PENDING, "uploads of this key keep arriving; try again")


def _raise(error: PrismError) -> ObjectRow:
    raise error


def _row_of(outcome: Outcome) -> ObjectRow:
    if isinstance(outcome, Refused):
        raise PrismError(outcome.code, outcome.message)
    return outcome.row if isinstance(outcome, Superseded) else outcome


def _not_there(upload: PromiseRow) -> PrismError:
    if upload.taken is None:
        return PrismError(ErrorCode.OBJECT_NOT_FOUND, "nothing has arrived by this upload's URL yet")
    if not upload.taken.version_id:
        return _unmet()
    return PrismError(ErrorCode.OBJECT_NOT_FOUND, "the upload was taken, and overwritten or deleted since")


def _gone(condemned: Condemned | None) -> PrismError:
    match None if condemned is None else condemned.reason:
        case "refused":
            return _unmet()
        case "purged":
            return PrismError(ErrorCode.DELETED_MEANWHILE, "the folder of this key was deleted after the upload began")
        case _:
            return PrismError(
                ErrorCode.OBJECT_NOT_FOUND, "the upload is over: given up, out of time, overwritten or deleted"
            )


def _unmet() -> PrismError:
    return PrismError(ErrorCode.PRECONDITION_FAILED, "the object that was there did not meet the upload's precondition")


class _Known(msgspec.Struct, frozen=True):
    """What the catalog says of an upload."""

    promise: PromiseRow | None
    row: ObjectRow | None
    garbage: Condemned | None


async def _known(space: Namespace, bucket: str, key: str, version_id: str) -> _Known:
    layout = space.layout

    async def body(view: View) -> _Known:
        upload = await promises.find_upload(view, space.rules, bucket, key, version_id)
        row = (await transitions.look(view, space.rules, bucket, key, space.now())).row
        became = version_id if upload is None or upload.taken is None else upload.taken.version_id
        condemned = None
        for physical in (layout.physical(bucket, key, version_id), layout.staging(bucket, key, version_id)):
            condemned = condemned or await garbage.find(view, space.name, physical)
        return _Known(upload, row if row is not None and row.version_id == became else None, condemned)

    return await space.meta.read(body)


async def standing(space: Namespace, bucket: str, key: str, version_id: str) -> Standing:
    """What became of an upload, from the catalog alone (no look at the store)."""
    found = await _known(space, bucket, key, version_id)
    if found.promise is not None:
        return Standing(state="open", promise=found.promise, row=found.row)
    if found.row is not None:
        return Standing(state="completed", row=found.row)
    was = found.garbage is not None and found.garbage.reason in _WHOLE
    return Standing(state="completed" if was else "gone")


async def give_up(space: Namespace, upload: PromiseRow) -> bool:
    """The client wants it no more: condemn what may have come, open parts included. False when it stands no more."""

    async def body(tx: Txn) -> bool:
        return await promises.abandon(tx, space.rules, upload, space.now())

    return await space.meta.transact(space.name, body)
