"""Import: objects that were in a namespace's store before Prism are taken up where they lie (`prism objectstore
import`).

The store is walked in the order of its keys; per batch the bytes are promised, looked at (HEAD), and referenced, each
in one transaction, beside running servers. Their row names their own key, which others may still write: what they
rewrite no longer answers to the row (reads say DATA_LOSS, `prism fsck` says differing) until another import takes up
the new bytes. Nothing is copied and nothing deleted; an object that exists already, keys of Prism's form, and bytes
that are condemned are passed over and counted. The catalog keeps how far a run came, so that the next one goes on
there.
"""

import asyncio
import mimetypes
from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec

from .blob.driver import BlobEntry, BlobInfo
from .catalog import adoption
from .catalog.adoption import Adopted, Foreign, Outcome
from .catalog.cursors import forget_cursor, keep_cursor, kept_cursor
from .catalog.objects import whole_second
from .catalog.rows import ObjectRow
from .catalog.uploads import require_bucket
from .digests import etag_of
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .keys import check_key
from .meta import Txn, View
from .metadata import carried_metadata, carried_type
from .namespaces import Namespace
from .walking import Findings, WalkReport, root_of, unheard

__all__ = ["KINDS", "Import", "adopt"]

KINDS = ("adopted", "refreshed", "unchanged", "taken", "condemned", "prism", "illegal", "gone")
"""`adopted`: an object now; `refreshed`: was one, and others had rewritten its bytes; `unchanged`: is one; `taken`:
another object has that key; `condemned`: its deletion is under way; `prism`: of Prism's form; `illegal`: no key that an
object can have; `gone`: deleted by others meanwhile."""
_QUIET = ("adopted", "unchanged")
_PAGE = 1000
_BATCH = 200
_HEADS = 32
_KINDS: dict[Outcome, str] = {
    "new": "adopted",
    "changed": "refreshed",
    "unchanged": "unchanged",
    "taken": "taken",
    "condemned": "condemned",
}


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """What to take up: keys that begin with `prefix`, into `bucket` (empty: the namespace's own)."""

    prefix: str = ""
    bucket: str = ""
    lifetime: timedelta | None = None
    """How long the objects live from now on; None: until they are deleted."""
    own: bool = False
    """The bytes become Prism's: deleted with their object, as long as they are the ones that were taken up."""
    dry_run: bool = False


async def adopt(space: Namespace, wanted: Import, watch: Callable[[WalkReport], object] = unheard) -> WalkReport:
    """Take up what lies in the store; `watch` hears after each page. Repeating it changes nothing more.

    Errors: UNIMPLEMENTED for `own` where the store cannot delete on condition, BUCKET_NOT_FOUND, STORE_DOWN,
    CATALOG_DOWN.
    """
    if wanted.own and not space.store.capabilities.conditional_delete:
        what = (
            f"its {space.config.backend} store cannot delete on condition, so adopted bytes cannot become Prism's own"
        )
        raise PrismError(ErrorCode.UNIMPLEMENTED, f"namespaces.{space.name}: {what}; leave that out")
    walk = _Walk(space, wanted)
    await walk.begin()
    after = walk.report.went_on_after
    while page := await space.store.list(walk.prefix, after, _PAGE):
        for start in range(0, len(page), _BATCH):
            await walk.take(page[start : start + _BATCH])
        after = page[-1].key
        watch(walk.report)
    await walk.end()
    return walk.report


class _Walk:
    """One run."""

    def __init__(self, space: Namespace, wanted: Import) -> None:
        self.prefix = root_of(space) + wanted.prefix
        kinds = {kind: Findings() for kind in KINDS}
        self.report = WalkReport(namespace=space.name, dry_run=wanted.dry_run, kinds=kinds)
        self._space = space
        self._wanted = wanted
        self._bucket = space.bucket(wanted.bucket)
        lasting = "" if wanted.lifetime is None else f" {wanted.lifetime.total_seconds():.0f}"
        self._name = f"import{' own' if wanted.own else ''}{lasting} {self._bucket} {wanted.prefix}"

    async def begin(self) -> None:
        """The bucket must be there; an interrupted run is gone on with."""
        space = self._space

        async def body(view: View) -> str:
            await require_bucket(view, space.rules, self._bucket)
            return "" if self._wanted.dry_run else await kept_cursor(view, space.name, self._name)

        self.report.went_on_after = self.report.at = await space.meta.read(body)

    async def end(self) -> None:
        """The walk is done: the next run begins anew."""
        if not self._wanted.dry_run:
            await self._space.meta.transact(
                self._space.name, lambda tx: forget_cursor(tx, self._space.name, self._name)
            )

    async def take(self, entries: Sequence[BlobEntry]) -> None:
        """One batch: everything that may be adopted in it is, and the walk's place is kept."""
        found = [foreign for entry in entries if (foreign := self._foreign(entry)) is not None]

        async def body(view: View) -> list[Outcome]:
            return await adoption.look(view, self._space.rules, found, self._wanted.own)

        wanted = []
        for foreign, outcome in zip(found, await self._space.meta.read(body), strict=True):
            if outcome in ("new", "changed") and not self._wanted.dry_run:
                wanted.append(foreign)
            else:
                self._note(outcome, foreign)
        if wanted:
            await self._adopt(wanted)
        self.report.at = entries[-1].key
        if not self._wanted.dry_run:
            await self._keep_place(entries[-1].key)

    def _foreign(self, entry: BlobEntry) -> Foreign | None:
        """What may become an object; other keys are counted here."""
        key = self._space.layout.adoptable(entry.key)
        if key is None:
            if entry.key != self._space.layout.owner:
                self._count("prism", entry.key, entry.size_bytes)
            return None
        try:
            check_key(key)
        except PrismError:
            self._count("illegal", entry.key, entry.size_bytes)
            return None
        return Foreign(
            physical_key=entry.key, bucket=self._bucket, key=key, etag=entry.etag, size_bytes=entry.size_bytes
        )

    async def _adopt(self, wanted: Sequence[Foreign]) -> None:
        space = self._space
        version_ids = {foreign.physical_key: space.new_version_id() for foreign in wanted}

        async def promise(tx: Txn) -> list[Foreign]:
            return await adoption.promise(tx, space.rules, wanted, list(version_ids.values()), self._wanted.own)

        promised = await space.meta.transact(space.name, promise)
        failpoint("import.after_promise")
        adopted, gone = [], []
        for start in range(0, len(promised), _HEADS):
            some = promised[start : start + _HEADS]
            infos = await asyncio.gather(*(space.store.head(foreign.physical_key) for foreign in some))
            for foreign, info in zip(some, infos, strict=True):
                if info is None:
                    gone.append(foreign)
                else:
                    adopted.append(self._adopted(foreign, info, version_ids[foreign.physical_key]))

        async def commit(tx: Txn) -> list[Outcome]:
            await adoption.forget(tx, space.rules, gone)
            return await adoption.commit(tx, space.rules, adopted, space.now())

        failpoint("import.before_commit")
        outcomes = await space.meta.transact(space.name, commit)
        failpoint("import.after_commit")
        for foreign in gone:
            self._count("gone", foreign.physical_key, foreign.size_bytes)
        for one, outcome in zip(adopted, outcomes, strict=True):
            self._note(outcome, one.foreign)
        standing = {foreign.physical_key for foreign in promised}
        for foreign in wanted:
            if foreign.physical_key not in standing:
                self._note("taken", foreign)

    def _adopted(self, foreign: Foreign, info: BlobInfo, version_id: str) -> Adopted:
        now, lifetime = self._space.now(), self._wanted.lifetime
        seen = msgspec.structs.replace(foreign, etag=info.etag, size_bytes=info.size_bytes)
        row = ObjectRow(
            physical_key=foreign.physical_key,
            version_id=version_id,
            size_bytes=info.size_bytes,
            etag=info.md5 or etag_of(version_id),
            store_etag=info.etag,
            content_type=carried_type(info.content_type, mimetypes.guess_type(foreign.key, strict=False)[0]),
            metadata=carried_metadata(info.metadata, self._space.limits.metadata_bytes),
            modified_at=info.landed_at,
            generation=0,
            dead=now,
            expires_at=None if lifetime is None else whole_second(now + lifetime),
            crc32c=info.crc32c,
            sha256=info.sha256,
            adopted=True,
            own=self._wanted.own,
        )
        return Adopted(foreign=seen, row=row)

    async def _keep_place(self, key: str) -> None:
        async def body(tx: Txn) -> None:
            await keep_cursor(tx, self._space.name, self._name, key, self._space.now())

        await self._space.meta.transact(self._space.name, body)

    def _note(self, outcome: Outcome, foreign: Foreign) -> None:
        self._count(_KINDS[outcome], foreign.physical_key, foreign.size_bytes)

    def _count(self, kind: str, key: str, size_bytes: int) -> None:
        self.report.kinds[kind].note(key, size_bytes, shown=kind not in _QUIET)
