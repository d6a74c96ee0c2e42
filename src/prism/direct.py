"""Uploads straight to the store, declared beforehand: promise, sign, confirm, give up. What the upload APIs stand on.

An upload is known by its namespace, bucket, key and version id, which a caller keeps (sealed or not) as its name. Its
promise is durable before its URL, its multipart upload or its name exists anywhere else. Where the store can sign a URL
that never overwrites (`create_only` in `capabilities.binds`) the bytes stay where they land, else they come to a
staging key and are copied. Nothing here is the acknowledgement of an upload but `confirm`; every read, list and write
of the key looks for the bytes by itself, too. Access is the caller's affair.
"""

from datetime import datetime
from typing import Literal

import msgspec

from .blob.driver import Signed, WriteOptions
from .catalog.rows import ObjectRow, PromiseRow
from .errors import ErrorCode, PrismError
from .model import Bindable, Declared, PutOptions
from .namespaces import Namespace

__all__ = [
    "Standing",
    "begin_parts",
    "confirm",
    "declare",
    "give_up",
    "promise",
    "sign",
    "standing",
    "unheld",
    "writing",
]


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
    raise PrismError(ErrorCode.UNIMPLEMENTED, "direct uploads come soon")


async def sign(space: Namespace, upload: PromiseRow, now: datetime, lasting_seconds: int) -> Signed:
    """The URL of a promise of one's own, and every header to send with it."""
    raise PrismError(ErrorCode.UNIMPLEMENTED, "direct uploads come soon")


def unheld(upload: PromiseRow) -> tuple[Bindable, ...]:
    """What was declared and the store cannot hold the sender to: checked when the bytes are recognised (content type
    and metadata: taken from the declaration, whatever was sent)."""
    return ()


async def begin_parts(
    space: Namespace, bucket: str, key: str, until: datetime, options: PutOptions, part_size_bytes: int
) -> PromiseRow:
    """A promise for an upload in parts to its final key, and the store's multipart upload (`upload` names it).

    Promise first, then the store, then the name is recorded: a crash between leaves a promise whose time runs out, and
    garbage that aborts what is open. Works without `sign`, too (then parts go through Prism). Errors: as `promise`;
    UNIMPLEMENTED where the store takes no parts; STORE_DOWN (the promise is given up again).
    """
    raise PrismError(ErrorCode.UNIMPLEMENTED, "direct uploads come soon")


async def declare(space: Namespace, upload: PromiseRow, further: Declared) -> PromiseRow:
    """Add what was not known at the beginning (the checksum of the whole) to the declaration, before the parts are
    completed. Errors: INVALID_ARGUMENT when it contradicts what was declared; OUTCOME_UNKNOWN, DELETED_MEANWHILE when
    the promise stands no more."""
    raise PrismError(ErrorCode.UNIMPLEMENTED, "direct uploads come soon")


def writing(space: Namespace, upload: PromiseRow) -> WriteOptions:
    """What the store is told when parts are begun or completed: metadata and tags, create only, and a gate that passes
    only while the promise stands and bytes that appear now are still looked for (OUTCOME_UNKNOWN, DELETED_MEANWHILE,
    DEADLINE_EXCEEDED)."""
    raise PrismError(ErrorCode.UNIMPLEMENTED, "direct uploads come soon")


async def confirm(space: Namespace, bucket: str, key: str, version_id: str) -> ObjectRow:
    """The bytes are said to be there: look, check them, and answer the row that they became. Repeating it is harmless.

    The row may have been overwritten since. Errors: OBJECT_NOT_FOUND (nothing has arrived, or it was given up, expired
    or deleted), PRECONDITION_FAILED, DELETED_MEANWHILE, CHECKSUM_MISMATCH, SIZE_MISMATCH (what lies there stays
    invisible; where the URL may write again, a correct repetition counts), UPLOAD_PENDING, STORE_DOWN, CATALOG_DOWN.
    """
    raise PrismError(ErrorCode.UNIMPLEMENTED, "direct uploads come soon")


async def standing(space: Namespace, bucket: str, key: str, version_id: str) -> Standing:
    """What became of an upload, from the catalog alone (no look at the store)."""
    raise PrismError(ErrorCode.UNIMPLEMENTED, "direct uploads come soon")


async def give_up(space: Namespace, upload: PromiseRow) -> bool:
    """The client wants it no more: condemn what may have come, open parts included. False when it stands no more."""
    raise PrismError(ErrorCode.UNIMPLEMENTED, "direct uploads come soon")
