"""Checks of what Prism itself asks of a store: to write, read, list, write once, keep metadata, copy, take parts."""

from collections.abc import AsyncIterator
from datetime import timedelta

from ..blob.bucket_notes import deletes_itself, keeps_deleted
from ..blob.driver import AlreadyExists, BucketSettings, EtagMismatch, WriteOptions
from ..config import RemoteStore
from ..errors import ErrorCode, PrismError
from ..model import ByteRange
from .diagnosis import Finding, Outcome
from .probing import Probes

__all__ = ["bucket", "clock", "conditional_delete", "conditional_put", "copy", "multipart", "reach", "rights"]

_SKEW = timedelta(seconds=5)
_CONTENT = b"what the doctor wrote"
_METADATA = {"prism-key": "doctor/é", "note": "kept"}


def _ok(check: str, said: str) -> list[Finding]:
    return [Finding(check=check, outcome=Outcome.OK, said=said)]


def _lacks(check: str, said: str, advice: str = "") -> list[Finding]:
    return [Finding(check=check, outcome=Outcome.LACKS, said=said, advice=advice)]


def _failed(check: str, said: str, advice: str) -> list[Finding]:
    return [Finding(check=check, outcome=Outcome.FAILED, said=said, advice=advice)]


async def reach(probes: Probes) -> list[Finding]:
    """The store answers."""
    await probes.store.now()
    return _ok("reach", "the store answers")


async def clock(probes: Probes) -> list[Finding]:
    """Its clock is ours, but for what signatures and the janitor allow."""
    before = probes.now()
    theirs = await probes.store.now()
    ahead = theirs - before if theirs < before else max(theirs - probes.now(), timedelta(0))
    seconds = ahead.total_seconds()
    if abs(ahead) <= _SKEW:
        return _ok("clock", f"{seconds:+.0f} s")
    what = f"the store's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
    return _failed("clock", what, "set the clocks by NTP: signatures fail, and no bytes are deleted, until they agree")


async def rights(probes: Probes) -> list[Finding]:
    """Write, read whole and in part, look, list."""
    key = probes.key("rights")
    options = WriteOptions(content_type="text/plain", metadata=_METADATA, tags={"ttl": "4102444800"})
    stored = await probes.put(key, _CONTENT, options)
    findings = _ok("write", f"{stored.size_bytes} bytes written")
    if await probes.read(key, stored.etag) != _CONTENT:
        return [*findings, *_failed("read", "other bytes came back than were written", "do not use this store")]
    opened = await probes.store.get(key, ByteRange(5, 3), stored.etag)
    part = b"".join([chunk async for chunk in opened.body])
    if part != _CONTENT[5:8]:
        return [*findings, *_failed("read", "a range gave other bytes than were asked for", "do not use this store")]
    findings += _ok("read", "whole, and in part")
    info = await probes.store.head(key)
    kept = {} if info is None else {name: info.metadata.get(name) for name in _METADATA}
    if info is None or kept != _METADATA or info.content_type != "text/plain":
        advice = "`prism catalog rebuild` could not bring objects back from this store: keep exports of the catalog"
        findings.append(Finding(check="metadata", outcome=Outcome.NOTE, said="not kept as written", advice=advice))
    else:
        findings += _ok("metadata", "content type and metadata come back")
    listed = [entry.key for entry in await probes.store.list(key, "", 2)]
    if listed != [key]:
        return [*findings, *_failed("list", "a listing does not show what was written", "give the right to list")]
    return findings + _ok("list", "shows what was written")


async def conditional_put(probes: Probes) -> list[Finding]:
    """A second create-only write of a key is refused."""
    key = probes.key("create-only")
    await probes.put(key, b"first")
    probes.able["conditional_put"] = False
    try:
        await probes.put(key, b"second")
    except AlreadyExists:
        if await probes.read(key) == b"first":
            probes.able["conditional_put"] = True
            return _ok("conditional write", "a second create-only write is refused")
    advice = "nothing to do: Prism never uses a key twice; URLs for uploads go by staging keys"
    return _lacks("conditional write", "a second create-only write is not refused", advice)


async def conditional_delete(probes: Probes) -> list[Finding]:
    """A delete that is pinned to other bytes spares these."""
    key = probes.key("pinned-delete")
    first = await probes.put(key, b"first", WriteOptions(create_only=False))
    second = await probes.put(key, b"second", WriteOptions(create_only=False))
    probes.able["conditional_delete"] = False
    advice = "`prism objectstore import --own` is refused on this store"
    try:
        await probes.store.delete_if(key, first.etag)
    except EtagMismatch:
        pass
    except PrismError as error:
        if error.code is not ErrorCode.UNIMPLEMENTED:
            raise
        return _lacks("conditional delete", "not offered", advice)
    if await probes.store.head(key) is None or first.etag == second.etag:
        return _lacks("conditional delete", "a condition on a delete is ignored", advice)
    await probes.store.delete_if(key, second.etag)
    if await probes.store.head(key) is not None:
        return _lacks("conditional delete", "a delete whose condition holds does nothing", advice)
    probes.able["conditional_delete"] = True
    return _ok("conditional delete", "spares bytes that are others")


async def copy(probes: Probes) -> list[Finding]:
    """A copy inside the store is pinned to its source."""
    probes.able["copy"] = False
    if not probes.store.capabilities.copy:
        return _lacks("copy", "not offered", "copies pass through Prism")
    source, wrong = probes.key("copy-source"), probes.key("copy-wrong")
    old = await probes.put(source, b"old", WriteOptions(create_only=False))
    new = await probes.put(source, b"newer", WriteOptions(create_only=False))
    options = WriteOptions(content_type="text/plain", metadata=_METADATA)
    target = probes.key("copy")
    await probes.store.copy(source, new.etag, target, options)
    if await probes.read(target) != b"newer":
        return _failed("copy", "a copy holds other bytes than its source", "do not use this store")
    try:
        await probes.store.copy(source, old.etag, wrong, options)
    except EtagMismatch:
        probes.able["copy"] = True
        return _ok("copy", "pinned to its source")
    return _lacks("copy", "a condition on a copy's source is ignored", "copies pass through Prism")


async def multipart(probes: Probes) -> list[Finding]:
    """An object in parts, through Prism."""
    probes.able["multipart"] = False
    able = probes.store.capabilities
    if not able.multipart:
        return _lacks("multipart", "not offered", "uploads in parts are refused")
    key, options = probes.key("parts"), WriteOptions(content_type="text/plain", metadata=_METADATA)
    upload = await probes.store.create_multipart(key, options)
    first = bytes(max(able.smallest_part_bytes, 1))
    sent = [
        await probes.store.put_part(key, upload, number, _pieces(content), len(content))
        for number, content in ((1, first), (2, b"end"))
    ]
    if [part.number for part in await probes.store.list_parts(key, upload)] != [1, 2]:
        return _failed("multipart", "the parts that were sent are not listed", "uploads in parts cannot go on")
    found = any(one.upload == upload for one in await probes.store.open_multiparts(key))
    await probes.store.complete_multipart(key, upload, sent, options)
    info = await probes.store.head(key)
    if info is None or info.size_bytes != len(first) + 3:
        return _failed("multipart", "the parts did not make the object", "uploads in parts are not safe here")
    probes.able["multipart"] = True
    if found:
        return _ok("multipart", f"parts of {able.smallest_part_bytes:,} bytes and more")
    said, advice = "open uploads are not listed", "let a rule of the bucket abort incomplete uploads after some days"
    return [Finding(check="multipart", outcome=Outcome.NOTE, said=said, advice=advice)]


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 2**20):
        yield content[start : start + 2**20]


async def bucket(probes: Probes) -> list[Finding]:
    """What the bucket does by itself."""
    if not isinstance(probes.space.store, RemoteStore):
        return []
    settings = await probes.store.settings()
    notes = keeps_deleted(settings)
    findings = [Finding(check="versioning", outcome=Outcome.NOTE, said=n.said, advice=n.advice) for n in notes]
    if not notes:
        known = settings.versioning is not None
        findings += _ok("versioning", "off") if known else [_unknown("versioning")]
    return [*findings, *_lifecycle(settings)]


def _lifecycle(settings: BucketSettings) -> list[Finding]:
    for note in deletes_itself(settings):
        return _failed("lifecycle", note.said, note.advice)
    if settings.expires_objects is None:
        return [_unknown("lifecycle")]
    days = settings.aborts_uploads_days
    aborting = f"; incomplete uploads are aborted after {days} days" if days else ""
    return _ok("lifecycle", f"no rule deletes objects{aborting}")


def _unknown(check: str) -> Finding:
    return Finding(check=check, outcome=Outcome.NOTE, said="the store does not say")
