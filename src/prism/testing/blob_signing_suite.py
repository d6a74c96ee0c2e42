"""The conformance suite of presigned URLs (`SignPower`), used as clients use them: by plain HTTP, with no library.

Whoever inherits gives `driver` and `http` (`plain_http.PlainHTTP` for real servers). What a URL insists on is tried for
everything in `capabilities.binds`. A test server that does not look at signatures, or at some bound fact, is named:
`verifies_signatures` and `enforces`; the suite then expects that server to let the wrong request pass, so that the
attribute has to go on the day it no longer does.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from ..blob import BlobStore
from ..blob.driver import Bound, Signed, WriteOptions
from ..blob.memory_blobs import checksum
from ..blob.memory_front import Answer
from ..errors import ErrorCode, PrismError
from ..model import Bindable
from .blob_calls import MIB, StoreSuite, absent, all_keys, content_of, pattern, put

__all__ = ["HTTP", "SigningSuite", "UnsignedSuite"]

HTTP = Callable[[str, str, Mapping[str, str], bytes], Awaitable[Answer]]
_CONTENT = b"content"
_OTHER = b"CONTENT"
_FACTS: dict[Bindable, Bound] = {
    "size": Bound(size_bytes=len(_CONTENT)),
    "content_type": Bound(content_type="image/png"),
    "metadata": Bound(metadata={"prism-key": "ä", "name": "v"}),
    "sha256": Bound(sha256=checksum("sha256", _CONTENT)),
    "crc32c": Bound(crc32c=checksum("crc32c", _CONTENT)),
    "md5": Bound(md5=checksum("md5", _CONTENT)),
    "create_only": Bound(create_only=True),
}


class SigningSuite(StoreSuite):
    """Inherit it and give `driver` and `http`."""

    verifies_signatures = True
    """The server refuses a request whose signature, expiry, method, key or signed header is not the signed one."""
    enforces: frozenset[Bindable] | None = None
    """Which of `capabilities.binds` the server insists on; None: all."""
    part_urls_outlive_uploads = False
    """A part's URL still writes when its upload is over. What it wrote is invisible, found again and removed."""
    refuses_unsigned_copies = True
    """A sender cannot add a header that makes the store copy another object. Where he can, no bond holds."""
    hostile_keys: Sequence[str] = ()

    @pytest.fixture
    async def now(self, store: BlobStore) -> datetime:
        """The store's time."""
        assert store.capabilities.sign
        return await store.now()

    def refused(self, answer: Answer) -> bool:
        """Whether the answer is what a request that was not signed so deserves."""
        if not self.verifies_signatures:
            assert answer.status < 300, "the server verifies now: verifies_signatures has to go"
            return False
        assert 400 <= answer.status < 500, answer.status
        return True

    def insists(self, answer: Answer, fact: Bindable) -> bool:
        """Whether the answer is a refusal, for this bound fact."""
        if self.enforces is not None and fact not in self.enforces:
            assert answer.status < 300, f"the server insists on {fact} now: enforces has to name it"
            return False
        assert 400 <= answer.status < 500, answer.status
        return True

    # -- reads

    async def test_a_get_url_reads(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        content = pattern(MIB + 3)
        await put(store, "d/k", content, options=WriteOptions(content_type="image/png"))
        signed = await store.sign_get("d/k", now, 60)
        for _ in range(2):
            answer = await http("GET", signed.url, signed.headers, b"")
            assert (answer.status, answer.headers.get("content-type")) == (200, "image/png")
            assert answer.content == content

    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [("0-0", 0, 1), ("5-9", 5, 10), ("90-", 90, 100), ("-7", 93, 100), ("50-500", 50, 100)],
    )
    async def test_a_get_url_reads_ranges(
        self, store: BlobStore, http: HTTP, now: datetime, asked: str, start: int, end: int
    ) -> None:
        content = pattern(100)
        await put(store, "d/k", content)
        signed = await store.sign_get("d/k", now, 60)
        answer = await http("GET", signed.url, {**signed.headers, "Range": f"bytes={asked}"}, b"")
        assert (answer.status, answer.content) == (206, content[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/100"

    async def test_a_range_outside(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        await put(store, "d/k", b"x")
        signed = await store.sign_get("d/k", now, 60)
        assert (await http("GET", signed.url, {**signed.headers, "Range": "bytes=1-"}, b"")).status == 416

    async def test_a_get_url_says_how_to_answer(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        await put(store, "d/k", b"x", options=WriteOptions(content_type="text/html"))
        disposition = "attachment; filename=\"a b.txt\"; filename*=UTF-8''%C3%A4%20b.txt"
        signed = await store.sign_get("d/k", now, 60, "text/plain; charset=utf-8", disposition)
        answer = await http("GET", signed.url, signed.headers, b"")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-disposition"] == disposition

    async def test_an_absent_key_is_absent(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        signed = await store.sign_get("d/k", now, 60)
        assert (await http("GET", signed.url, signed.headers, b"")).status == 404

    async def test_hostile_keys_are_signed(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        for key in self.hostile_keys:
            signed = await store.sign_put(key, now, 60, Bound())
            assert (await http("PUT", signed.url, signed.headers, key.encode())).status < 300
            signed = await store.sign_get(key, now, 60)
            assert (await http("GET", signed.url, signed.headers, b"")).content == key.encode()
            assert await content_of(store, key) == key.encode()

    # -- what a URL is not for

    async def test_a_get_url_is_for_its_key_and_method_only(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        for key in ("d/k", "d/kk"):
            await put(store, key, b"x")
        signed = await store.sign_get("d/k", now, 60)
        for url in (_with_path(signed.url, "d/k", "d/kk"), *_altered(signed.url)):
            self.refused(await http("GET", url, signed.headers, b""))
        for method in ("PUT", "DELETE"):
            answer = await http(method, signed.url, signed.headers, b"")
            if self.refused(answer):
                assert await content_of(store, "d/k") == b"x"

    async def test_a_put_url_is_for_its_key_and_method_only(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        await put(store, "d/old", b"old")
        signed = await store.sign_put("d/k", now, 60, Bound())
        for url in (
            _with_path(signed.url, "d/k", "d/kk"),
            _with_path(signed.url, "d/k", "d/old"),
            *_altered(signed.url),
        ):
            self.refused(await http("PUT", url, signed.headers, b"x"))
        if self.verifies_signatures:
            assert [entry.key for entry in await store.list("")] == ["d/old"]
            assert await content_of(store, "d/old") == b"old"
            assert (await http("PUT", signed.url, signed.headers, b"x")).status < 300
        for method in ("GET", "DELETE"):
            self.refused(await http(method, signed.url, signed.headers, b""))
        if self.verifies_signatures:
            assert await content_of(store, "d/k") == b"x"

    async def test_a_url_is_over_after_its_time(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        await put(store, "d/k", b"x")
        before = now - timedelta(hours=1, minutes=1)
        get = await store.sign_get("d/k", before, 3600)
        self.refused(await http("GET", get.url, get.headers, b""))
        for key, bound in (("d/new", Bound()), ("d/only", Bound(create_only=True))):
            signed = await store.sign_put(key, before, 3600, bound)
            if self.refused(await http("PUT", signed.url, signed.headers, b"x")):
                assert await absent(store, key)
        lasting = await store.sign_get("d/k", now - timedelta(minutes=55), 3600)
        assert (await http("GET", lasting.url, lasting.headers, b"")).status == 200

    # -- writes

    async def test_a_put_url_writes(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        content = pattern(MIB + 3)
        signed = await store.sign_put("d/k", now, 60, Bound())
        answer = await http("PUT", signed.url, {**signed.headers, "Content-Type": "image/png"}, content)
        assert answer.status < 300
        info = await store.head("d/k")
        assert info is not None
        assert (info.size_bytes, info.content_type) == (len(content), "image/png")
        assert await content_of(store, "d/k", if_match=info.etag) == content

    async def test_an_empty_object(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        signed = await store.sign_put("d/k", now, 60, Bound(size_bytes=0))
        assert (await http("PUT", signed.url, signed.headers, b"")).status < 300
        assert await content_of(store, "d/k") == b""

    async def test_an_unbound_url_writes_again(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        signed = await store.sign_put("d/k", now, 60, Bound())
        etags = []
        for content in (b"first", b"second"):
            assert (await http("PUT", signed.url, signed.headers, content)).status < 300
            assert await content_of(store, "d/k") == content
            info = await store.head("d/k")
            assert info is not None
            etags.append(info.etag)
        assert len(set(etags)) == 2

    async def test_everything_bound_at_once(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        signed = await store.sign_put("d/k", now, 60, _everything(store))
        assert (await http("PUT", signed.url, signed.headers, _CONTENT)).status < 300
        assert await content_of(store, "d/k") == _CONTENT
        info = await store.head("d/k")
        assert info is not None
        if "content_type" in store.capabilities.binds:
            assert info.content_type == "image/png"
        if "metadata" in store.capabilities.binds:
            assert dict(info.metadata) == _FACTS["metadata"].metadata
        for name in ("sha256", "crc32c", "md5"):
            assert getattr(info, name) in {None, getattr(_FACTS[name], name)}

    @pytest.mark.parametrize("fact", _FACTS)
    async def test_what_is_not_bound_is_left_out(
        self, store: BlobStore, http: HTTP, now: datetime, fact: Bindable
    ) -> None:
        if fact in store.capabilities.binds:
            pytest.skip("it is bound")
        plain = await store.sign_put("d/k", now, 60, Bound())
        signed = await store.sign_put("d/k", now, 60, _FACTS[fact])
        assert signed.headers.keys() == plain.headers.keys()
        assert (await http("PUT", signed.url, signed.headers, _OTHER + b"!")).status < 300

    @pytest.mark.parametrize("fact", ["sha256", "crc32c", "md5"])
    async def test_other_bytes_than_the_bound_checksum_are_refused(
        self, store: BlobStore, http: HTTP, now: datetime, fact: Bindable
    ) -> None:
        signed = await _bound(store, now, fact)
        if self.insists(await http("PUT", signed.url, signed.headers, _OTHER), fact):
            assert await absent(store, "d/k")
        assert (await http("PUT", signed.url, signed.headers, _CONTENT)).status < 300
        assert await content_of(store, "d/k") == _CONTENT

    async def test_another_length_than_the_bound_one_is_refused(
        self, store: BlobStore, http: HTTP, now: datetime
    ) -> None:
        signed = await _bound(store, now, "size")
        for content in (_CONTENT + b"!", _CONTENT[:-1], b""):
            headers = {**_without(signed.headers, "content-length"), "Content-Length": str(len(content))}
            if self.insists(await http("PUT", signed.url, headers, content), "size"):
                assert await absent(store, "d/k")
        assert (await http("PUT", signed.url, signed.headers, _CONTENT)).status < 300

    @pytest.mark.parametrize("said", ["text/html", "image/pngx", None])
    async def test_another_type_than_the_bound_one_is_refused(
        self, store: BlobStore, http: HTTP, now: datetime, said: str | None
    ) -> None:
        signed = await _bound(store, now, "content_type")
        headers = _without(signed.headers, "content-type") | ({"Content-Type": said} if said else {})
        if self.insists(await http("PUT", signed.url, headers, _CONTENT), "content_type"):
            assert await absent(store, "d/k")
        assert (await http("PUT", signed.url, signed.headers, _CONTENT)).status < 300

    @pytest.mark.parametrize("fact", _FACTS)
    async def test_a_bound_header_may_not_be_left_out_or_changed(
        self, store: BlobStore, http: HTTP, now: datetime, fact: Bindable
    ) -> None:
        if fact in {"size", "content_type"}:
            pytest.skip("has a test of its own")
        signed = await _bound(store, now, fact)
        plain = await store.sign_put("d/k", now, 60, Bound())
        mine = [name for name in signed.headers if name.lower() not in {other.lower() for other in plain.headers}]
        assert mine, f"{fact} is declared to be bound, and no header says it"
        for name in mine:
            for headers in (_without(signed.headers, name), {**signed.headers, name: _changed(signed.headers[name])}):
                if self.insists(await http("PUT", signed.url, headers, _CONTENT), fact):
                    assert await absent(store, "d/k")
        assert (await http("PUT", signed.url, signed.headers, _CONTENT)).status < 300

    async def test_a_create_only_url_writes_once(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        signed = await _bound(store, now, "create_only")
        assert (await http("PUT", signed.url, signed.headers, b"first")).status < 300
        first = await store.head("d/k")
        assert first is not None
        for content in (b"second", b"first"):
            answer = await http("PUT", signed.url, signed.headers, content)
            if self.insists(answer, "create_only"):
                assert answer.status in {409, 412}
                assert await content_of(store, "d/k", if_match=first.etag) == b"first"

    async def test_a_copy_that_nobody_signed_is_refused(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        await put(store, "d/other", b"other")
        signed = await _bound(store, now, "create_only")
        path = urlsplit(signed.url).path.replace("d/k", "d/other")
        for name in ("x-amz-copy-source", "x-goog-copy-source"):
            answer = await http("PUT", signed.url, {**signed.headers, name: path}, b"mine")
            found = None if await store.head("d/k") is None else await content_of(store, "d/k")
            if self.refuses_unsigned_copies:
                assert (answer.status >= 400 and found is None) or found == b"mine"
                continue
            assert found == b"other", "the server refuses it now: refuses_unsigned_copies has to go"
            return

    # -- parts

    @pytest.fixture
    def parts(self, store: BlobStore) -> None:
        """Only for stores that take parts."""
        if not store.capabilities.multipart:
            pytest.skip("no parts are declared")

    @pytest.mark.usefixtures("parts")
    async def test_parts_come_by_urls(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        content = pattern(max(1000, store.capabilities.smallest_part_bytes) + 11)
        pieces = [content[:-11], content[-11:]]
        options = WriteOptions(content_type="image/png", metadata={"a": "b"})
        upload = await store.create_multipart("d/k", options)
        late = await store.sign_part("d/k", upload, 2, now, 60, len(pieces[1]))
        for number in (2, 1):
            piece = pieces[number - 1]
            signed = await store.sign_part("d/k", upload, number, now, 60, len(piece))
            assert (await http("PUT", signed.url, signed.headers, piece)).status < 300
        assert await absent(store, "d/k")
        parts = await store.list_parts("d/k", upload)
        assert [(part.number, part.size_bytes) for part in parts] == [(1, len(pieces[0])), (2, 11)]
        stored = await store.complete_multipart("d/k", upload, parts, options)
        assert await content_of(store, "d/k") == content
        answer = await http("PUT", late.url, late.headers, pieces[1])
        assert (answer.status < 300) if self.part_urls_outlive_uploads else (400 <= answer.status < 500)
        assert await all_keys(store) == ["d/k"]
        for found in await store.open_multiparts("d/k"):
            await store.abort_multipart("d/k", found.upload)
        assert not await store.open_multiparts("d/k")
        assert await content_of(store, "d/k", if_match=stored.etag) == content

    @pytest.mark.usefixtures("parts")
    async def test_a_part_url_is_for_its_part_only(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        signed = await store.sign_part("d/k", upload, 1, now, 60, None)
        other = await store.sign_part("d/k", upload, 2, now, 60, None)
        swapped = _swapped(signed.url, other.url)
        assert swapped != signed.url
        for url in (swapped, _with_path(signed.url, "d/k", "d/kk"), *_altered(signed.url)):
            self.refused(await http("PUT", url, signed.headers, b"x"))
        if self.verifies_signatures:
            assert list(await store.list_parts("d/k", upload)) == []
        self.refused(await http("DELETE", signed.url, signed.headers, b""))
        over = await store.sign_part("d/k", upload, 1, now - timedelta(hours=1, minutes=1), 3600, None)
        self.refused(await http("PUT", over.url, over.headers, b"x"))
        await store.abort_multipart("d/k", upload)
        assert not await store.open_multiparts("d/k")

    @pytest.mark.usefixtures("parts")
    async def test_a_part_urls_size_is_bound(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        if "size" not in store.capabilities.binds:
            pytest.skip("sizes are not bound")
        upload = await store.create_multipart("d/k", WriteOptions())
        signed = await store.sign_part("d/k", upload, 1, now, 60, 5)
        headers = _without(signed.headers, "content-length")
        for content in (b"123456", b"1234"):
            answer = await http("PUT", signed.url, {**headers, "Content-Length": str(len(content))}, content)
            if self.insists(answer, "size"):
                assert list(await store.list_parts("d/k", upload)) == []
        assert (await http("PUT", signed.url, signed.headers, b"12345")).status < 300
        await store.abort_multipart("d/k", upload)

    # -- the front door

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a\nb"])
    async def test_no_url_writes_a_key_that_no_layout_makes(self, store: BlobStore, now: datetime, key: str) -> None:
        with pytest.raises(ValueError, match="not a physical key"):
            await store.sign_put(key, now, 60, Bound())


class UnsignedSuite(StoreSuite):
    """For drivers that do not sign."""

    async def test_a_store_that_cannot_sign_says_so(self, store: BlobStore) -> None:
        now = await store.now()
        assert not store.capabilities.sign
        for work in (store.sign_get("k", now, 60), store.sign_put("k", now, 60, Bound())):
            with pytest.raises(PrismError) as raised:
                await work
            assert raised.value.code is ErrorCode.UNIMPLEMENTED


async def _bound(store: BlobStore, now: datetime, fact: Bindable) -> Signed:
    if fact not in store.capabilities.binds:
        pytest.skip("it is not bound")
    return await store.sign_put("d/k", now, 60, _FACTS[fact])


def _everything(store: BlobStore) -> Bound:
    """All facts; of the checksums one, as stores take only one with a request."""
    strongest = next((name for name in ("sha256", "crc32c", "md5") if name in store.capabilities.binds), "")
    return Bound(
        create_only=True,
        size_bytes=len(_CONTENT),
        content_type="image/png",
        metadata=_FACTS["metadata"].metadata,
        sha256=_FACTS["sha256"].sha256 if strongest == "sha256" else None,
        crc32c=_FACTS["crc32c"].crc32c if strongest == "crc32c" else None,
        md5=_FACTS["md5"].md5 if strongest == "md5" else None,
    )


def _without(headers: Mapping[str, str], name: str) -> dict[str, str]:
    return {other: value for other, value in headers.items() if other.lower() != name.lower()}


def _changed(value: str) -> str:
    """Another value that is as well formed: base64 and hex stay what they are."""
    if value == "*":
        return '"other"'
    try:
        raw = bytearray(base64.b64decode(value, validate=True))
    except ValueError:
        raw = bytearray()
    if raw and len(value) % 4 == 0 and not value.isalnum():
        raw[0] ^= 1
        return base64.b64encode(raw).decode()
    return ("0" if value[0] != "0" else "1") + value[1:]


def _with_path(url: str, key: str, other: str) -> str:
    assert f"/{key}?" in url
    return url.replace(f"/{key}?", f"/{other}?")


def _altered(url: str) -> list[str]:
    """The URL with one character of its signature changed: at the beginning and near the end."""
    split = urlsplit(url)
    signature = next(
        value for name, value in parse_qsl(split.query) if name.lower().rpartition("-")[2] in {"signature", "sig"}
    )
    urls = []
    for at in (0, len(signature) - 4):
        changed = signature[:at] + ("0" if signature[at] != "0" else "1") + signature[at + 1 :]
        urls.append(url.replace(quote(signature, safe=""), quote(changed, safe="")))
    assert all(altered != url for altered in urls)
    return urls


def _swapped(url: str, other: str) -> str:
    """The first URL with the second one's signature."""
    mine, theirs = dict(parse_qsl(urlsplit(url).query)), dict(parse_qsl(urlsplit(other).query))
    name = next(name for name in mine if name.lower().rpartition("-")[2] in {"signature", "sig"})
    return url.replace(quote(mine[name], safe=""), quote(theirs[name], safe=""))
