"""What headers and queries of S3 requests say, as typed values: one rule for every operation that has them."""

import re
from urllib.parse import quote, unquote_to_bytes

from ..model import Conditions, ObjectInfo, ObjectRef, RangeSpec
from .conditions import etags_of
from .headers import Header, read_text
from .s3_exchange import S3Request, invalid, unimplemented

__all__ = [
    "META",
    "Encode",
    "copied_range",
    "copy_conditions",
    "copy_source",
    "encoding_of",
    "metadata_of",
    "number_of",
    "refuse_unkept",
    "version_headers",
]

META = b"x-amz-meta-"
_REFUSED = (
    *("x-amz-server-side-encryption", "x-amz-tagging", "x-amz-object-lock-", "x-amz-website-redirect-location"),
    *("x-amz-grant-", "x-amz-write-offset-bytes", "x-amz-copy-source-server-side-encryption"),
    *("content-disposition", "content-language", "content-range", "expires", "if-unmodified-since"),
)
_ONE_VALUE = {"x-amz-acl": {"private", "bucket-owner-full-control"}, "x-amz-storage-class": {"STANDARD"}}
_COPY_CONDITIONS = tuple(
    f"x-amz-copy-source-if-{name}" for name in ("none-match", "modified-since", "unmodified-since")
)
_COPIED_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})\Z")


def refuse_unkept(request: S3Request) -> None:
    """UNIMPLEMENTED for a header that would make the object something that Prism cannot keep."""
    headers = request.headers
    for name in headers:
        if name.startswith(_REFUSED):
            raise unimplemented(f"the header {name[:80]}")
    for name, known in _ONE_VALUE.items():
        if headers.get(name, next(iter(known))) not in known:
            raise unimplemented(f"{name}: {headers[name][:80]}")
    encodings = {token.strip().lower() for token in headers.get("content-encoding", "").split(",")}
    if encodings - {"aws-chunked", "identity", ""}:
        raise unimplemented("the header content-encoding")


def metadata_of(request: S3Request) -> dict[str, str]:
    """The user metadata of the headers."""
    return {
        name.decode("latin-1")[len(META) :]: read_text(name.decode("latin-1"), value)
        for name, value in request.raw_headers.items()
        if name.startswith(META)
    }


def copy_source(request: S3Request) -> ObjectRef:
    """The object that is to be copied, of the key's namespace."""
    text, _, version = request.headers["x-amz-copy-source"].partition("?")
    if version:
        raise unimplemented("copying by version")
    try:
        bucket, _, key = unquote_to_bytes(text.removeprefix("/")).decode().partition("/")
    except UnicodeDecodeError as error:
        raise invalid("InvalidArgument", "x-amz-copy-source is not UTF-8") from error
    if not bucket or not key:
        raise invalid("InvalidArgument", "x-amz-copy-source is BUCKET/KEY, percent-encoded")
    return ObjectRef(request.namespace, bucket, key)


def copy_conditions(request: S3Request) -> Conditions | None:
    """What must hold of the source of a copy; UNIMPLEMENTED for conditions other than If-Match."""
    for name in _COPY_CONDITIONS:
        if name in request.headers:
            raise unimplemented(f"the header {name}")
    etags = etags_of(request.raw_headers, "x-amz-copy-source-if-match", weak=False, bare=True)
    return None if etags is None else Conditions(if_match=etags)


def copied_range(request: S3Request) -> RangeSpec | None:
    """Which bytes of the source a part is to hold; None for all."""
    text = request.headers.get("x-amz-copy-source-range")
    if text is None:
        return None
    found = _COPIED_RANGE.match(text)
    if found is None or int(found[1]) > int(found[2]):
        raise invalid("InvalidArgument", "x-amz-copy-source-range is bytes=FIRST-LAST")
    return RangeSpec(start=int(found[1]), end=int(found[2]))


def version_headers(info: ObjectInfo) -> list[Header]:
    """The version id, where the namespace keeps versions."""
    return [(b"x-amz-version-id", info.version_id.encode())] if info.versioned else []


class Encode:
    """How names are written: percent-encoded if the client asked for it, else as they are."""

    def __init__(self, *, url: bool) -> None:
        self._url = url

    def __call__(self, text: str) -> str:
        return quote(text, safe="/-_.~") if self._url else text


def encoding_of(request: S3Request) -> Encode:
    """What the client asked for (`encoding-type`)."""
    kind = request.query.get("encoding-type")
    if kind not in {None, "url"}:
        raise invalid("InvalidArgument", "encoding-type is url")
    return Encode(url=kind == "url")


def number_of(request: S3Request, name: str, most: int, *, least: int = 0, default: int | None = None) -> int:
    """A number of the query, at most `most`; `default` (or `most`) when it is not there."""
    text = request.query.get(name, "")
    if not text:
        return most if default is None else default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) >= least):
        raise invalid("InvalidArgument", f"{name} is a number, {least} or more")
    return min(int(text), most)
