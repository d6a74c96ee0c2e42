"""Rebuild: a namespace's rows are put back from its store alone (`prism catalog rebuild`), after its catalog was lost
or an older one restored.

The store is walked in the order of its keys, in which all contents of one object are neighbours. Everything that an
object needs travels beside its bytes: key, content type, metadata, expiry, etag (`metadata.py`); what has no expiry
there does not expire. What a row, a promise or a garbage row names is left alone, and so is what this catalog knows to
be its own garbage. Staging keys, open multipart uploads and foreign keys are no objects (`prism objectstore import`
brings the foreign ones back). Nothing is deleted. The catalog keeps how far a run came; a second run changes nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from .blob.driver import BlobEntry, BlobInfo
from .catalog import lives, rebuilding, sweep
from .catalog.cursors import forget_cursor, keep_cursor, kept_cursor
from .catalog.objects import whole_second
from .catalog.rebuilding import Contents, Reinstated
from .catalog.rows import ObjectRow, instant
from .catalog.sweep import Name, Stray
from .deletions import Deletions
from .digests import etag_of
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .identifiers import origin_of
from .meta import Txn, View
from .metadata import CRC32C_FIELD, ETAG_FIELD, carried_metadata, carried_type, expires_of, ttl_of
from .namespaces import Namespace
from .uploads import LONGEST
from .walking import Findings, WalkReport, root_of, stray_of, unheard

__all__ = ["KINDS", "Rebuild", "rebuild"]

KINDS = ("objects", "versions", "expired", "reappeared", "older", "known", "garbage", "nameless", "staging", "foreign")
"""`objects` are served again, `versions` kept under them, `expired` the janitor's to remove; `reappeared` are those of
the objects that were deleted after their bytes landed, as far as the audit record tells; `older` is content that a
later one overtook: it stays where it lies, without a row; `known` has a row, `garbage` had one; `nameless` is a long
key whose metadata does not say it; `staging` and `foreign` are not objects of Prism's."""
_MOST_METADATA_BYTES = 65_536
_LISTED = frozenset({"reappeared", "older", "nameless", "foreign"})
_PAGE = 1000
_HEADS = 32
_BATCH = 200
_CURSOR = "rebuild"
_SECOND = timedelta(seconds=1)


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """`add`: the catalog may hold rows of the namespace already. `deletions`: what is known of them otherwise."""

    add: bool = False
    dry_run: bool = False
    deletions: Deletions = msgspec.field(default_factory=Deletions)


async def rebuild(space: Namespace, wanted: Rebuild, watch: Callable[[WalkReport], object] = unheard) -> WalkReport:
    """Put back what the store holds; `watch` hears after each page.

    Errors: PRECONDITION_FAILED when the catalog holds rows of the namespace and `add` was not
    said, STORE_DOWN, CATALOG_DOWN.
    """
    walk = _Walk(space, wanted)
    await walk.begin()
    after = walk.report.went_on_after
    while page := await space.store.list(walk.prefix, after, _PAGE):
        for entry in page:
            await walk.meet(entry)
        after = page[-1].key
        watch(walk.report)
    await walk.end()
    return walk.report


class _Group(msgspec.Struct):
    """The contents of one key that were met so far, in the order of the listing."""

    bucket: str
    key: str
    entries: list[Stray] = []
    landed: dict[str, datetime] = {}
    """When each landed, by physical key."""

    def ordered(self) -> list[Stray]:
        """In the order in which they landed; what landed in the same moment, by version id."""
        return sorted(self.entries, key=lambda stray: (self.landed[stray.physical_key], stray.version_id))


class _Walk:
    """One run. At most a batch of contents is held, of one key or of several."""

    def __init__(self, space: Namespace, wanted: Rebuild) -> None:
        self.prefix = root_of(space)
        kinds = {kind: Findings() for kind in KINDS}
        self.report = WalkReport(namespace=space.name, dry_run=wanted.dry_run, kinds=kinds)
        self._space = space
        self._wanted = wanted
        self._groups: list[_Group] = []
        self._held = 0

    async def begin(self) -> None:
        """Refuse a catalog in use; go on with an interrupted run."""
        space = self._space

        async def body(view: View) -> tuple[str, bool]:
            cursor = await kept_cursor(view, space.name, _CURSOR)
            return cursor, await rebuilding.holds_anything(view, space.name)

        cursor, in_use = await space.meta.read(body)
        if in_use and not cursor and not self._wanted.add:
            what = "the catalog holds rows of it already; say --add to add what is missing"
            raise PrismError(ErrorCode.PRECONDITION_FAILED, f"namespace {space.name!r}: {what}")
        if not self._wanted.dry_run:
            self.report.went_on_after = self.report.at = cursor

    async def meet(self, entry: BlobEntry) -> None:
        """The next key of the listing."""
        parsed = self._space.layout.parse(entry.key)
        if parsed is None or parsed.staging:
            if entry.key != self._space.layout.owner:
                self._count("foreign" if parsed is None else "staging", entry.key, entry.size_bytes)
            return
        stray = await stray_of(self._space, entry, parsed)
        if stray is None:
            self._count("nameless", entry.key, entry.size_bytes)
            return
        group = self._groups[-1] if self._groups else None
        if group is None or (group.bucket, group.key) != (stray.bucket, stray.key):
            if self._held >= _BATCH:
                await self._flush()
            group = _Group(stray.bucket, stray.key)
            self._groups.append(group)
        group.landed[entry.key] = entry.landed_at
        group.entries.append(stray)
        self._held += 1
        if len(group.entries) > 2 * _BATCH:
            await self._shorten(group)

    async def _shorten(self, group: _Group) -> None:
        """One key has more contents than are held at a time: those so far are put back where versions are kept, and
        elsewhere all but the newest of them are older for certain."""
        if self._space.rules.versioning:
            await self._flush()
            return
        *older, newest = group.ordered()
        for stray in older:
            self._note("older", stray)
        self._held -= len(older)
        group.entries, group.landed = [newest], {newest.physical_key: group.landed[newest.physical_key]}

    async def end(self) -> None:
        """The last batch; the walk is done."""
        await self._flush()
        space = self._space
        if not self._wanted.dry_run:
            await space.meta.transact(space.name, lambda tx: forget_cursor(tx, space.name, _CURSOR))

    async def _flush(self) -> None:
        """Put the held contents back, whole keys in the order of the listing."""
        groups, self._groups, self._held = self._groups, [], 0
        if not groups:
            return
        last = groups[-1].entries[-1].physical_key
        found = await self._told(await self._lost(groups))
        if self._wanted.dry_run:
            for contents in found:
                self._would(contents)
            return
        await self._reinstate(found, last)

    async def _lost(self, groups: Sequence[_Group]) -> list[_Group]:
        """Of each key, the contents that nothing names, in the order in which they landed."""
        strays = [stray for group in groups for stray in group.entries]

        async def body(view: View) -> tuple[list[Name | None], frozenset[str]]:
            named = await sweep.names(view, self._space.rules, strays)
            return named, await lives.proven(view, [stray.version_id for stray in strays])

        named, proven = await self._space.meta.read(body)
        lost: set[str] = set()
        for stray, name in zip(strays, named, strict=True):
            if name is not None or stray.version_id in proven:
                self._note("garbage" if name is None else "known", stray)
            else:
                lost.add(stray.physical_key)
        return [
            _Group(group.bucket, group.key, entries, group.landed)
            for group in groups
            if (entries := self._overtaken([s for s in group.ordered() if s.physical_key in lost]))
        ]

    def _overtaken(self, ordered: list[Stray]) -> list[Stray]:
        """Without what a later content overtook, where versions are not kept."""
        if self._space.rules.versioning:
            return ordered
        for stray in ordered[:-1]:
            self._note("older", stray)
        return ordered[-1:]

    async def _told(self, groups: Sequence[_Group]) -> list[Contents]:
        """What the store says of them; what went meanwhile is left out."""
        keys = [stray.physical_key for group in groups for stray in group.entries]
        infos: dict[str, BlobInfo] = {}
        for start in range(0, len(keys), _HEADS):
            some = keys[start : start + _HEADS]
            for key, info in zip(some, await asyncio.gather(*map(self._space.store.head, some)), strict=True):
                if info is not None:
                    infos[key] = info
        found = []
        for group in groups:
            rows = [self._row(one, infos[one.physical_key]) for one in group.entries if one.physical_key in infos]
            if rows:
                found.append(Contents(bucket=group.bucket, key=group.key, rows=rows))
        return found

    def _row(self, stray: Stray, info: BlobInfo) -> ObjectRow:
        rules, now = self._space.rules, self._space.now()
        return ObjectRow(
            physical_key=stray.physical_key,
            version_id=stray.version_id,
            size_bytes=info.size_bytes,
            etag=info.metadata.get(ETAG_FIELD) or info.md5 or etag_of(stray.version_id),
            store_etag=info.etag,
            content_type=carried_type(info.content_type),
            metadata=carried_metadata(info.metadata, _MOST_METADATA_BYTES),
            modified_at=info.landed_at,
            generation=0,
            dead=now + LONGEST + rules.clock_skew + rules.max_transfer + rules.late_write,
            expires_at=_expiry(stray, info, rules.max_transfer, rules.times_cut),
            crc32c=info.metadata.get(CRC32C_FIELD) or info.crc32c,
            sha256=info.sha256,
        )

    def _would(self, contents: Contents) -> None:
        *under, newest = contents.rows
        for row in under:
            self._count("versions", row.physical_key, row.size_bytes)
        self._served(contents, newest)

    def _served(self, contents: Contents, row: ObjectRow) -> None:
        expired = row.expires_at is not None and row.expires_at <= self._space.now()
        self._count("expired" if expired else "objects", row.physical_key, row.size_bytes)
        deleted_at = self._wanted.deletions.of(contents.bucket, contents.key)
        if not expired and deleted_at is not None and deleted_at >= row.modified_at:
            self._count("reappeared", row.physical_key, row.size_bytes)

    async def _reinstate(self, found: Sequence[Contents], last: str) -> None:
        space = self._space

        async def body(tx: Txn) -> list[Reinstated]:
            done = await rebuilding.reinstate(tx, space.rules, found, space.now())
            await keep_cursor(tx, space.name, _CURSOR, last, space.now())
            return done

        failpoint("rebuild.before_commit")
        done = await space.meta.transact(space.name, body)
        failpoint("rebuild.after_commit")
        self.report.at = last
        for contents, outcome in zip(found, done, strict=True):
            self._tell(contents, outcome)

    def _note(self, kind: str, stray: Stray) -> None:
        self._count(kind, stray.physical_key, stray.size_bytes)

    def _count(self, kind: str, key: str, size_bytes: int) -> None:
        self.report.kinds[kind].note(key, size_bytes, shown=kind in _LISTED)

    def _tell(self, contents: Contents, outcome: Reinstated) -> None:
        for row in contents.rows:
            if row.physical_key == outcome.current:
                self._served(contents, row)
                continue
            kind = next(kind for kind in ("versions", "older", "known") if row.physical_key in _kept(outcome, kind))
            self._count(kind, row.physical_key, row.size_bytes)


def _expiry(stray: Stray, info: BlobInfo, longest: timedelta, cut: timedelta) -> datetime | None:
    """When the object expires, a moment later rather than earlier.

    A client's lifetime begins when its bytes land. What a Prism process wrote carries the expiry as it was when the
    write began, as its version id did; the lifetime began when it ended, and stores tell that to the second.
    `cut`: how much later than it says this one may have taken a client's bytes.
    """
    ttl, expires_at = ttl_of(info.metadata), expires_of(info.metadata)
    if expires_at is not None:
        begun = origin_of(stray.version_id)
        took = timedelta(0) if begun is None else info.landed_at - instant(begun[1])
        return whole_second(expires_at + min(max(took, timedelta(0)), longest) + _SECOND)
    return None if ttl is None else whole_second(info.landed_at + timedelta(seconds=ttl) + cut)


def _kept(outcome: Reinstated, kind: str) -> Sequence[str]:
    return {"versions": outcome.versions, "older": outcome.older, "known": outcome.named}[kind]
